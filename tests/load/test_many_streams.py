"""Thousands of open streams: what each costs, and how the server ends under them."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Sequence
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
from tests.serverprocess import COMMAND, server_process

STREAM_KIB = 43
"""What an open stream may take, upstream's socket included: 10,000 of them are to fit into 500 MB with the server."""
SLOW = "slow-10000-5000"


def careless(bug: str) -> tuple[str, ...]:
    """The command of a server with a bug; see `tests/load/careless_server.py`."""
    return (sys.executable, "-m", "tests.load.careless_server", bug)


FEW_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
os.execv(sys.executable, [sys.executable, "-m", "gateway", *sys.argv[1:]])
"""


@pytest.mark.parametrize("streams", [2_000, pytest.param(9_500, marks=pytest.mark.soak)])
async def test_an_open_stream_costs_little(tmp_path: Path, streams: int) -> None:
    """A word in five seconds each. At most as many as this system lets a process open files for, two for each."""
    streams = min(streams, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 250)
    assert await each_kib(tmp_path / "logs", streams, COMMAND) < STREAM_KIB


async def test_a_buffer_for_each_connection_is_noticed(tmp_path: Path) -> None:
    assert await each_kib(tmp_path / "logs", 300, careless("roomy")) > STREAM_KIB


async def each_kib(data_dir: Path, streams: int, command: Sequence[str]) -> float:
    """What an open stream takes of the server's memory."""
    async with (
        flood() as upstream,
        server_process(data_dir, env=environ(upstream.base_url), args=QUICK, command=command) as server,
    ):
        (await begun(server.url, "words-5")).leave()  # what the first request loads is not the streams'
        before = resident_kib(server)
        clients = await all_begun(server.url, [SLOW] * streams)
        each = (resident_kib(server) - before) / streams
        for client in clients:
            client.leave()
    print(f"{streams} open streams: {each:.1f} KiB each, {before >> 10} MiB before")
    return each


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
    await ended_in_order(tmp_path / "logs", 1_000, COMMAND)


async def test_an_end_that_waits_for_nobody_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        await ended_in_order(tmp_path / "logs", 20, careless("undrained"))
    assert ends(tmp_path / "logs")["open"] == 20


async def ended_in_order(data_dir: Path, streams: int, command: Sequence[str]) -> None:
    half, args = streams // 2, (*QUICK, "--drain-timeout", "6")
    async with (
        flood() as upstream,
        server_process(data_dir, env=environ(upstream.base_url), args=args, command=command) as server,
    ):
        clients = await all_begun(server.url, ["held-9", SLOW] * half)
        ending = asyncio.create_task(server.terminate())
        upstream.release()
        answers = await asyncio.gather(*(client.answer() for client in clients))
        assert await ending == 0
    assert all(answer.body.endswith(b"data: [DONE]\n\n") for answer in answers[::2])
    assert not any(answer.whole for answer in answers[1::2])
    assert ends(server.data_dir) == {"request_completed": half, "request_interrupted": half}
    last = ledger(server.data_dir)[-1]
    assert (last["type"], last["open_requests"]) == ("node_stopped", half)
    assert wrongs(server.data_dir, answers[:20]) == []


async def test_and_relays_what_they_came_to(tmp_path: Path) -> None:
    faults, missing = await unrelayed(tmp_path, COMMAND)
    assert faults == []
    assert missing == 0
    assert ends(tmp_path / "logs") == {"request_interrupted": 100}


async def test_a_follower_that_ends_too_early_is_noticed(tmp_path: Path) -> None:
    faults, _ = await unrelayed(tmp_path, careless("abrupt"))
    assert faults


async def unrelayed(tmp_path: Path, command: Sequence[str]) -> tuple[list[str], int]:
    """What NATS lacks of the ledger when a server has ended under 100 streams, and of how many tokens."""
    nats = Natsd(tmp_path / "nats")
    nats.start()
    try:
        async with (
            flood() as upstream,
            server_process(
                tmp_path / "logs",
                env=environ(upstream.base_url),
                args=("--nats", nats.url, "--drain-timeout", "0"),
                command=command,
            ) as server,
        ):
            clients = await all_begun(server.url, ["slow-10000-20"] * 100)
            assert await server.terminate() == 0
            for client in clients:
                client.leave()
        missing = recorded_frames(server.data_dir) - len(await messages(nats, "TOKENS"))
        return await ledger_faults(nats, server.data_dir), missing
    finally:
        nats.kill()


def recorded_frames(data_dir: Path) -> int:
    return sum(event["frames"] for event in ledger(data_dir) if event["type"] == "generation_failed")
