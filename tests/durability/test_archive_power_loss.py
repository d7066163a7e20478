"""The power is cut at every step of archiving, dropping and repairing: nothing that was recorded is lost, nor what was
made of it, and the same can be done again. Each sync that is left out is noticed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from eventstore.envelope import Recorded
from eventstore.reader import Reader
from projections import db
from replay.verify import verified
from tests.durability.disk import Files, Sync, Truncate, Write
from tests.durability.lives import ALL, Log, SmallArchivist, fold, mend
from tests.durability.traced import record
from tests.durability.tree import Operation, Rename, states
from tests.faults.strace import STRACE
from tests.replay.recorded_log import Recorder
from tests.replay.test_rebuild import tables

pytestmark = [pytest.mark.system, pytest.mark.skipif(STRACE is None, reason="there is no strace")]


def looked_at(operation: Operation) -> bool:
    """Not single writes of databases, whose syncs are looked at: those are test_power_loss.py's."""
    return not (isinstance(operation, (Write, Truncate)) and ".db" in operation.file)


def left(folder: Path) -> Files:
    """What lies in a folder and below."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "ballast"))
    }


def put(folder: Path, files: Files) -> None:
    """These files and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def made_of(folder: Path) -> dict[str, Any]:
    """What everything made of the log says: tables, and the lines of files, once they are made of all of it."""
    fold(folder)
    rows = {name: rows for name, rows in tables(folder).items() if not name.startswith("projection_")}
    return rows | {path.name: path.read_bytes() for path in folder.glob("*.[jl]*")}


def rebuilt(folder: Path) -> dict[str, Any]:
    """The same tables, made anew."""
    (folder / db.NAME).unlink()
    return {name: rows for name, rows in made_of(folder).items() if "." not in name}


def rows_of(folder: Path) -> tuple[int, list[Recorded]]:
    """The position up to which rows were dropped, and the others."""
    with Reader(folder) as reader:
        return reader.dropped(), list(reader.rows())


def unproven(folder: Path) -> str | None:
    with Reader(folder) as reader:
        listed = verified(reader)["listed"]
    return f"verify: {listed[0]['what']}" if listed else None


@dataclass
class Life:
    """What was done to a disk, what lay on it before, and what was recorded then and is made of it. `folder` is for
    disks as they are found."""

    before: Files
    operations: list[Operation]
    rows: list[Recorded]
    made: dict[str, Any]
    folder: Path

    async def wrongs(self, seeds: Sequence[int], since: int = 0) -> AsyncIterator[str]:
        """Every broken promise of every different disk from an operation on, in words."""
        seen: set[int] = set()
        for done, fate, files in states(self.operations, self.before, seeds, looked_at, since):
            ended = done == len(self.operations)
            if (key := hash((ended, *sorted(files.items())))) in seen:
                continue
            seen.add(key)
            put(self.folder, files)
            try:
                what = await self.wrong(ended)
            except Exception as error:  # noqa: BLE001  # whatever recovery refuses is a broken promise
                what = repr(error)
            if what:
                yield f"after {done} operations, {fate}: {what}"
        print(f"{len(seen)} different disks after {len(self.operations)} operations")

    async def wrong(self, ended: bool) -> str | None:
        """What is wrong with the disk in the folder; `ended`: and all was done."""
        raise NotImplementedError

    def without(self, left_out: LeftOut) -> tuple[Life, int]:
        """The same life without some of its syncs, and where the first of them was."""
        operations = self.operations
        those = [n for n, sync in enumerate(operations) if isinstance(sync, Sync) and left_out(sync, operations[n - 1])]
        kept = [operation for n, operation in enumerate(operations) if n not in those]
        assert those
        return replace(self, operations=kept), those[0]


class Archived(Life):
    async def wrong(self, ended: bool) -> str | None:
        log = await Log.open(self.folder)
        try:
            return self._lost() or await self._gone_on(SmallArchivist(log, self.folder, log.previous))
        finally:
            await log.close()

    def _lost(self) -> str | None:
        dropped, rows = rows_of(self.folder)
        if rows[: len(self.rows) - dropped] != self.rows[dropped:]:
            return "rows are lost"
        if made_of(self.folder) != self.made:
            if dropped:
                return "what is made of the log lacks something"
            (self.folder / db.NAME).unlink()  # the middle of a file may be lost until a drop has it synced
            if made_of(self.folder) != self.made:
                return "what was made of the log cannot be made again"
        return unproven(self.folder)

    async def _gone_on(self, archivist: SmallArchivist) -> str | None:
        await archivist.asked("archive", ALL)
        fold(self.folder)
        await archivist.asked("drop", ALL)
        if any(self.made[name] != rows for name, rows in rebuilt(self.folder).items()):
            return "gone on with, a rebuild lacks something"
        return unproven(self.folder)


class Repaired(Life):
    async def wrong(self, ended: bool) -> str | None:
        if not ended:
            await mend(self.folder, self.folder.with_name("sound"))
        if rows_of(self.folder)[1][: len(self.rows)] != self.rows:
            return "rows are lost"
        return unproven(self.folder)


@pytest.fixture
async def archived(folder: Path) -> Life:
    """Two segments are made, and dropped one after the other."""
    data_dir = folder / "life"
    await recorded(data_dir)
    before, (_, rows) = left(data_dir), rows_of(data_dir)
    operations = await record(data_dir, "tests.durability.lives", "archive")
    put(folder / "found", before)
    return Archived(before, operations, rows, made_of(folder / "found"), folder / "found")


@pytest.fixture
async def repaired(folder: Path) -> Life:
    """Of two segments one is damaged and one is gone; and a live row is not as it was written."""
    data_dir = folder / "life"
    await recorded(data_dir)
    log = await Log.open(data_dir)
    await SmallArchivist(log, data_dir, log.previous).asked("archive", 40)
    await log.close()
    shutil.copytree(data_dir, folder / "sound")
    first, second = sorted((data_dir / "archive").iterdir())
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    second.unlink()
    with closing(sqlite3.connect(data_dir / "events.db")) as shell, shell:
        shell.execute("DROP TRIGGER ledger_no_update")
        shell.execute("UPDATE ledger SET data = data || 'x' WHERE position = (SELECT max(position) FROM ledger)")
    before, (_, rows) = left(data_dir), rows_of(folder / "sound")
    operations = await record(data_dir, "tests.durability.lives", "repair", str(folder / "sound"))
    return Repaired(before, operations, rows, {}, folder / "found")


async def recorded(data_dir: Path) -> None:
    async with Recorder(data_dir) as recorder:
        for number in range(6):
            await recorder.exchange("Hello", f" {number}")


async def test_a_power_cut_while_archiving_and_dropping_loses_nothing(archived: Life) -> None:
    assert [what async for what in archived.wrongs([1, -1])] == []


async def test_a_power_cut_while_repairing_loses_nothing(repaired: Life) -> None:
    assert [what async for what in repaired.wrongs([1, -1])] == []


LeftOut = Callable[[Sync, Operation], bool]
"""Whether a sync is left out; it is told the operation before it too."""
_MADE = "archive/taken.snapshot.partial/projections.db"


def after_rename(folder: str, suffix: str) -> LeftOut:
    return lambda sync, before: sync.file == folder and isinstance(before, Rename) and before.to.endswith(suffix)


def of(suffix: str) -> LeftOut:
    return lambda sync, before: sync.file.endswith(suffix)


def of_folder_after(suffix: str) -> LeftOut:
    return lambda sync, before: not sync.file and isinstance(before, Sync) and before.file.endswith(suffix)


ARCHIVED: dict[str, LeftOut] = {
    "a segment": of(".segment.partial"),
    "a segment's name": after_rename("archive", ".segment"),
    "the archive's name": of_folder_after("archive"),
    "a snapshot": of(_MADE),
    "a snapshot's name": after_rename("archive", ".snapshot"),
    "the files made of the log": lambda sync, before: sync.file.endswith((".jsonl", ".log")),
    "their names": of_folder_after("l"),
}
REPAIRED: dict[str, LeftOut] = {
    "a segment": of(".segment.partial"),
    "a segment's name": after_rename("archive", ".segment"),
    "the log": of("repair.partial/events.db"),
    "the log's name": after_rename("", "events.db"),
}


async def test_each_sync_that_is_left_out_of_archiving_is_noticed(archived: Life) -> None:
    assert await unnoticed(archived, ARCHIVED) == []


async def test_each_sync_that_is_left_out_of_repairing_is_noticed(repaired: Life) -> None:
    assert await unnoticed(repaired, REPAIRED) == []


async def unnoticed(life: Life, left_out: Mapping[str, LeftOut]) -> list[str]:
    found = []
    for name, which in left_out.items():
        bug, since = life.without(which)
        what = await anext(bug.wrongs([1], since), None)
        print(f"without the sync of {name}: {what}")
        if what is None:
            found.append(name)
    return found
