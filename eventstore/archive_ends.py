"""Do the tables from which streams and chains go on behind the archive agree with what lies in it?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eventstore.envelope import Recorded, RecordedEvent
from eventstore.reader import Reader
from eventstore.verify import Finding

Ends = tuple[tuple[int, ...], tuple[int | bytes, ...]]
"""Where a stream or a chain begins and ends in the archive, each with its position first. Of a stream then the last
version, of a chain the first oseq, and the last with its digest."""


class ArchiveEnds:
    """Notes the archived among the log's rows; of what lies up to `dropped` nothing can be said."""

    def __init__(self, sealed: int, dropped: int) -> None:
        self._sealed, self._dropped = sealed, dropped
        self._streams: dict[str, Ends] = {}
        self._chains: dict[str, Ends] = {}

    def passing(self, rows: Iterable[Recorded]) -> Iterator[Recorded]:
        """The same rows, the whole log in order."""
        for row in rows:
            if row.position <= self._sealed:
                self.add(row)
            yield row

    def add(self, row: Recorded) -> None:
        """The next archived row."""
        if isinstance(row, RecordedEvent):
            self._note(row)

    def streams(self, said: Iterable[tuple[str | None, Ends]]) -> dict[str, Ends]:
        """What the table of streams has to say; of what was dropped, what it `said`."""
        return self._mended(self._streams, said)

    def chains(self, said: Iterable[tuple[str | None, Ends]]) -> dict[str, Ends]:
        """The same of the table of origins."""
        return self._mended(self._chains, said)

    def check(self, reader: Reader) -> Iterator[Finding]:
        """What the tables say otherwise, once all rows have passed. Nothing where more was archived meanwhile."""
        found = [
            *self._compare("stream", self._streams, reader.archived_streams()),
            *self._compare("chain", self._chains, reader.archived_chains()),
        ]
        if reader.sealed() == self._sealed:
            yield from found

    def _note(self, event: RecordedEvent) -> None:
        position = event.position
        begin = self._streams[event.stream][0] if event.stream in self._streams else (position,)
        self._streams[event.stream] = begin, (position, event.version)
        begin = self._chains[event.origin][0] if event.origin in self._chains else (position, event.oseq)
        self._chains[event.origin] = begin, (position, event.oseq, event.digest)

    def _compare(self, kind: str, found: dict[str, Ends], said: Iterable[tuple[str | None, Ends]]) -> Iterator[Finding]:
        missing = dict(found)
        for name, (begin, end) in said:
            known = missing.pop(name, None) if name is not None else None
            if known is None:
                agrees = name is not None and self._is_gone(end[0])
            else:
                agrees = end == known[1] and (begin == known[0] or self._is_gone(begin[0]))
            if not agrees:
                yield Finding(self._sealed, f"the archive does not begin and end the {kind} {name} as events.db says")
        for name, (begin, _) in missing.items():
            yield Finding(begin[0], f"events.db does not say where the archive ends the {kind} {name}")

    def _mended(self, found: dict[str, Ends], said: Iterable[tuple[str | None, Ends]]) -> dict[str, Ends]:
        mended = dict(found)
        for name, (begin, end) in said:
            if name is not None and self._is_gone(begin[0]):
                if name in found:
                    mended[name] = begin, found[name][1]
                elif self._is_gone(end[0]):
                    mended[name] = begin, end
        return mended

    def _is_gone(self, position: object) -> bool:
        return type(position) is int and position <= self._dropped
