"""kill -9 at random moments under load: no client has a byte that the log has not, no call left that it does not
know of, and every request ends, once.

A life is a data directory whose server is killed several times in a row; two lives run side by side. The server is the
real one, as it is started by `python -m gateway`; a start takes about a second, most of it imports, and is where the
time of this test goes. Its follower, which would end in order when the gateway is gone, dies with it or, every other
time, before it. The seed of a failure is in its message: the moments are the same again, the scheduler is not.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.crash.check import differing, rebuilt, unrecorded, view, wrongs
from tests.crash.load import Load, environ, upstream, words_of
from tests.gateway.raw import Received, ask
from tests.gateway.scripted import ScriptedServer
from tests.gateway.whole import PATIENCE_S
from tests.serverprocess import COMMAND, ROOT, ServerProcess, server_process
from tests.tools.running import FUNCTIONS

CLIENTS = 6
LIVES = 6
KILLS = 8
LONGEST_S = 0.4
LATER_S = 0.5
"""From the follower's death to the gateway's: it may have another by then."""
CARELESS = (sys.executable, "-m", "tests.crash.careless_server")
HURRIED = (sys.executable, "-m", "tests.crash.hurried_server")


class Life:
    """One data directory, and what its clients got in all its runs."""

    def __init__(self, server: ServerProcess, upstream: ScriptedServer, seed: int) -> None:
        self.server, self.upstream, self.seed = server, upstream, seed
        self.data_dir = server.data_dir
        self.answers: list[Received] = []
        self._random = random.Random(seed)
        self._run = 0

    async def lived(self, kills: int) -> None:
        """Load, kill at a random moment, start, and see what is left; so often. In the end it ends in order."""
        for kill in range(kills):
            await self.killed(heard=kill == 0)
            await self.server.start()
            self.assert_well()
        await self.ended()

    async def killed(self, heard: bool = False) -> None:
        """At a random moment; `heard`: behind the one at which the first client had something."""
        self._run += 1
        load = Load(self.server.url, self._run, CLIENTS)
        if heard:
            async with asyncio.timeout(PATIENCE_S):
                await load.heard()
        await asyncio.sleep(self._random.uniform(0.02, LONGEST_S))
        if self._run % 2:
            self._kill_follower()
            await asyncio.sleep(self._random.uniform(0.0, LATER_S))
        self._kill_follower()
        await self.server.kill()
        self.answers += await load.over()

    def _kill_follower(self) -> None:
        """Whatever it does: most often it is in a batch."""
        for pid in self.server.children:
            os.kill(pid, signal.SIGKILL)

    async def ended(self) -> None:
        """All is well, no request was forgotten, and the projections are those of a rebuild."""
        answer = await ask(self.server.url, {"model": "demo/echo", "messages": [{"role": "user", "content": "Well?"}]})
        assert answer.status == 200
        assert await self.server.terminate() == 0
        self.assert_well()
        assert b"Traceback" not in self.server.said, self.server.said.decode()
        assert differing(view(self.data_dir), rebuilt(self.data_dir, self.data_dir.with_suffix(".rebuilt"))) == []
        assert self.unrecorded() == []

    def unrecorded(self) -> list[str]:
        """The calls that left and are not in the log."""
        asked = [word for request in self.upstream.requests for word in words_of(request.body)]
        assert asked, "no request came through"
        return unrecorded(self.data_dir, asked)

    def assert_well(self) -> None:
        assert {answer.status for answer in self.answers} <= {0, 200}, "a request is refused"
        assert wrongs(self.data_dir, self.answers) == [], f"seed {self.seed}, run {self._run}"


@asynccontextmanager
async def life(data_dir: Path, seed: int, *args: str, command: Sequence[str] = COMMAND) -> AsyncIterator[Life]:
    """A started server with providers."""
    async with (
        upstream() as served,
        server_process(
            data_dir, env=environ(served.base_url), args=(*FUNCTIONS, *(args or ("--nats", "off"))), command=command
        ) as server,
    ):
        yield Life(server, served, seed)


async def lived(data_dir: Path, seed: int, *args: str, kills: int = KILLS) -> Life:
    async with life(data_dir, seed, *args) as one:
        await one.lived(kills)
        return one


@pytest.mark.parametrize("seed", range(0, LIVES, 2))
async def test_no_client_knows_more_than_the_log(tmp_path: Path, seed: int) -> None:
    """Two lives side by side."""
    lives = await asyncio.gather(lived(tmp_path / "even", seed), lived(tmp_path / "odd", seed + 1))
    assert sum(len(answer.body) for one in lives for answer in one.answers)
    shown_by_the_command(lives[0])


async def test_nor_with_a_nats_server_to_take_along(tmp_path: Path) -> None:
    await lived(tmp_path / "life", 100, "--nats", "embedded", kills=2)


@pytest.mark.soak
async def test_no_client_knows_more_than_the_log_for_long(tmp_path: Path) -> None:
    """500 kills."""
    for seed in range(1000, 1050, 2):
        await asyncio.gather(*(lived(tmp_path / str(one), one, kills=10) for one in (seed, seed + 1)))


async def test_a_server_that_releases_before_it_commits_is_caught(tmp_path: Path) -> None:
    async with life(tmp_path / "careless", 1, command=CARELESS) as careless:
        await careless.killed(heard=True)
        await careless.server.start()
        found = wrongs(careless.data_dir, careless.answers)
    assert any("do not begin" in wrong for wrong in found)


async def test_a_server_that_calls_before_it_records_is_caught(tmp_path: Path) -> None:
    async with life(tmp_path / "hurried", 1, command=HURRIED) as hurried:
        load = Load(hurried.server.url, 1, CLIENTS)
        async with asyncio.timeout(PATIENCE_S):
            while not hurried.upstream.requests:
                await asyncio.sleep(0.005)
        await hurried.server.kill()
        await load.over()
        assert hurried.unrecorded()


def shown_by_the_command(life: Life) -> None:
    """The same bytes from `abstractcore-replay show --as-sent`, for the client that got most; and `verify`."""
    answer = max((a for a in life.answers if a.status), key=lambda a: len(a.body))
    replay = [sys.executable, "-m", "replay"]
    where = ["--data-dir", str(life.data_dir)]
    shown = subprocess.run([*replay, "show", answer.request_id, "--as-sent", *where], capture_output=True, cwd=ROOT)
    assert shown.stdout.startswith(answer.recorded)
    assert subprocess.run([*replay, "verify", *where], capture_output=True, cwd=ROOT).returncode == 0
