"""Clients that ask for much and read nothing: the answers are recorded whole, and hardly anything is kept for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.crash.check import wrongs
from tests.crash.load import environ
from tests.gateway.raw import received
from tests.load.crowd import QUICK, begun, connections, impatient, in_turns, narrow, resident_kib
from tests.load.flood import flood
from tests.load.log import ends
from tests.serverprocess import COMMAND, server_process

LONG = "words-12000"
"""2.8 MB, for a client."""
LONGER = "words-24000"
"""5.6 MB: more than the kernel takes for anybody."""
HOARDING = impatient(behind=1 << 40)
"""The deliberate bug: whatever a client does not take waits for it in memory."""
STALLED_KIB = 1536
"""What a reader may take: the 256 KiB that it may be behind, and while its answer comes, what a read of the upstream is
and becomes."""
PATIENT = impatient(stalled_s="30")
"""Until they are dropped, all of the answers can be recorded."""
PATIENCE_S = 200.0


async def stalled(data_dir: Path, readers: int, command: Sequence[str], model: str = LONG) -> tuple[float, list[bytes]]:
    """The KiB of the server's memory that each of these readers took at the worst, and what they had been sent until
    the server dropped them."""
    async with (
        flood() as upstream,
        server_process(data_dir, env=environ(upstream.base_url), args=QUICK, command=command) as server,
    ):
        (await begun(server.url, "held-9")).leave()  # what the first request loads is not the readers'
        before = resident_kib(server)
        clients = await in_turns((lambda: narrow(server.url, model)) for _ in range(readers))
        async with asyncio.timeout(PATIENCE_S):
            while connections(server) or ends(data_dir).total() <= readers or ends(data_dir)["open"]:
                await asyncio.sleep(0.2)
            each = (resident_kib(server, "VmHWM") - before) / readers
            for client in clients:
                while await client.more():
                    pass
    print(f"{readers} stalled readers: {each:.0f} KiB each")
    return each, [bytes(client.raw) for client in clients]


async def test_nobody_waits_for_readers_that_stall(tmp_path: Path) -> None:
    assert_well(tmp_path / "logs", *await stalled(tmp_path / "logs", 150, PATIENT))
    assert ends(tmp_path / "logs") == {"request_completed": 150, "request_cancelled": 1}


@pytest.mark.soak
async def test_nor_does_the_server_as_it_is(tmp_path: Path) -> None:
    """Many have left before their answer is whole, and some are told to come later: so many bytes wait for the disk."""
    assert_well(tmp_path / "logs", *await stalled(tmp_path / "logs", 1_000, COMMAND, LONGER))


async def test_a_server_that_keeps_what_they_do_not_take_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="KiB"):
        assert_well(tmp_path / "logs", *await stalled(tmp_path / "logs", 50, HOARDING))


def assert_well(data_dir: Path, each: float, sent: Sequence[bytes]) -> None:
    """Every request has its end, no reader was sent a whole answer, and what it was sent is in the log."""
    ended = ends(data_dir)
    assert ended.keys() <= {"request_completed", "request_cancelled", "request_rejected"}
    assert ended.total() == len(sent) + 1
    answers = [answer for raw in sent if (answer := received(raw)).status == 200]
    assert len(answers) == len(sent) - ended["request_rejected"]
    assert not any(answer.whole for answer in answers)
    assert wrongs(data_dir, answers[:10]) == []
    assert each < STALLED_KIB, f"{each:.0f} KiB for each"
