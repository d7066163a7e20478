"""Thousands of open streams: what each costs, and how the server ends under them."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

import pytest

from tests.crash.check import wrongs
from tests.crash.load import environ
from tests.eventstore.relay_rig import ledger_faults, messages
from tests.gateway.raw import RawClient
from tests.gateway.whole import PATIENCE_S
from tests.load.crowd import QUICK, all_begun, begun, in_turns, resident_kib
from tests.load.flood import flood
from tests.load.log import ends, ledger
from tests.natsd import Natsd
from tests.serverprocess import server_process

STREAM_KIB = 43
"""What an open stream may take, upstream's socket included: 10,000 of them are to fit into 500 MB with the server."""
SLOW = "slow-10000-5000"
FEW_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.execv(sys.executable, [sys.executable, "-m", "gateway", *sys.argv[1:]])
"""


@pytest.mark.parametrize("streams", [2_000, pytest.param(9_500, marks=pytest.mark.soak)])
async def test_an_open_stream_costs_little(tmp_path: Path, streams: int) -> None:
    """A word in five seconds each. At most as many as this system lets a process open files for, two for each."""
    streams = min(streams, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 250)
    async with (
        flood() as upstream,
        server_process(tmp_path / "logs", env=environ(upstream.base_url), args=QUICK) as server,
    ):
        (await begun(server.url, "words-5")).leave()  # what the first request loads is not the streams'
        before = resident_kib(server)
        clients = await all_begun(server.url, [SLOW] * streams)
        each = (resident_kib(server) - before) / streams
        for client in clients:
            client.leave()
    print(f"{streams} open streams: {each:.1f} KiB each, {before >> 10} MiB before")
    assert each < STREAM_KIB


async def test_the_server_opens_as_many_files_as_it_may(tmp_path: Path) -> None:
    """More clients than the limit of open files that it was started with."""
    async with server_process(tmp_path / "logs", command=(sys.executable, "-c", FEW_FILES)) as server:
        clients = await in_turns((lambda: RawClient.connect(server.url)) for _ in range(300))
        async with asyncio.timeout(PATIENCE_S):
            for client in clients:
                await client.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answers = await asyncio.gather(*(client.answer() for client in clients))
        assert {answer.status for answer in answers} == {200}
        for client in clients:
            client.leave()


async def test_an_orderly_end_leaves_no_request_open(tmp_path: Path) -> None:
    """A thousand open streams: half of them end while the server waits for them, half never would."""
    async with (
        flood() as upstream,
        server_process(
            tmp_path / "logs", env=environ(upstream.base_url), args=(*QUICK, "--drain-timeout", "6")
        ) as server,
    ):
        clients = await all_begun(server.url, ["held-9", SLOW] * 500)
        ending = asyncio.create_task(server.terminate())
        upstream.release()
        answers = await asyncio.gather(*(client.answer() for client in clients))
        assert await ending == 0
    assert all(answer.body.endswith(b"data: [DONE]\n\n") for answer in answers[::2])
    assert not any(answer.whole for answer in answers[1::2])
    assert ends(server.data_dir) == {"request_completed": 500, "request_interrupted": 500}
    last = ledger(server.data_dir)[-1]
    assert (last["type"], last["open_requests"]) == ("node_stopped", 500)
    assert wrongs(server.data_dir, answers[:20]) == []


async def test_and_relays_what_they_came_to(tmp_path: Path) -> None:
    nats = Natsd(tmp_path / "nats")
    nats.start()
    try:
        async with (
            flood() as upstream,
            server_process(
                tmp_path / "logs", env=environ(upstream.base_url), args=("--nats", nats.url, "--drain-timeout", "0")
            ) as server,
        ):
            clients = await all_begun(server.url, ["slow-10000-20"] * 100)
            assert await server.terminate() == 0
            for client in clients:
                client.leave()
        assert ends(server.data_dir) == {"request_interrupted": 100}
        assert await ledger_faults(nats, server.data_dir) == []
        assert len(await messages(nats, "TOKENS")) == recorded_frames(server.data_dir)
    finally:
        nats.kill()


def recorded_frames(data_dir: Path) -> int:
    return sum(event["frames"] for event in ledger(data_dir) if event["type"] == "generation_failed")
