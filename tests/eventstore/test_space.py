"""When a disk counts as full, and what becomes of the ballast."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstore.errors import LogFull
from eventstore.space import BALLAST, FILE, LOOK_S, MARGIN, RESERVE, DiskSpace
from eventstore.sqlite import SQLiteLog
from tests.eventstore.builders import write

PLENTY = 1 << 40


class Disk:
    """What is free, as the test says, and a clock that moves when it is looked at."""

    def __init__(self, data_dir: Path, free: int = PLENTY) -> None:
        self.free, self.now = free, 0.0
        self.ballast = data_dir / FILE
        self.space = DiskSpace(data_dir, lambda _: self.free, lambda: self.now)

    def seen(self, free: int) -> bool:
        """Whether new work is refused once so much was found free."""
        self.free = free
        self.now += LOOK_S
        self.space.look()
        return self.space.short


def test_the_ballast_is_there_and_takes_room(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    found = disk.ballast.stat()
    assert (found.st_size, found.st_mode & 0o777, disk.space.short, disk.space.warning) == (BALLAST, 0o600, False, None)
    assert found.st_blocks * 512 >= BALLAST
    disk.space.close()
    assert not disk.ballast.exists()
    disk.space.close()


def test_new_work_is_refused_below_the_reserve_and_taken_again_well_above_it(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    free = [RESERVE, RESERVE - 1, RESERVE, RESERVE + MARGIN - 1, RESERVE + MARGIN, RESERVE]
    assert [disk.seen(bytes_free) for bytes_free in free] == [False, True, True, True, False, False]
    assert disk.ballast.exists()  # all the time: it is for writes that were refused


def test_given_up_it_is_taken_back_where_there_is_room_for_it_too(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    assert disk.space.give_up()
    assert disk.space.short
    assert not disk.ballast.exists()
    assert disk.seen(RESERVE + MARGIN + BALLAST - 1)
    assert not disk.ballast.exists()
    assert not disk.seen(RESERVE + MARGIN + BALLAST)
    assert disk.ballast.stat().st_size == BALLAST


def test_it_can_be_given_up_once(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    assert [disk.space.give_up() for _ in range(3)] == [True, False, False]


def test_looks_are_a_second_apart_however_often_it_is_asked(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.free = 0
    disk.now += LOOK_S / 2
    disk.space.look()
    assert not disk.space.short
    assert disk.seen(0)


def test_a_start_on_a_nearly_full_disk_has_the_room_of_the_old_ballast(tmp_path: Path) -> None:
    """What a kill left behind goes, so that the start can be recorded; and there is a word for the operator."""
    (tmp_path / FILE).write_bytes(bytes(BALLAST))
    disk = Disk(tmp_path, RESERVE - 1)
    assert disk.space.short
    assert disk.space.warning
    assert not disk.ballast.exists()


async def test_a_log_without_room_takes_no_new_work_and_goes_on_with_the_rest(tmp_path: Path) -> None:
    class Nearly(DiskSpace):
        reserve = 1 << 60

    class NearlyFull(SQLiteLog):
        space = Nearly

    log = await NearlyFull.open(tmp_path)
    assert log.full
    with pytest.raises(LogFull):
        log.append(write("request-1", 0), admit=True)
    assert (await log.append(write("node-1", 0))).last == 1
    assert any("nearly full" in warning for warning in log.warnings)
    await log.close()
