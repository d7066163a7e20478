"""The real server while its NATS server fails: no request notices, and all of it is there in the end."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamConfig

from eventstore.reader import Reader
from gateway.nats_server import NatsFiles
from tests.gateway.raw import Received, ask
from tests.nats.check import HEALS_WITHIN_S, stored
from tests.nats.load import Clients, Gateway, failed, gateway, streamed
from tests.natsd import Natsd
from tests.serverprocess import server_process

CLONED = (sys.executable, "-m", "tests.nats.cloned_server")
TIED = (sys.executable, "-m", "tests.nats.tied_server")


async def well(served: Gateway, server: Natsd, within_s: float = HEALS_WITHIN_S) -> None:
    """NATS holds all of the log, the server says that it is well, and ends in order."""
    assert await served.copy.healed(lambda: server.url, within_s) == []
    await served.says("healthy")
    assert await served.process.terminate() == 0
    assert await served.copy.healed(lambda: server.url) == []
    assert b"damaged" not in served.process.said, served.process.said.decode()


async def test_serves_without_nats_and_takes_it_up_when_it_comes(data_dir: Path, server: Natsd) -> None:
    server.kill()
    async with gateway(data_dir, server.url) as served:
        async with served.loaded() as clients:
            await clients.answered(20)
            await served.says("NATS cannot be reached")
        server.start()
        await well(served, server)


async def killed(data_dir: Path, server: Natsd, rounds: int, seed: int) -> None:
    """kill -9 at random moments while clients stream."""
    moments = random.Random(seed)
    async with gateway(data_dir, server.url) as served:
        async with served.loaded() as clients:
            for _ in range(rounds):
                await asyncio.sleep(moments.uniform(0, 0.3))
                server.kill()
                await asyncio.sleep(moments.uniform(0, 0.2))
                await asyncio.to_thread(server.start)
            await clients.answered(5)
        print(f"\n{rounds} kills, {len(clients.answers)} streamed requests, none failed")
        await well(served, server)


async def test_no_request_fails_while_nats_is_killed(data_dir: Path, server: Natsd) -> None:
    await killed(data_dir, server, 10, seed=1)


async def test_requests_of_a_server_that_waits_for_nats_fail(data_dir: Path, server: Natsd) -> None:
    """The deliberate bug, and that the clients notice it."""
    async with gateway(data_dir, server.url, TIED) as served:
        clients = Clients(served.url, 4)
        await clients.answered(4)
        server.kill()
        await served.says("NATS cannot be reached")
        await clients.answered(4)
        assert await clients.stop()


@pytest.mark.soak
async def test_no_request_fails_while_nats_is_killed_fifty_times(data_dir: Path, server: Natsd) -> None:
    await killed(data_dir, server, 50, seed=2)


async def test_no_request_fails_while_the_bundled_server_is_killed(data_dir: Path) -> None:
    files = NatsFiles(data_dir)
    async with gateway(data_dir, "embedded") as served:
        async with served.loaded() as clients:
            for _ in range(3):
                await served.says("healthy")
                await _killed(files)
                await clients.answered(10)
        await served.says("healthy")
        assert await served.copy.healed(lambda: _bundled_url(files)) == []


async def _killed(files: NatsFiles) -> None:
    """Kill the bundled server; another one runs when this returns."""
    pid = files.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(HEALS_WITHIN_S):
        while files.pid() == pid:
            await asyncio.sleep(0.02)


def _bundled_url(files: NatsFiles) -> str:
    address = (files.url(files.pid() or 0) or "").removeprefix("nats://")
    return f"nats://{files.token_file.read_text().strip()}@{address}"


async def test_no_request_fails_while_nats_sleeps(data_dir: Path, server: Natsd) -> None:
    await slept(data_dir, server, [0.5, 0.5])


@pytest.mark.soak
async def test_no_request_fails_while_nats_sleeps_longer_than_anybody_waits(data_dir: Path, server: Natsd) -> None:
    await slept(data_dir, server, [15.0, 25.0])


async def slept(data_dir: Path, server: Natsd, naps_s: list[float]) -> None:
    async with gateway(data_dir, server.url) as served:
        async with served.loaded() as clients:
            for nap_s in naps_s:
                await clients.answered(10)
                server.freeze()
                await asyncio.sleep(nap_s)
                await clients.answered(5)
                server.thaw()
        await well(served, server)


async def test_no_request_fails_while_a_stream_is_full(data_dir: Path, server: Natsd) -> None:
    client = await nats.connect(server.url)
    limited = StreamConfig(name="LEDGER", subjects=["abstractcore.events.node_started.*"], max_msgs=30, discard="new")  # type: ignore[arg-type]  # sent as it is
    await client.jetstream().add_stream(limited)
    async with gateway(data_dir, server.url) as served:
        async with served.loaded() as clients:
            await clients.answered(20)
            await served.says("has no room")
            config = (await client.jetstream().stream_info("LEDGER")).config
            await client.jetstream().update_stream(config.evolve(max_msgs=-1))
            await clients.answered(5)
        await client.close()
        await well(served, server)


async def test_what_is_too_large_for_a_message_goes_out_as_its_stub(data_dir: Path, server: Natsd) -> None:
    """Its answer comes back in one frame, and in the event that ends its generation: both over the limit."""
    text = "word " * 300_000
    async with gateway(data_dir, server.url) as served:
        body = {"model": "demo/echo", "messages": [{"role": "user", "content": text}]}
        assert (await ask(served.url, body)).status == 200
        await well(served, server)
        everything = await stored(server.url, "LEDGER", 30) + await stored(server.url, "TOKENS", 30)
        stubs = {said.subject.split(".")[2] for said in everything if said.whole}
        assert stubs >= {"generation_completed", "token_generated"}


async def test_a_clone_of_the_server_fences_itself_and_serves(data_dir: Path, server: Natsd, tmp_path: Path) -> None:
    async with server_process(data_dir) as first:
        assert await first.terminate() == 0
    shutil.copytree(data_dir, tmp_path / "clone")
    async with gateway(data_dir, server.url, CLONED) as served:
        async with served.loaded() as clients:
            await clients.answered(10)
            async with gateway(tmp_path / "clone", server.url, CLONED) as clone:
                await clone.says("under this log's identity")
                assert failed(await streamed(clone.url)) is None
                assert _origins(tmp_path / "clone") == _origins(data_dir), "it is no clone"
            await clients.answered(10)
        await well(served, server)


def _origins(data_dir: Path) -> set[str]:
    with Reader(data_dir) as reader:
        return {row.origin for row in reader.rows(frames=False)}  # type: ignore[union-attr]  # the ledger alone


def test_an_answer_that_is_cut_or_refused_counts_as_failed() -> None:
    """The check that the clients' answers go through."""
    named = {"x-request-id": "r"}
    assert failed(Received(200, named, b"data: {}\n\ndata: [DONE]\n\n", True)) is None
    assert failed(Received(503, named, b"{}", True))
    assert failed(Received())
    assert failed(Received(200, named, b"data: {}\n\n", True))
    assert failed(Received(200, named, b"data: {}\n\ndata: [DONE]\n\n", False))
