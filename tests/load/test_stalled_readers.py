"""Clients that ask for much and read nothing: the answers are recorded whole, and hardly anything is kept for them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.crash.check import wrongs
from tests.crash.load import environ
from tests.gateway.raw import RawClient, received
from tests.load.crowd import QUICK, begun, connections, impatient, in_turns, narrow, resident_kib
from tests.load.flood import flood
from tests.load.log import ends
from tests.serverprocess import server_process

LONG = "words-24000"
"""5.6 MB, for a client: more than the kernel takes for anybody, and ten times what a reader may take."""
HOARDING = impatient(behind=1 << 40, stalled_s="100")
"""The deliberate bug: whatever a client does not take waits for it in memory."""
REMEMBERING = (sys.executable, "-m", "tests.load.remembering_server")
"""Another: what an answer said stays until its reader has it."""
STALLED_KIB = 600
"""What a reader may take once its answer is recorded: the 256 KiB that it may be behind, the end that is still to be
said to it, its connection, and what the allocator cannot give to others."""
COMING_KIB = 1536
"""What one may take at the worst, while its answer comes as fast as it is read: its text, what a read of the upstream
is and becomes, and the event that holds all of it."""
PATIENT = impatient(stalled_s="100")
"""None is dropped."""
PATIENCE_S = 200.0
AT_ONCE = 20


async def stalling(data_dir: Path, turns: int, command: Sequence[str]) -> tuple[float, list[bytes]]:
    """The KiB that the server's memory grew by for each of these readers but the first 20, who come 20 at a time, when
    the answers of those before are recorded; and what they had been sent."""
    async with (
        flood() as upstream,
        server_process(data_dir, env=environ(upstream.base_url), args=QUICK, command=command) as server,
    ):
        (await begun(server.url, "held-9")).leave()  # what the first request loads is not the readers'
        clients: list[RawClient] = []
        taken: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(turns):
                clients += [await narrow(server.url, LONG) for _ in range(AT_ONCE)]
                while ends(data_dir)["request_completed"] < len(clients):
                    await asyncio.sleep(0.1)
                taken.append(resident_kib(server))
        await server.kill()
        for client in clients:
            while await client.more():
                pass
    each = (taken[-1] - taken[0]) / (AT_ONCE * (turns - 1))
    print(f"{len(clients)} stalled readers: {each:.0f} KiB each")
    return each, [bytes(client.raw) for client in clients]


async def stalled_at_once(data_dir: Path, readers: int) -> tuple[float, list[bytes]]:
    """The KiB of the server's memory that each of these readers took at the worst, who come all at once, and what they
    had been sent until the server dropped them."""
    async with (
        flood() as upstream,
        server_process(data_dir, env=environ(upstream.base_url), args=QUICK) as server,
    ):
        (await begun(server.url, "held-9")).leave()  # what the first request loads is not the readers'
        before = resident_kib(server)
        clients = await in_turns((lambda: narrow(server.url, LONG)) for _ in range(readers))
        async with asyncio.timeout(PATIENCE_S):
            while connections(server) or ends(data_dir).total() <= readers or ends(data_dir)["open"]:
                await asyncio.sleep(0.2)
            each = (resident_kib(server, "VmHWM") - before) / readers
            for client in clients:
                while await client.more():
                    pass
    print(f"{readers} stalled readers at once: {each:.0f} KiB each")
    return each, [bytes(client.raw) for client in clients]


async def test_nobody_waits_for_readers_that_stall(tmp_path: Path) -> None:
    each, sent = await stalling(tmp_path / "logs", 3, PATIENT)
    assert_well(tmp_path / "logs", sent)
    assert ends(tmp_path / "logs") == {"request_completed": 3 * AT_ONCE, "request_cancelled": 1}
    assert each < STALLED_KIB


@pytest.mark.soak
async def test_nor_does_the_server_as_it_is(tmp_path: Path) -> None:
    """Many have left before their answer is whole, and some are told to come later: so many bytes wait for the disk."""
    each, sent = await stalled_at_once(tmp_path / "logs", 1_000)
    assert_well(tmp_path / "logs", sent)
    assert each < COMING_KIB


@pytest.mark.parametrize("command", [HOARDING, REMEMBERING], ids=["hoarding", "remembering"])
async def test_a_server_that_keeps_more_for_them_is_caught(tmp_path: Path, command: Sequence[str]) -> None:
    each, _ = await stalling(tmp_path / "logs", 2, command)
    assert each > STALLED_KIB


def assert_well(data_dir: Path, sent: Sequence[bytes]) -> None:
    """Every request has its end, no reader was sent a whole answer, and what it was sent is in the log."""
    ended = ends(data_dir)
    assert ended.keys() <= {"request_completed", "request_cancelled", "request_rejected"}
    assert ended.total() == len(sent) + 1
    answers = [answer for raw in sent if (answer := received(raw)).status == 200]
    assert len(answers) == len(sent) - ended["request_rejected"]
    assert not any(answer.whole for answer in answers)
    assert wrongs(data_dir, answers[:10]) == []
