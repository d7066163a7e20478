"""A call of the log's to the disk fails, anywhere: what was acknowledged is there, and it ends or goes on as promised.

The disk is the real one; strace answers the N-th write or sync itself, once. A write that has no room (ENOSPC) is
written again on the ballast. After any other failed write, and after a failed sync whatever its reason, nothing is
trusted: the kernel may have dropped what was not synced, and a second sync would say that all is well. The N of a run
are drawn with a fixed seed; `--soak` takes each of the first 200, and others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest

from eventstore.envelope import NEW_STREAM, RecordedEvent
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from eventstore.verify import verify
from tests.eventstore.builders import run_of, write
from tests.faults.driver import DISK_REFUSED, Driven, streams_of
from tests.faults.strace import STRACE, Ended, Fault, run

pytestmark = [pytest.mark.system, pytest.mark.skipif(STRACE is None, reason="there is no strace")]

APPENDS = 100
AT_ONCE = 3
PROGRAM = "tests.faults.driver"
SYNC = "fdatasync,fsync"
WRITES, SYNCS = 2_500, 120
"""About as many calls as the log makes for so many appends, so that every kind of moment is hit."""
KINDS = {
    "full": ("pwrite64", "error=ENOSPC", WRITES),
    "broken": ("pwrite64", "error=EIO", WRITES),
    "unsynced": (SYNC, "error=EIO", SYNCS),
    "unsynced and full": (SYNC, "error=ENOSPC", SYNCS),
}
FIRST = 200


def drawn(name: str, count: int) -> list[Fault]:
    """So many faults of a kind, each at another call."""
    call, what, most = KINDS[name]
    return [Fault(call, what, str(n)) for n in Random(count).sample(range(1, most + 1), count)]


async def driven(fault: Fault, data_dir: Path, kind: str = Driven.__name__) -> Ended:
    data_dir.mkdir()
    return await run(fault, data_dir, PROGRAM, kind, str(APPENDS))


def broken_promises(fault: Fault, ended: Ended) -> list[str]:
    """Of how a process ends."""
    opened, acknowledged = bool(ended.named("open")), len(ended.named("ack"))
    over = acknowledged + len(ended.named("refused")) == APPENDS
    wrongs = []
    if ended.exit_code not in (0, DISK_REFUSED):
        wrongs.append(f"it ended with {ended.exit_code}")
    if ended.exit_code == 0 and ended.named("fatal"):
        wrongs.append("it went on after the disk had refused")
    if ended.exit_code == 0 and not over:
        wrongs.append(f"of {APPENDS} appends {acknowledged} were acknowledged, and it was content")
    if fault.call == SYNC and ended.injected and not over and ended.exit_code != DISK_REFUSED:
        wrongs.append("it went on after a failed sync")
    if fault.call != SYNC and "ENOSPC" in fault.what and opened and ended.exit_code != 0:
        wrongs.append("once full, the disk ended it")
    return wrongs


async def broken_by_the_file(data_dir: Path, acknowledged: Iterable[str]) -> list[str]:
    """Of what the next start finds."""
    log = await SQLiteLog.open(data_dir)
    try:
        after = (await log.append(write("request-after", NEW_STREAM))).last
        rows = await log.read(0, 1 << 30)
    finally:
        await log.close()
    events = [row for row in rows if isinstance(row, RecordedEvent)]
    versions = {event.stream: event.version for event in events}
    wrongs = [f"{name} was acknowledged and is lost" for name in acknowledged if name not in versions]
    wrongs += [f"{finding}" for finding in verify(rows, run_of)]
    for request, session in map(streams_of, range(APPENDS)):
        if (versions.get(request, 0), versions.get(session, 0)) not in ((0, 0), (2, 1)):
            wrongs.append(f"the append of {request} is there in part")
    if [row.position for row in rows] != list(range(1, after + 1)):
        wrongs.append("there is a gap")
    return wrongs


async def wrongs_of(fault: Fault, data_dir: Path, room: asyncio.Semaphore) -> tuple[list[str], int]:
    """Every broken promise, and how often the fault came to pass."""
    async with room:
        ended = await driven(fault, data_dir)
        wrongs = broken_promises(fault, ended) + await broken_by_the_file(data_dir, ended.named("ack"))
    return [f"{fault}: {wrong}" for wrong in wrongs], ended.injected


async def hold(folder: Path, faults: list[Fault]) -> None:
    room = asyncio.Semaphore(AT_ONCE)
    found = await asyncio.gather(*(wrongs_of(fault, folder / str(n), room) for n, fault in enumerate(faults)))
    assert [wrong for wrongs, _ in found for wrong in wrongs] == []
    hit = sum(injected > 0 for _, injected in found)
    print(f"{hit} of {len(faults)} runs were hit")
    assert hit > len(faults) // 2


@pytest.mark.parametrize("name", KINDS)
async def test_what_was_acknowledged_survives_a_fault_anywhere(tmp_path: Path, name: str) -> None:
    await hold(tmp_path, drawn(name, 20))


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
async def test_what_was_acknowledged_survives_a_fault_anywhere_for_long(tmp_path: Path, name: str) -> None:
    call, what, most = KINDS[name]
    rest = Random(FIRST).sample(range(FIRST + 1, most + 1), FIRST) if most > FIRST else []
    await hold(tmp_path, [Fault(call, what, str(n)) for n in (*range(1, FIRST + 1), *rest)])


async def test_a_disk_that_stays_full_ends_it(tmp_path: Path) -> None:
    """Ballast that frees nothing is no reason to try for ever."""
    ended = await driven(Fault("pwrite64", "error=ENOSPC", "500+"), tmp_path / "log")
    assert ended.exit_code == DISK_REFUSED
    assert ended.named("fatal") == ["database or disk is full"]
    assert await broken_by_the_file(tmp_path / "log", ended.named("ack")) == []


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
async def test_carrying_on_after_a_failed_sync_is_noticed(tmp_path: Path, error: str) -> None:
    fault = Fault(SYNC, f"error={error}", "50")
    assert broken_promises(fault, await driven(fault, tmp_path / "log")) == []
    ended = await driven(fault, tmp_path / "twin", "CarriesOn")
    assert broken_promises(fault, ended)


async def test_having_no_ballast_is_noticed(tmp_path: Path) -> None:
    fault = Fault("pwrite64", "error=ENOSPC", "500")
    assert broken_promises(fault, await driven(fault, tmp_path / "log")) == []
    ended = await driven(fault, tmp_path / "twin", "Unprepared")
    assert broken_promises(fault, ended) == ["once full, the disk ended it"]


async def test_losing_what_was_acknowledged_is_noticed(tmp_path: Path) -> None:
    await driven(Fault("pwrite64", "error=EIO", "500"), tmp_path / "log")
    with Reader(tmp_path / "log") as reader:
        assert "request-99" not in set(reader.streams("request-"))
    assert await broken_by_the_file(tmp_path / "log", ["request-99"])
