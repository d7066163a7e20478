"""kill -9 in the middle of turns: a session and the requests that were its turns never disagree, and what a model is
told is always what the log says was said before.

The seed of a failure is in its message: the moments are the same again, the scheduler is not.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from eventstore.reader import Reader
from tests.crash.check import wrongs as other_wrongs
from tests.crash.load import environ
from tests.gateway.scripted import Request, Script, ScriptedServer
from tests.gateway.whole import PATIENCE_S
from tests.serverprocess import COMMAND, ServerProcess, server_process
from tests.sessions.chain import wrongs
from tests.sessions.talk import CHAT, Talk, answering, user

CARELESS = (sys.executable, "-m", "tests.sessions.careless_server")
CLIENTS = 3
LONGEST_S = 0.5
TURNS, KILLS = 60, 3
MANY_TURNS, MANY_KILLS = 2000, 20


def paced(request: Request) -> Script:
    """An answer that takes its time, so that kills meet turns."""
    answer = answering(request)
    return Script(answer.body, content_type=answer.content_type, delay_s=0.005, split=200, pace_s=0.002)


ENDLESS = Script(delay_s=3600.0)


class Life:
    """One data directory whose server is killed again and again, and clients that go on with the same sessions."""

    def __init__(self, server: ServerProcess, upstream: ScriptedServer, seed: int) -> None:
        self._server, self._upstream, self.seed = server, upstream, seed
        self._random, self._words = random.Random(seed), itertools.count()
        self._paths: list[str] = []
        self.completed = 0

    async def opened(self) -> None:
        """Two sessions, and a fork of one of them after its first turn."""
        async with aiohttp.ClientSession() as client:
            talk = Talk(self._server.url, client)
            first, second = await talk.open(), await talk.open()
            await first.say(self._word())
            child = await first.fork()
            self.completed += 1
            self._paths = [first.path, second.path, child.path]

    async def killed(self, amid_turns: bool = False) -> None:
        """Load, and death at a random moment; then a start, and a look at what is left. `amid_turns`: some have begun,
        and none ends."""
        before = len(self._upstream.requests)
        self._upstream.script(CHAT, ENDLESS if amid_turns else paced)
        clients = [asyncio.create_task(self._client(self._paths[n % 3])) for n in range(CLIENTS * 2)]
        async with asyncio.timeout(PATIENCE_S):
            while amid_turns and len(self._upstream.requests) == before:
                await asyncio.sleep(0.005)
        await asyncio.sleep(self._random.uniform(0.05, LONGEST_S))
        await self._server.kill()
        await asyncio.gather(*clients)
        self._upstream.script(CHAT, paced)
        await self._server.start()
        self.assert_well()

    async def went_on(self, turns: int) -> None:
        """Until so many turns are completed."""
        await asyncio.gather(*(self._client(self._paths[n % 3], turns) for n in range(CLIENTS * 2)))

    async def ended(self) -> None:
        """In order, and all is well."""
        assert await self._server.terminate() == 0
        self.assert_well()
        assert "session_turn_abandoned" in recorded(self._server.data_dir), "no kill met a turn"

    def assert_well(self) -> None:
        asked = [request for request in self._upstream.requests if request.path.endswith("/chat/completions")]
        assert wrongs(self._server.data_dir, asked) == [], f"seed {self.seed}"
        assert other_wrongs(self._server.data_dir, []) == [], f"seed {self.seed}"

    async def _client(self, path: str, until: int | None = None) -> None:
        """One turn after the other, waiting for those of the others, until the server dies or there were enough."""
        async with aiohttp.ClientSession() as client:
            talk = Talk(self._server.url, client)
            while until is None or self.completed < until:
                body = {"messages": [user(self._word())], "stream": self._random.random() < 0.5}
                try:
                    answer = await talk.post(f"{path}/chat?wait=30", body)
                except aiohttp.ClientError:
                    return
                assert answer.status == 200, answer.body
                self.completed += 1

    def _word(self) -> str:
        return f"ask-{self.seed}-{next(self._words)}"


@asynccontextmanager
async def life(data_dir: Path, seed: int, command: Sequence[str] = COMMAND) -> AsyncIterator[Life]:
    async with (
        ScriptedServer() as upstream,
        server_process(data_dir, env=environ(upstream.base_url), command=command) as server,
    ):
        upstream.script(CHAT, paced)
        yield Life(server, upstream, seed)


async def lived(data_dir: Path, seed: int, turns: int, kills: int) -> None:
    async with life(data_dir, seed) as one:
        await one.opened()
        for kill in range(1, kills + 1):
            await one.went_on(turns * kill // (kills + 1))
            await one.killed(amid_turns=kill == 1)
        await one.went_on(turns)
        await one.ended()


async def test_sessions_survive_kills(tmp_path: Path) -> None:
    await lived(tmp_path / "logs", 1, TURNS, KILLS)


@pytest.mark.soak
async def test_two_thousand_turns_over_kills(tmp_path: Path) -> None:
    await lived(tmp_path / "logs", 2, MANY_TURNS, MANY_KILLS)


async def test_a_turn_that_is_recorded_apart_from_its_request_is_noticed(tmp_path: Path) -> None:
    data_dir = tmp_path / "logs"
    async with (
        server_process(data_dir, command=CARELESS) as server,
        aiohttp.ClientSession() as client,
    ):
        talk = Talk(server.url, client)
        opened = await talk.post("/v1/sessions", {"model": "demo/echo"})
        asking = asyncio.create_task(talk.post(f"/v1/sessions/{opened.body['id']}/chat", {"messages": [user("x")]}))
        async with asyncio.timeout(PATIENCE_S):
            while "request_received" not in recorded(data_dir):
                await asyncio.sleep(0.01)
        await server.kill()
        with pytest.raises(aiohttp.ClientError):
            await asking
        assert any("its turn says []" in wrong for wrong in wrongs(data_dir))


def recorded(data_dir: Path) -> list[str]:
    """The types of the events of a log."""
    with Reader(data_dir) as reader:
        return [row.type for row in reader.rows(frames=False) if hasattr(row, "type")]
