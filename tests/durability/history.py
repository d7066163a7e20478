"""A history to cut the power in: the log's real writer and the real projections, every write of theirs recorded.

Three lives of one data directory: the first ends as it should, the second in a power cut of its own, and the third
begins with what that left. Each life answers a few requests at a time, several appends to a commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any, cast

from eventstore import rows as sql
from eventstore.batch import Waiting
from eventstore.catalogue import Event
from eventstore.database import take_charge
from eventstore.envelope import NEW_STREAM, Appended, NewFrames, Recorded, StreamWrite
from eventstore.frames import FrameRun
from eventstore.reader import Reader
from eventstore.writer import Writer
from projections import db
from projections.engine import Engine
from projections.projection import TableProjection, is_table_projection
from projections.registry import REGISTRY
from tests.durability.disk import Acknowledged, Files, Operation, Recorder
from tests.durability.recorded import connect
from tests.projections.stories import completed, generated, received, routed, started

TABLES: tuple[TableProjection, ...] = tuple(found for found in REGISTRY if is_table_projection(found))
"""File projections do not write through SQLite; what a cut leaves of their files is test_engine.py's matter."""
REQUESTS_A_LIFE = 4
AT_ONCE = 2
START_US = 1_795_255_200_000_000


class HurriedWriter(Writer):
    """Checkpoints often, so that a short history has many."""

    def _checkpoint_is_due(self, *, idle: bool) -> bool:
        return self._commits >= 7


class RecordedEngine(Engine):
    """Writes through the recorder."""

    @staticmethod
    def open_rows(path: Path) -> Any:
        rows = connect(path)
        db.prepare(rows)
        return rows


class ConnectionReader(Reader):
    """Reads what the writing connection sees: its VFS is no other library's."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection


@dataclass(frozen=True, slots=True)
class Kind:
    """How the parts are made: as they are, or with a bug."""

    durability: str = "power"
    writer: type[Writer] = HurriedWriter
    engine: type[Engine] = RecordedEngine


@dataclass(frozen=True, slots=True)
class Segment:
    """Operations on a disk that had `before` on it, of which `acknowledged` was promised."""

    before: Files
    operations: list[Operation]
    acknowledged: int


@dataclass(frozen=True, slots=True)
class History:
    """What was done to the disk, and the log's rows at the end: what is found after any cut must begin like them."""

    segments: list[Segment]
    rows: list[Recorded]


def record(folder: Path, kind: Kind, seed: int) -> History:
    """The three lives, in two folders under `folder`: the second has what the cut left of the first."""
    random, requests, clock = Random(seed), count(1), count(START_US, 997)
    first, second = folder / "first", folder / "second"
    first.mkdir(parents=True)
    second.mkdir()
    with Recorder() as recorder:
        _live(first, recorder, kind, _load(random, requests), clock.__next__, lambda: None)
        cut: list[int] = []

        def cut_the_power() -> None:
            cut.append(len(recorder.operations))
            for name, content in _left(first).items():
                (second / name).write_bytes(content)

        _live(first, recorder, kind, _load(random, requests), clock.__next__, cut_the_power)
        before, operations = _left(second), recorder.operations[: cut[0]]
        del recorder.operations[:]
        _live(second, recorder, kind, _load(random, requests), clock.__next__, lambda: None)
        later = list(recorder.operations)
    promised = max((done.head for done in operations if isinstance(done, Acknowledged)), default=0)
    with Reader(second) as reader:
        rows = list(reader.rows())
    return History([Segment({}, operations, 0), Segment(before, later, promised)], rows)


def _left(folder: Path) -> Files:
    """The databases' files, as a kill leaves them; not the shared memory, which no reboot keeps."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


class _AtOnce:
    """An event loop as far as the writer needs one; its thread is ours."""

    def call_soon_threadsafe(self, call: Callable[..., None], *arguments: Any) -> None:
        call(*arguments)


class _Endless:
    """A disk that never fills."""

    def look(self) -> None: ...
    def close(self) -> None: ...


def _live(
    folder: Path,
    recorder: Recorder,
    kind: Kind,
    load: Iterator[list[Waiting]],
    now_us: Callable[[], int],
    at_the_end: Callable[[], None],
) -> None:
    """Open, write all of `load`, close. Each round is submitted when the one before was acknowledged."""
    connection = connect(folder / sql.FILE, isolation_level="IMMEDIATE")
    opened = take_charge(connection, kind.durability)
    engine = kind.engine(folder, ConnectionReader(connection), TABLES)

    def next_round() -> None:
        for waiting in next(load, (None,)):  # None ends it, as `stop` does
            writer.submit(waiting)

    def committed(done: list[Waiting], head: int) -> None:
        recorder.acknowledged(head)
        while engine.step(7):
            pass
        next_round()

    def failed(error: Exception) -> None:
        raise error

    owned = cast(Any, _Closing(connection, at_the_end, engine.close))
    writer = kind.writer(owned, opened.tail, now_us, cast(Any, _AtOnce()), committed, failed, cast(Any, _Endless()))
    next_round()
    writer.run()


class _Closing:
    """The connection, and what is to happen before the writer closes it."""

    def __init__(self, connection: Any, *before: Callable[[], None]) -> None:
        self._connection, self._before = connection, before
        self.execute, self.commit, self.rollback = connection.execute, connection.commit, connection.rollback

    def close(self) -> None:
        for call in self._before:
            call()
        self._connection.close()


def _load(random: Random, numbers: Iterator[int]) -> Iterator[list[Waiting]]:
    """Rounds of appends: the next of each request that is open, and sometimes one that is refused."""
    waiting = [_request(f"r{number}", random) for number in islice(numbers, REQUESTS_A_LIFE)]
    running = [waiting.pop(0) for _ in range(AT_ONCE)]
    while running:
        appends: list[Waiting] = []
        for request in list(running):
            append = next(request, None)
            if append is not None:
                appends.append(append)
                continue
            running.remove(request)
            if waiting:
                running.append(waiting.pop(0))
        if random.random() < 0.1:
            appends.append(_append([StreamWrite("request-r1", NEW_STREAM, (routed("r1").new(),))]))
        if appends:
            yield appends


def _request(name: str, random: Random) -> Iterator[Waiting]:
    """The appends of one request, each made when the one before has its outcome."""
    yield _append([_write(name, 0, received(name), routed(name))], blobs=[random.randbytes(700)])
    calling = _append([_write(name, 2, started(name))])
    yield calling
    assert isinstance(calling.outcome, Appended)
    run = FrameRun(calling.outcome.last)
    for _ in range(random.randrange(1, 5)):
        frames = [b'data: {"token":"%d"}' % random.randrange(100) for _ in range(random.randrange(1, 4))]
        yield _append([], frames=run.pack(frames, run.count * 1_000)[0])
    done = generated(name, frames=run.count, frames_digest=run.digest)
    yield _append([_write(name, 3, done, completed(name))])


def _write(name: str, expected: int, *events: Event) -> StreamWrite:
    return StreamWrite(f"request-{name}", expected, tuple(event.new() for event in events))


def _append(
    writes: list[StreamWrite], frames: list[NewFrames] | None = None, blobs: list[bytes] | None = None
) -> Waiting:
    return Waiting(writes, frames or [], blobs or [], cast(Any, None))
