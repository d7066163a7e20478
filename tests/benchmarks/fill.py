"""Logs of any size, quickly: real exchanges, recorded once by the whole server, appended again under ids of their own.

    python -m tests.benchmarks.fill DIR [--rows 1000000]

Five rows of an exchange are ledger events, the others a token each, since the upstream keeps a pace. Chains are made
anew and runs bound to their ends, so that the rows verify; only the digest of what the client got is the first one's.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import uvloop

from eventstore.envelope import ANY_VERSION, NewEvent, NewFrames, RecordedEvent, RecordedFrames, StreamWrite
from eventstore.frames import FrameRun
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from gateway.exchange.ids import request_id, stream_of
from tests.benchmarks.load import measure
from tests.benchmarks.sides import gateway_side, upstream

ENVELOPE = ("type", "schema", "stream", "version", "origin", "oseq", "time")
OPENS = "generation_started"
AT_ONCE = 200
"""Exchanges under way at once: their rows share commits."""
PACE_MS = 2.0
BEGAN_MS = 1_795_000_000_000


@dataclass(frozen=True)
class Exchange:
    """A recorded exchange: the events up to the one that opens its frames, the frames, the events after them."""

    request: str
    before: tuple[NewEvent, ...]
    frames: tuple[RecordedFrames, ...]
    after: tuple[NewEvent, ...]

    @property
    def rows(self) -> int:
        return len(self.before) + len(self.frames) + len(self.after)


@dataclass(frozen=True)
class Recorded:
    """What the server recorded: the events of its start, and one exchange."""

    start: tuple[tuple[str, NewEvent], ...]
    exchange: Exchange


async def recorded(tokens: int) -> Recorded:
    """Let the server answer once, and read what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "logs"
        async with upstream(tokens, PACE_MS) as url, gateway_side(data_dir, url, "off") as gateway:
            await measure(gateway.url, 1, 0.01, streamed=True, wrk=False)
            await gateway.settled()
        with Reader(data_dir) as reader:
            return _split(list(reader.rows()))


def _split(rows: list[RecordedEvent | RecordedFrames]) -> Recorded:
    events = [row for row in rows if isinstance(row, RecordedEvent)]
    opened = next(event for event in events if event.type == OPENS)
    frames = tuple(row for row in rows if isinstance(row, RecordedFrames) and row.generation == opened.position)
    mine = [event for event in events if event.stream == opened.stream]
    before = tuple(_new(event) for event in mine if event.position <= opened.position)
    after = tuple(_new(event) for event in mine if event.position > opened.position)
    start = tuple((event.stream, _new(event)) for event in events if event.position < mine[0].position)
    return Recorded(start, Exchange(opened.body["request_id"], before, frames, after))


def _new(event: RecordedEvent) -> NewEvent:
    fields = {name: value for name, value in event.body.items() if name not in ENVELOPE}
    return NewEvent(event.type, event.body["schema"], orjson.dumps(fields))


async def fill(data_dir: Path, rows: int, tokens: int = 64) -> int:
    """Append whole exchanges until there are at least so many rows. Returns how many exchanges."""
    template = await recorded(tokens)
    exchanges = -(-rows // template.exchange.rows)
    log = await SQLiteLog.open(data_dir)
    try:
        for stream, event in template.start:
            await log.append(StreamWrite(_own(stream, log.origin), ANY_VERSION, (event,)))
        numbers = iter(range(exchanges))
        await asyncio.gather(*(_append_all(log, template.exchange, numbers) for _ in range(AT_ONCE)))
    finally:
        await log.close()
    return exchanges


def _own(stream: str, origin: str) -> str:
    return f"node-{origin}" if stream.startswith("node-") else stream


async def _append_all(log: SQLiteLog, exchange: Exchange, numbers: Iterator[int]) -> None:
    for number in numbers:
        request = request_id(BEGAN_MS + number, number.to_bytes(16, "big"))
        stream, before, after = stream_of(request), len(exchange.before), exchange.after
        opened = await log.append(StreamWrite(stream, 0, _named(exchange.before, exchange.request, request)))
        run = FrameRun(opened.last)
        await log.append(frames=[_again(row, run) for row in exchange.frames])
        await log.append(StreamWrite(stream, before, _named(after, exchange.request, request)))


def _again(row: RecordedFrames, run: FrameRun) -> NewFrames:
    """The same row in another run: its digest, which the run's end binds, does not change with the run."""
    return NewFrames(run, row.frame, row.count, row.offset_us, row.codec, row.bytes)


def _named(events: tuple[NewEvent, ...], request: str, other: str) -> tuple[NewEvent, ...]:
    """The events of another request."""
    old, new = request.encode(), other.encode()
    return tuple(replace(event, fields=event.fields.replace(old, new)) for event in events)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    print(f"{uvloop.run(fill(asked.dir, asked.rows)):,} exchanges")
