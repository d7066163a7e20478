"""Does the log agree with itself? Chains, columns, versions and frames, checked row by row; nothing is read twice.

Pure over the rows it is given, in order of position. What it cannot know, it is told: `run_of` says which events open
and close a run of frames, since the storage does not know what events mean.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from eventstore.chain import chained, disagreement, well_typed
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.frames import FrameReader


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written, and where."""

    position: int
    what: str


@dataclass(frozen=True, slots=True)
class RunOpened:
    """The event opens a run of frames; `key` is how its closing event names it."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class RunClosed:
    """The event closes the run `key` and binds it: so many frames, with this digest in hex (`FrameRun.digest`)."""

    key: Hashable
    count: int
    digest: str


_NOTHING: tuple[()] = ()
_FRAMES_TYPES = (*[int] * 7, bytes)

RunOf = Callable[[RecordedEvent], RunOpened | RunClosed | None]


class _Run:
    """What was seen of an open run: its rows' digest, and the place of the newest."""

    __slots__ = ("damaged", "last", "reader", "stream")

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.reader = FrameReader()
        self.last = 0
        self.damaged = False


class Verifier:
    """Feed it rows in order; each call yields what is wrong with that row.

    `sealed` is the position up to which rows were archived: what remains may then begin in the middle of a chain, a
    stream or a run. `rows` and `events` count what was checked; `unsound` are the streams of which a row is not as it
    was written, so that nothing should be made of them. Without `versions` those of streams are not followed, which
    takes memory for each stream there ever was: the chain has them too, as they were written.
    """

    def __init__(self, run_of: RunOf, sealed: int = 0, *, versions: bool = True) -> None:
        self._run_of, self._sealed, self._follow_versions = run_of, sealed, versions
        self._position = 0
        self._chains: dict[str, RecordedEvent] = {}
        self._versions: dict[str, int] = {}
        self._opened: dict[Hashable, int] = {}
        self._runs: dict[int, _Run] = {}
        self.rows = self.events = 0
        self.unsound: set[str] = set()

    def check(self, row: Recorded) -> Sequence[Finding]:
        """What is wrong with the next row. Plain lists, made only where something is: most rows are sound frames."""
        self.rows += 1
        position = row.position
        expected, self._position = self._position + 1, position
        found = self._check_frames(row) if isinstance(row, RecordedFrames) else [*self._check_event(row)]
        if position != expected and not (expected == 1 and self._sealed):
            found = [f"positions {expected} to {position - 1} are missing", *found]
        return [Finding(position, what) for what in found] if found else _NOTHING

    def _check_event(self, event: RecordedEvent) -> Iterator[str]:
        self.events += 1
        found = [what] if (what := disagreement(event)) else []
        if well_typed(event):
            found += [*self._check_chain(event), *self._check_version(event)]
        if found:
            self.unsound.add(event.stream)
            yield from found
            return
        match self._run_of(event):
            case RunOpened(key):
                self._opened[key] = event.position
                self._runs[event.position] = _Run(event.stream)
            case RunClosed() as closed:
                yield from self._check_closed(closed)

    def _check_chain(self, event: RecordedEvent) -> Iterator[str]:
        known = self._chains.get(event.origin)
        self._chains[event.origin] = event
        if known is None and self._sealed and event.oseq > 1:
            return
        oseq, digest, at = (known.oseq, known.digest, known.at) if known else (0, b"", 0)
        if event.oseq != oseq + 1:
            yield f"oseq {event.oseq} of {event.origin} follows {oseq}"
        elif chained(digest, event.data) != event.digest:
            yield "the digest does not match the data and the digest before it"
        if event.at <= at:
            yield f"the clock of {event.origin} went back"

    def _check_version(self, event: RecordedEvent) -> Iterator[str]:
        if not self._follow_versions:
            return
        known = self._versions.get(event.stream)
        self._versions[event.stream] = event.version
        if known is None and self._sealed:
            return
        if event.version != (known or 0) + 1:
            yield f"version {event.version} of {event.stream} follows {known or 0}"

    def _check_frames(self, row: RecordedFrames) -> Sequence[str]:
        if tuple(map(type, _columns(row))) != _FRAMES_TYPES:
            self.unsound.update(run.stream for run in self._runs.values())  # whose row it is, nobody knows
            return ["a column is not of the type that was written"]
        run = self._runs.get(row.generation)
        if run is None:
            if row.generation <= self._sealed:
                return _NOTHING
            return [f"frames of a run that position {row.generation} does not open, or that is closed"]
        found: Sequence[str] = _NOTHING
        if row.position - row.back != (run.last or row.position):
            found = [f"the run's previous row is at {run.last}, not {row.back} before"]
        run.last = row.position
        if not run.damaged:
            try:
                run.reader.skip(row)
            except LogCorrupt as error:
                run.damaged = True
                return [*found, error.what]
        return found

    def _check_closed(self, closed: RunClosed) -> Iterator[str]:
        opened = self._opened.pop(closed.key, None)
        if opened is None:
            if not self._sealed:
                yield f"closes the run {closed.key}, which no event opened"
            return
        run = self._runs.pop(opened)
        if run.reader.count != closed.count:
            yield f"the run of position {opened} has {run.reader.count} frames, its end says {closed.count}"
        elif run.reader.digest != closed.digest:
            yield f"the frames of the run of position {opened} are not those that its end binds"


def _columns(row: RecordedFrames) -> tuple[object, ...]:
    return row.position, row.generation, row.back, row.frame, row.count, row.offset_us, row.codec, row.bytes


def verify(rows: Iterable[Recorded], run_of: RunOf, *, sealed: int = 0) -> Iterator[Finding]:
    """All findings over `rows`, the whole log from its first row. Runs that are still open are none."""
    verifier = Verifier(run_of, sealed)
    for row in rows:
        yield from verifier.check(row)
