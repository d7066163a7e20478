"""A log being written, relays on it, and the question that every test of the relay asks in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import orjson

from eventstore.envelope import ANY_VERSION, NewEvent, RecordedEvent, RecordedFrames, StreamWrite
from eventstore.frames import FrameReader, FrameRun
from eventstore.jetstream import JetStream
from eventstore.reader import Reader
from eventstore.relay import Relay, Take
from eventstore.relay_messages import DIGEST, FRAME, OSEQ, POSITION
from eventstore.sqlite import SQLiteLog
from eventstore.verify import RunOf
from tests.natsd import Natsd

TYPES = ("thing_begun", "thing_done", "segment_sealed")
FRAMES = "piece_heard"
PATIENCE_S = 60.0


async def append(log: SQLiteLog, count: int, size: int = 20) -> None:
    """This many events, in commits of up to 100."""
    for first in range(0, count, 100):
        events = tuple(
            NewEvent(TYPES[n % 2], 1, orjson.dumps({"n": n, "text": "x" * size}))
            for n in range(first, min(first + 100, count))
        )
        await log.append(StreamWrite("node-a", ANY_VERSION, events))


async def append_run(log: SQLiteLog, pieces: Sequence[bytes], rows_of: int = 3) -> int:
    """One run: the event that opens it, and its frames, several to a row. Returns the run's position."""
    opened = await log.append(StreamWrite("node-a", ANY_VERSION, (NewEvent(TYPES[0], 1, b"{}"),)))
    run = FrameRun(opened.last)
    for first in range(0, len(pieces), rows_of):
        rows, _ = run.pack(pieces[first : first + rows_of], offset_us=first)
        await log.append(frames=rows)
    return opened.last


def open_run(opening: RecordedEvent) -> Callable[[RecordedFrames], list[bytes]]:
    """Composes `{"origin","run","text"}` for each frame; refuses rows out of order, as the real one does."""
    reader = FrameReader()

    def compose(row: RecordedFrames) -> list[bytes]:
        frames = reader.unpack(row)
        return [orjson.dumps({"origin": opening.origin, "run": opening.position, "text": f.decode()}) for f in frames]

    return compose


@asynccontextmanager
async def relaying(
    log: SQLiteLog,
    data_dir: Path,
    server: Natsd,
    *,
    connect: Callable[[Sequence[str]], Awaitable[JetStream]] = JetStream.connect,
    check_s: float = 0.2,
    origin: str | None = None,
    take: Take | None = None,
    run_of: RunOf = lambda event: None,
) -> AsyncIterator[Relay]:
    """A running relay that hears of every commit."""

    async def servers() -> list[str]:
        return [server.url]

    reader = Reader(data_dir)
    relay = Relay(
        reader, origin=origin or log.origin, types=TYPES, frames_type=FRAMES, open_run=open_run, servers=servers,
        connect=connect, check_s=check_s, take=take, run_of=run_of,
    )  # fmt: skip
    heard = log.on_commit

    def tell(head: int) -> None:
        relay.advance(head)
        if heard:
            heard(head)

    log.on_commit = tell
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        log.on_commit = heard
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        relay.close()
        reader.close()


async def until(met: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not met():
            await asyncio.sleep(0.01)
    assert met(), what


async def messages(server: Natsd, stream: str) -> list[tuple[str, dict[str, str], bytes]]:
    """(subject, headers, payload) of everything in a stream, in its order."""
    client = await nats.connect(server.url)
    try:
        js = client.jetstream()
        total = (await js.stream_info(stream)).state.messages
        subscription = await js.subscribe("abstractcore.events.>", stream=stream, ordered_consumer=True)
        found = [await subscription.next_msg(timeout=10) for _ in range(total)]
        return [(m.subject, m.headers or {}, m.data) for m in found]
    finally:
        await client.close()


async def ledger_faults(server: Natsd, data_dir: Path) -> list[str]:
    """What LEDGER lacks, has twice, has in the wrong order or has otherwise than the log; empty if nothing."""
    expected: dict[str, list[tuple[int, str, bytes, str]]] = {}
    with Reader(data_dir) as reader:
        for row in reader.rows(frames=False):
            assert isinstance(row, RecordedEvent)
            subject = f"abstractcore.events.{row.type}.{row.origin}"
            expected.setdefault(row.origin, []).append((row.oseq, subject, row.data, row.digest.hex()))
    stored: dict[str, list[tuple[int, str, bytes, str]]] = {}
    for subject, headers, data in await messages(server, "LEDGER"):
        origin = subject.rpartition(".")[2]
        stored.setdefault(origin, []).append((int(headers[OSEQ]), subject, data, headers[DIGEST]))
    return [
        f"{origin}: {len(stored.get(origin, []))} stored, {len(expected.get(origin, []))} recorded"
        for origin in expected.keys() | stored.keys()
        if stored.get(origin) != expected.get(origin)
    ]


async def stored_pieces(server: Natsd) -> list[tuple[int, int, str]]:
    """(position, frame, text) of every frame in TOKENS, in its order."""
    return [
        (int(headers[POSITION]), int(headers[FRAME]), orjson.loads(data)["text"])
        for _, headers, data in await messages(server, "TOKENS")
    ]
