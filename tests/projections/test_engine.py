"""The engine: what stops a projection, what makes it start over, and what a crash leaves."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.errors import LogUnavailable
from projections import checkpoint, db
from projections.checkpoint import Checkpoint, CheckpointMoved
from projections.engine import Engine
from projections.files import ProjectionFiles
from projections.metrics import Metrics
from projections.payloads import Payloads
from projections.projection import Projection, Rows
from projections.registry import REGISTRY
from projections.serverlog import ServerLog
from tests.projections.ledger import Ledger
from tests.projections.projection_conformance import View, fold, view
from tests.projections.stories import answered, everything, node_started


class Listed:
    """Positions of what it handled. Raises `error` at event `poison`; calls `applied` after each batch's rows."""

    name: ClassVar[str] = "listed"
    version: ClassVar[int] = 1
    handles: ClassVar[frozenset[str]] = frozenset({"request_received", "request_completed"})

    def __init__(
        self, poison: int = 0, error: Exception | None = None, applied: Callable[[], None] | None = None
    ) -> None:
        self._poison, self._error, self._applied = poison, error or ValueError("cannot fold this"), applied

    def create(self, rows: Rows) -> None:
        rows.execute("CREATE TABLE IF NOT EXISTS listed (position INTEGER, version INTEGER)")

    def truncate(self, rows: Rows) -> None:
        rows.execute("DROP TABLE IF EXISTS listed")

    def apply(self, events: Sequence[RecordedEvent], rows: Rows) -> None:
        for event in events:
            if event.position == self._poison:
                raise self._error
            rows.execute("INSERT INTO listed VALUES (?, ?)", (event.position, self.version))
        if self._applied:
            self._applied()


class ListedAnew(Listed):
    """The same in a later release."""

    version: ClassVar[int] = 2


def a_log(requests: int = 4) -> Ledger:
    log = Ledger()
    log.add(node_started())
    for number in range(requests):
        log.add(*answered(f"r{number}"))
        log.add_frames(2)
    return log


def test_reaches_the_head_although_the_newest_rows_are_frames(tmp_path: Path) -> None:
    log = a_log()
    engine = Engine(tmp_path, log)
    while engine.step(3):
        pass
    assert set(engine.positions().values()) == {log.head()}


def test_says_whether_more_is_waiting(tmp_path: Path) -> None:
    engine = Engine(tmp_path, a_log(), [Listed()])
    assert [engine.step(10), engine.step(10), engine.step(10), engine.step(10)] == [True, True, False, False]


def test_reads_each_batch_once_for_all_projections(tmp_path: Path) -> None:
    class Counted(Ledger):
        reads = 0

        def read(self, *args: Any, **kwargs: Any) -> Any:
            self.reads += 1
            return super().read(*args, **kwargs)

    log = Counted()
    log.rows = a_log().rows
    engine = Engine(tmp_path, log)
    engine.step()
    assert log.reads == 1


def test_a_poison_event_halts_its_projection_alone_and_is_named(tmp_path: Path) -> None:
    log = a_log()
    engine = Engine(tmp_path, log, [*REGISTRY, Listed(poison=9)])
    engine.step()
    halted = engine.status().pop("listed")
    assert halted == {
        "version": 1,
        "position": 8,
        "halted": {"position": 9, "type": "request_received", "error": "ValueError: cannot fold this"},
    }
    assert view(tmp_path)[0]["listed"] == [(2, 1), (6, 1)]
    assert {p for name, p in engine.positions().items() if name != "listed"} == {log.head()}
    log.add(*answered("later"))
    engine.step()
    assert engine.positions()["listed"] == 8
    assert engine.positions()["usage"] == log.head()


def test_a_halted_projection_tries_again_with_the_next_start(tmp_path: Path) -> None:
    log = a_log()
    Engine(tmp_path, log, [Listed(poison=9)]).step()
    repaired = Engine(tmp_path, log, [Listed()])
    repaired.step()
    assert repaired.status()["listed"] == {"version": 1, "position": log.head(), "halted": None}
    assert view(tmp_path)[0]["listed"] == fold_apart(tmp_path, log, [Listed()])[0]["listed"]


class Believing(Engine):
    """The bug: what is read is what was written."""

    def _read(self, after: int, seen: int, limit: int, until: int) -> tuple[list[RecordedEvent], None]:
        rows = self._reader.read(after, limit, until=until, frames=False)
        return [row for row in rows if isinstance(row, RecordedEvent)], None


def damaged(log: Ledger, position: int, **columns: Any) -> Ledger:
    """The log with a row that is not as it was written."""
    event = log.rows[position - 1]
    assert isinstance(event, RecordedEvent)
    log.rows[position - 1] = replace(event, **columns)
    return log


DAMAGES = {
    "data": {"data": b'{"type":"request_received"}'},
    "digest": {"digest": bytes(32)},
    "column": {"type": "request_completed"},
    "kind": {"type": None},
}


@pytest.mark.parametrize("limit", [500, 7, 1])
@pytest.mark.parametrize("columns", DAMAGES.values(), ids=DAMAGES)
def test_what_is_not_as_it_was_written_is_folded_into_nothing(
    tmp_path: Path, columns: dict[str, Any], limit: int
) -> None:
    log = a_log()
    whole = list(log.rows)
    engine = Engine(tmp_path, damaged(log, 9, **columns))
    for _ in range(12):
        engine.step(limit)
    for found in engine.status().values():
        assert found["position"] == 8
        assert found["halted"]["position"] == 9
        assert found["halted"]["error"].startswith("the log is damaged: ")
    log.rows = whole
    mended = Engine(tmp_path, log)
    while mended.step(limit):
        pass
    assert set(mended.positions().values()) == {log.head()}
    assert view(tmp_path) == fold_apart(tmp_path, log, REGISTRY)


def test_an_engine_that_believes_its_log_folds_it(tmp_path: Path) -> None:
    engine = Believing(tmp_path, damaged(a_log(), 9, digest=bytes(32)))
    engine.step()
    assert not [name for name, found in engine.status().items() if found["halted"]]


@pytest.mark.parametrize("limit", [500, 1])
def test_an_event_that_is_missing_is_missed_by_the_next(tmp_path: Path, limit: int) -> None:
    log = a_log()
    gone, after = 9, 10
    log.rows[gone - 1] = RecordedFrames(gone, 1, 0, 1, 1, 0, 0, b"data: {}")
    engine = Engine(tmp_path, log, [Listed()])
    for _ in range(12):
        engine.step(limit)
    halted = engine.status()["listed"]["halted"]
    assert (halted["position"], halted["error"][:18]) == (after, "the log is damaged")


@pytest.mark.parametrize("projection", REGISTRY, ids=lambda projection: projection.name)
def test_an_event_without_its_fields_is_a_poison(projection: Projection, tmp_path: Path) -> None:
    log = a_log()
    poison = log.add_raw(sorted(projection.handles - {"node_started"})[0], {}, "request-odd", schema=99)
    engine = Engine(tmp_path, log, [projection])
    engine.step()
    halted = engine.status()[projection.name]["halted"]
    assert (halted["position"], engine.positions()[projection.name]) == (poison.position, poison.position - 1)


def test_a_lost_blob_halts_only_the_projections_that_need_it(tmp_path: Path) -> None:
    log = everything()
    log._blobs.clear()
    engine = Engine(tmp_path, log)
    engine.step()
    assert {name for name, found in engine.status().items() if found["halted"]} == {"verbatim", "payloads"}


@pytest.mark.parametrize("error", [OSError("no space left"), LogUnavailable("cannot read the log"), MemoryError()])
def test_a_failing_disk_is_nobodys_poison(error: Exception, tmp_path: Path) -> None:
    engine = Engine(tmp_path, a_log(), [Listed(poison=9, error=error)])
    with pytest.raises(type(error)):
        engine.step()
    assert engine.status()["listed"] == {"version": 1, "position": 0, "halted": None}
    assert view(tmp_path)[0]["listed"] == []


def test_a_raised_version_starts_over(tmp_path: Path) -> None:
    log = a_log()
    fold(tmp_path, log, [Listed()])
    newer = fold(tmp_path, log, [ListedAnew()])
    assert {version for _, version in newer[0]["listed"]} == {2}
    assert len(newer[0]["listed"]) == 8


def test_a_moved_checkpoint_refuses_the_batch(tmp_path: Path) -> None:
    engine = Engine(tmp_path, a_log(), [Listed()])
    stale = checkpoint.load(engine._rows)["listed"]
    engine.step()
    with pytest.raises(CheckpointMoved):
        checkpoint.advance(engine._rows, stale, 99, None)


def test_a_restored_shorter_log_starts_over(tmp_path: Path) -> None:
    log = everything()
    fold(tmp_path, log, REGISTRY)
    backup = log.cut(30)
    assert fold(tmp_path, backup, REGISTRY) == fold_apart(tmp_path, backup, REGISTRY)


def test_another_log_of_the_same_length_starts_over(tmp_path: Path) -> None:
    ours, other = a_log(), Ledger("n2i1")
    other.now += 5_000_000
    other.add(node_started())
    for number in range(9):
        other.add(*answered(f"other{number}"))
    fold(tmp_path, ours, REGISTRY)
    assert fold(tmp_path, other, REGISTRY) == fold_apart(tmp_path, other, REGISTRY)


@pytest.mark.parametrize("damage", ["missing", "no database", "torn page", "other format"])
def test_a_damaged_database_is_made_anew(damage: str, tmp_path: Path) -> None:
    log = everything()
    before = fold(tmp_path, log, REGISTRY)
    _damage(tmp_path / db.NAME, damage)
    assert fold(tmp_path, log, REGISTRY) == before


@pytest.mark.parametrize("damage", ["missing", "torn page"])
def test_a_database_that_is_damaged_while_it_is_used_is_made_anew(damage: str, tmp_path: Path) -> None:
    log = everything()
    engine = Engine(tmp_path, log)
    engine.step(20)
    _damage(tmp_path / db.NAME, damage)
    while engine.step(20):
        pass
    engine.close()
    assert view(tmp_path) == fold_apart(tmp_path, log, REGISTRY)


def test_readers_notice_that_the_database_was_replaced(tmp_path: Path) -> None:
    reader = db.Reader(tmp_path)
    with pytest.raises(db.NotReady):
        reader.rows()
    db.open_writer(tmp_path / db.NAME).close()
    with pytest.raises(db.NotReady):
        reader.rows()
    log = a_log()
    fold(tmp_path, log, [Listed()])
    assert checkpoint.position(reader.rows(), "listed") == log.head()
    db.remove(tmp_path / db.NAME)
    Engine(tmp_path, log, [Listed()]).close()
    assert checkpoint.position(reader.rows(), "listed") == 0
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.rows().execute("DELETE FROM listed")


def test_everything_is_private_to_its_owner(tmp_path: Path) -> None:
    engine = Engine(tmp_path, everything())
    engine.step()
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert len(modes) == 9, modes


FILES = [projection for projection in REGISTRY if hasattr(projection, "lines")]


HARMS = [(harm, running) for harm in ("deleted", "cut", "longer") for running in (True, False)]
HARMS.append(("emptied by a power cut", False))


@pytest.mark.parametrize(("harm", "running"), HARMS)
@pytest.mark.parametrize("projection", FILES, ids=lambda projection: projection.name)
def test_harmed_files_are_made_again_the_same(projection: Projection, harm: str, running: bool, tmp_path: Path) -> None:
    log = everything()
    before = fold(tmp_path, log, [projection])
    engine = Engine(tmp_path, log, [projection]) if running else None
    name = max(before[1])
    _harm(tmp_path / name, before[1][name], harm)
    engine = engine or Engine(tmp_path, log, [projection])
    if running and harm == "longer":
        log.add(*answered("next"))
    while engine.step(10):
        pass
    engine.close()
    assert view(tmp_path) == fold_apart(tmp_path, log, [projection])


class CommitsRowsFirst(Engine):
    """A deliberate bug: the rows are committed before their checkpoint."""

    def _apply(self, projection: Projection, events: Sequence[RecordedEvent], checkpoint: Checkpoint) -> str | None:
        state = super()._apply(projection, events, checkpoint)
        self._rows.execute("COMMIT")
        self._rows.execute("BEGIN IMMEDIATE")
        self._rows.execute("SAVEPOINT fold")
        return state


class AppendsBlindly(ProjectionFiles):
    """A deliberate bug: lines go to the end of the file, wherever the checkpoint is."""

    def append(self, rows: sqlite3.Connection, lines: Any) -> None:
        for file, line in lines:
            with (self._data_dir / file).open("ab") as found:
                found.write(line + b"\n")

    def settle(self, rows: sqlite3.Connection) -> bool:
        return True


class WithBlindFiles(Engine):
    """An engine with that bug."""

    def _open(self) -> None:
        self._files = {
            name: AppendsBlindly(self._data_dir, name, files._patterns) for name, files in self._files.items()
        }
        super()._open()


def crash_and_go_on(data_dir: Path, log: Ledger, engine_type: type[Engine], projections: list[Projection]) -> View:
    """A process dies in the middle of its second batch, behind the rows and lines of `projections`; another goes on."""
    data_dir.mkdir()
    batches: list[int] = []

    def die_in_the_second() -> None:
        batches.append(1)
        if len(batches) == 2:
            os._exit(9)

    child = os.fork()
    if child == 0:
        try:
            dying = engine_type(data_dir, log, [*projections, Listed(applied=die_in_the_second)])
            while dying.step(6):
                pass
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    engine = engine_type(data_dir, log, [*projections, Listed()])
    while engine.step(6):
        pass
    engine.close()
    return view(data_dir)


@pytest.mark.parametrize("projection", REGISTRY, ids=lambda projection: projection.name)
def test_a_crash_in_the_middle_of_a_batch_changes_nothing(projection: Projection, tmp_path: Path) -> None:
    log = everything()
    found = crash_and_go_on(tmp_path / "crashed", log, Engine, [projection])
    assert found == fold_apart(tmp_path, log, [projection, Listed()])


@pytest.mark.parametrize(
    ("bug", "projection"),
    [(CommitsRowsFirst, Metrics()), (CommitsRowsFirst, ServerLog()), (WithBlindFiles, Payloads())],
    ids=["rows", "lengths", "lines"],
)
def test_the_crash_test_notices_a_checkpoint_apart_from_what_it_counts(
    bug: type[Engine], projection: Projection, tmp_path: Path
) -> None:
    log = everything()
    found = crash_and_go_on(tmp_path / "crashed", log, bug, [projection])
    sound = fold_apart(tmp_path, log, [projection, Listed()])
    assert (found[0].get("metrics"), found[1]) != (sound[0].get("metrics"), sound[1])


def fold_apart(data_dir: Path, log: Ledger, projections: Sequence[Projection]) -> View:
    """What a folder that saw nothing else would hold."""
    folder = data_dir / "apart"
    folder.mkdir()
    try:
        return fold(folder, log, projections)
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _damage(path: Path, damage: str) -> None:
    if damage == "missing":
        db.remove(path)
    elif damage == "no database":
        path.write_bytes(b"this is no database, but it is long enough to be asked for its header" * 100)
    elif damage == "torn page":
        path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
    else:
        rows = sqlite3.connect(path)
        rows.execute("PRAGMA user_version = 99")
        rows.close()


def _harm(path: Path, data: bytes, harm: str) -> None:
    if harm == "deleted":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(data[:-1])
    elif harm == "longer":
        path.write_bytes(data + b'{"half a li')
    else:
        path.write_bytes(data[:-10] + b"\0" * 10)
