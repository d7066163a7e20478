"""The server can open no more files: what runs goes on and is recorded, who comes is not taken, and it all passes."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.crash.check import wrongs
from tests.crash.load import environ
from tests.gateway.raw import RawClient, Received, ask, request
from tests.gateway.whole import PATIENCE_S, chat
from tests.load.crowd import QUICK, all_begun
from tests.load.flood import Flood, flood
from tests.load.log import ends
from tests.serverprocess import COMMAND, ServerProcess, server_process

ECHO = chat("demo/echo")
HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
SPARE = 16
STREAMS = 5
LATE = 20
"""Clients who come when there are no files any more."""
WATCHED_S = 0.5
IDLE = 0.2
"""The part of a core that a server takes at most for clients whom it cannot take in."""


def unlistening(bug: str) -> tuple[str, ...]:
    """The command of a server with a bug; see `tests/faults/unlistening_server.py`."""
    return (sys.executable, "-m", "tests.faults.unlistening_server", bug)


def files(server: ServerProcess) -> int:
    """How many it has open."""
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def seconds(server: ServerProcess) -> float:
    """Of a processor, that it has taken. The format: proc_pid_stat(5)."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def over(client: RawClient, sent: bytes) -> Received:
    """The answer to the next request of a connection."""
    client.raw.clear()
    await client.send(sent)
    return await client.answer()


class Exhausted:
    """A server that can open no file any more, with streams that run and clients inside and outside of it."""

    def __init__(self, server: ServerProcess, upstream: Flood, streams: Sequence[RawClient], inside: RawClient) -> None:
        self.server, self._upstream, self._streams, self.inside = server, upstream, streams, inside
        self._others: list[RawClient] = []
        self._limit = 0
        self.answers: list[Received] = []

    async def begin(self) -> None:
        """Leave it few files, and let others come."""
        self._limit = files(self.server) + SPARE
        resource.prlimit(self.server.pid, resource.RLIMIT_NOFILE, (self._limit, self._limit))
        await self.fill()

    async def fill(self) -> None:
        """Others come, until it has no files left."""
        with suppress(ConnectionError):  # a server with a bug
            self._others += [await RawClient.connect(self.server.url) for _ in range(SPARE + LATE)]
        while files(self.server) < self._limit - 1:
            await asyncio.sleep(0.01)

    async def lose_the_follower(self) -> None:
        """Its end gives files back, which others take: there are none for the next one."""
        for pid in self.server.children:
            os.kill(pid, signal.SIGKILL)
        while "follower" not in (await over(self.inside, HEALTH)).body.decode():
            await asyncio.sleep(0.01)
        await self.fill()
        while b"the follower cannot be started" not in self.server.said:
            await asyncio.sleep(0.01)

    async def busy(self) -> float:
        """The part of a core that it takes meanwhile."""
        before, began = seconds(self.server), time.monotonic()
        await asyncio.sleep(WATCHED_S)
        return (seconds(self.server) - before) / (time.monotonic() - began)

    async def goes_on(self) -> None:
        """Who is inside is answered: where no connection is needed as ever, else with a failure that has a type."""
        self.answers.append(await over(self.inside, request(ECHO)))
        assert self.answers[-1].status == 200
        refused = await over(self.inside, request(chat("openai-compatible/words-5")))
        assert (refused.status, refused.json()["error"]["code"]) == (502, "connect_failed")
        assert (await over(self.inside, HEALTH)).json()["status"] == "degraded"
        self._upstream.release()
        self.answers += [await stream.answer() for stream in self._streams]
        assert all(answer.whole for answer in self.answers)

    async def end(self) -> None:
        """The others leave."""
        for client in self._others:
            client.leave()
        while files(self.server) > self._limit - SPARE:
            await asyncio.sleep(0.01)

    async def is_healthy(self) -> None:
        while (await over(self.inside, HEALTH)).json() != {"status": "healthy"}:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def exhausted(data_dir: Path, command: Sequence[str] = COMMAND) -> AsyncIterator[Exhausted]:
    """Such a server; in the end it has all files again."""
    async with (
        flood() as upstream,
        server_process(data_dir, env=environ(upstream.base_url), args=QUICK, command=command) as server,
        asyncio.timeout(PATIENCE_S),
    ):
        streams = await all_begun(server.url, ["held-60"] * STREAMS)
        there = Exhausted(server, upstream, streams, await RawClient.connect(server.url))
        await there.is_healthy()
        await there.begin()
        yield there


async def test_what_runs_goes_on_and_all_of_it_passes(tmp_path: Path) -> None:
    async with exhausted(tmp_path / "logs") as there:
        assert await there.busy() < IDLE
        await there.goes_on()
        await there.lose_the_follower()
        await there.end()
        there.answers.append(await ask(there.server.url, ECHO))
        there.answers.append(await ask(there.server.url, chat("openai-compatible/words-5", stream=True)))
        await there.is_healthy()
        assert await there.server.terminate() == 0
    assert [answer.status for answer in there.answers] == [200] * (STREAMS + 3)
    assert wrongs(tmp_path / "logs", there.answers[1:]) == []
    assert ends(tmp_path / "logs") == {"request_completed": STREAMS + 3, "request_failed": 1}


async def test_a_server_that_tries_again_at_once_is_caught(tmp_path: Path) -> None:
    async with exhausted(tmp_path / "logs", unlistening("spinning")) as there:
        while await there.busy() < IDLE:  # others may have the cores
            pass


async def test_and_one_that_then_listens_no_more(tmp_path: Path) -> None:
    async with exhausted(tmp_path / "logs", unlistening("deaf")) as there:
        await there.end()
        with pytest.raises(ConnectionRefusedError):
            await ask(there.server.url, ECHO)
