"""The whole server on a disk that takes two seconds for a sync: once too much waits for it new work is refused, whoever
asks for nothing of the disk hears at once, what was taken is answered, and service resumes by itself."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp

from tests.crash.check import wrongs
from tests.crash.load import environ
from tests.faults.flood import SLOW_S
from tests.faults.gated import GatedUpstream
from tests.faults.slow_server import ROOM, SLOW
from tests.gateway.raw import ask
from tests.gateway.whole import PATIENCE_S, chat
from tests.load.log import ends
from tests.serverprocess import ServerProcess, server_process

SAID = 64 << 10
PROMPT = [{"role": "user", "content": "x" * SAID}]
ASKERS = 2 * ROOM // SAID


class Seen:
    """How many answers had which status, and the seconds that the slowest word about health took."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.health_s = 0.0

    async def ask(self, server: ServerProcess) -> None:
        answer = await ask(server.url, chat(stream=True, messages=PROMPT))
        self.statuses[answer.status] += 1
        if answer.status == 503:
            assert int(answer.headers["retry-after"]) > 0

    async def watch(self, server: ServerProcess) -> None:
        async with aiohttp.ClientSession() as client:
            while True:
                before = time.monotonic()
                async with client.get(f"{server.url}/health") as answer:
                    await answer.read()
                self.health_s = max(self.health_s, time.monotonic() - before)
                await asyncio.sleep(0.02)


async def flooded(tmp_path: Path, kind: str) -> Seen:
    """Ask for more than may wait for the disk while it is slow, and once more when it is not."""
    slow, seen = tmp_path / "slow", Seen()
    command = (sys.executable, "-m", "tests.faults.slow_server", kind)
    async with GatedUpstream(rest=1) as upstream:
        upstream.gate.set()
        env = {**environ(upstream.base_url), SLOW: str(slow)}
        async with server_process(tmp_path / "logs", env=env, command=command) as server, asyncio.timeout(PATIENCE_S):
            assert (await ask(server.url, chat(stream=True))).whole
            slow.touch()
            watching = asyncio.create_task(seen.watch(server))
            asking = asyncio.gather(*(seen.ask(server) for _ in range(ASKERS)))
            await asyncio.sleep(2 * SLOW_S)
            slow.unlink()
            await asking
            assert (await ask(server.url, chat(stream=True))).whole
            watching.cancel()
            await server.kill()
        assert wrongs(server.data_dir, []) == []
        ended = ends(server.data_dir)
        assert (ended["open"], ended["request_completed"]) == (0, seen.statuses[200] + 2)
    print(f"{dict(seen.statuses)}; health took {seen.health_s:.2f} s at worst")
    return seen


async def test_new_work_is_refused_until_the_disk_is_quick_again(tmp_path: Path) -> None:
    seen = await flooded(tmp_path, "Slow")
    assert seen.statuses.keys() == {200, 503}
    assert seen.health_s < SLOW_S / 2


async def test_a_server_that_takes_whatever_comes_is_caught(tmp_path: Path) -> None:
    assert (await flooded(tmp_path, "Unbounded")).statuses.keys() == {200}


async def test_a_server_whose_loop_waits_for_the_disk_is_caught(tmp_path: Path) -> None:
    assert (await flooded(tmp_path, "OnTheLoop")).health_s > SLOW_S / 2
