"""A log that was restored from an older copy gets its history back from JetStream, and nothing that is not its own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import nats
import orjson

from eventstore.envelope import ANY_VERSION, NewEvent, Recorded, RecordedEvent, RecordedFrames, StreamWrite
from eventstore.frames import FrameRun
from eventstore.ingest import Intake, PulledEvent, Taken
from eventstore.ingest_pull import PIECE_EVENTS
from eventstore.reader import Reader
from eventstore.relay import Relay
from eventstore.relay_messages import DIGEST, OSEQ, POSITION
from eventstore.sqlite import SQLiteLog
from eventstore.verify import RunClosed, RunOpened, verify
from eventstore.writer import Writer
from tests.eventstore.relay_rig import FRAMES, TYPES, ledger_faults, open_run, relaying
from tests.nats.check import Copy
from tests.natsd import Natsd


class Trusting(Intake):
    """Deliberate bug: takes an event's place in its chain on trust."""

    def _follows(self, event: PulledEvent, oseq: int, digest: bytes) -> bool:
        return event.oseq == oseq + 1


class TrustingWriter(Writer):
    intake = Trusting


class TrustingLog(SQLiteLog):
    writer = TrustingWriter


def run_of(event: RecordedEvent) -> RunOpened | RunClosed | None:
    body = event.body
    if body.get("run") == "opens":
        return RunOpened(event.stream)
    if "frames_digest" in body:
        return RunClosed(event.stream, body["frames"], body["frames_digest"])
    return None


async def append(log: SQLiteLog, count: int) -> None:
    """Events of the incarnation itself, as a server's are: no other writes on their stream."""
    events = tuple(NewEvent(TYPES[n % 2], 1, b'{"n":%d}' % n) for n in range(count))
    await log.append(StreamWrite(f"node-{log.origin}", ANY_VERSION, events))


async def told(log: SQLiteLog, name: str, pieces: Sequence[bytes], *, closed: bool = True) -> None:
    """A stream with one run: opened, heard, and closed."""
    opened = await log.append(StreamWrite(name, 0, (NewEvent(TYPES[0], 1, b'{"run":"opens"}'),)))
    run = FrameRun(opened.last)
    for first in range(0, len(pieces), 3):
        await log.append(frames=run.pack(pieces[first : first + 3], offset_us=first)[0])
    if closed:
        end = orjson.dumps({"frames": run.count, "frames_digest": run.digest})
        await log.append(StreamWrite(name, 1, (NewEvent(TYPES[1], 1, end),)))


@asynccontextmanager
async def pulling(log: SQLiteLog, data_dir: Path, server: Natsd) -> AsyncIterator[Relay]:
    """A relay that has compared, and is at the head."""
    async with relaying(log, data_dir, server, take=log.ingest, run_of=run_of) as relay:
        assert await relay.flush(60)
        yield relay


async def lived(data_dir: Path, server: Natsd, *, lives: int = 2) -> None:
    """Some incarnations, copied away (to `older`) in the midst of the first, all in JetStream."""
    for life in range(lives):
        log = await SQLiteLog.open(data_dir, durability="process")
        await append(log, 7)
        await told(log, f"run-{life}", [b"%d" % n for n in range(20)])
        async with pulling(log, data_dir, server):
            if life == 0:
                await asyncio.to_thread(_copied, data_dir)
            await told(log, f"later-{life}", [b"word %d" % n for n in range(8)])
            await append(log, 5)
            await told(log, f"last-{life}", [b"left", b"open"], closed=False)
        async with pulling(log, data_dir, server):
            pass
        await log.close()


def _copied(data_dir: Path) -> None:
    older = data_dir.with_name("older")
    older.mkdir()
    for file in data_dir.glob("events.db*"):
        shutil.copy(file, older)


def restored(data_dir: Path) -> list[Recorded]:
    """Put the older copy back; what was there before it."""
    rows = rows_of(data_dir)
    shutil.rmtree(data_dir)
    data_dir.with_name("older").rename(data_dir)
    return rows


def rows_of(data_dir: Path) -> list[Recorded]:
    with Reader(data_dir) as reader:
        return list(reader.rows())


def said(rows: Sequence[Recorded], but: str = "") -> list[object]:
    """Rows without what a new position changes: by origin, the events; and by run, the frames."""
    events = {row.position: row for row in rows if isinstance(row, RecordedEvent)}
    found: list[tuple[object, ...]] = []
    for row in rows:
        if isinstance(row, RecordedFrames):
            opening = events[row.generation]
            found.append(("frames", opening.origin, opening.oseq, row.frame, row.count, row.offset_us, row.bytes))
        elif row.origin != but:
            found.append(("event", row.origin, row.oseq, 0, 0, 0, row.data + row.digest))
    return sorted(found, key=str)


async def test_a_restored_log_gets_its_end_back(data_dir: Path, server: Natsd) -> None:
    await lived(data_dir, server)
    before = restored(data_dir)
    log = await SQLiteLog.open(data_dir, durability="process")
    try:
        await append(log, 3)
        async with pulling(log, data_dir, server) as relay:
            now = rows_of(data_dir)
            assert said(now, log.origin) == said(before)
            assert (relay.status.foreign, relay.status.refused, relay.status.gone) == (0, [], 0)
            assert list(verify(now, run_of)) == []
            await append(log, 3)
            assert await relay.flush(60)
            assert await ledger_faults(server, data_dir) == []
            assert await Copy(data_dir, FRAMES, open_run).healed(lambda: server.url) == []
        async with pulling(log, data_dir, server) as relay:
            assert relay.status.pulled == 0, "a second look finds nothing"
    finally:
        await log.close()
    again = await SQLiteLog.open(data_dir, durability="process")
    assert again.previous is not None
    assert again.previous["origin"] == log.origin
    await again.close()


async def test_no_history_is_back_before_all_of_it_is(data_dir: Path, server: Natsd) -> None:
    """Whoever waits for it would go on in its midst."""
    log = await SQLiteLog.open(data_dir, durability="process")
    await append(log, 1)
    await asyncio.to_thread(_copied, data_dir)
    await append(log, 2 * PIECE_EVENTS)
    async with pulling(log, data_dir, server):
        pass
    await log.close()
    restored(data_dir)
    log = await SQLiteLog.open(data_dir, durability="process")
    told: list[tuple[int | None, bool]] = []

    async def take(pulled: Sequence[PulledEvent]) -> Taken:
        told.append((relay.status.pulled, relay.status.coming))
        return await log.ingest(pulled)

    try:
        await append(log, 1)
        async with relaying(log, data_dir, server, take=take, run_of=run_of) as relay:
            assert await relay.flush(60)
            assert told == [(None, True)] * 2
            assert (relay.status.pulled, relay.status.coming) == (2 * PIECE_EVENTS, False)
    finally:
        await log.close()


async def test_frames_that_jetstream_has_lost_are_told_as_gone(data_dir: Path, server: Natsd) -> None:
    await lived(data_dir, server, lives=1)
    client = await nats.connect(server.url)
    await client.jetstream().purge_stream("TOKENS")
    await client.close()
    before = restored(data_dir)
    log = await SQLiteLog.open(data_dir, durability="process")
    try:
        await append(log, 1)
        async with pulling(log, data_dir, server) as relay:
            assert relay.status.gone == 1
            events = [row for row in rows_of(data_dir) if isinstance(row, RecordedEvent)]
            assert said(events, log.origin) == [row for row in said(before) if "event" in str(row)[:8]]
    finally:
        await log.close()


async def forged(data_dir: Path, server: Natsd, kind: type[SQLiteLog]) -> tuple[list[str], list[RecordedEvent]]:
    """Somebody puts an event behind an earlier incarnation's last: what is refused, and what of it is in the log."""
    earlier = await SQLiteLog.open(data_dir, durability="process")
    await append(earlier, 5)
    async with pulling(earlier, data_dir, server):
        pass
    await earlier.close()
    data = orjson.dumps(
        {
            "type": TYPES[1], "schema": 1, "stream": "request-forged", "version": 1,
            "origin": earlier.origin, "oseq": 6, "time": "2026-01-01T00:00:00.000001Z", "text": "never said",
        }
    )  # fmt: skip
    headers = {OSEQ: "6", POSITION: "6", DIGEST: sha256(data).hexdigest()}
    client = await nats.connect(server.url)
    await client.jetstream().publish(f"abstractcore.events.{TYPES[1]}.{earlier.origin}", data, headers=headers)
    await client.close()
    log = await kind.open(data_dir, durability="process")
    try:
        await append(log, 1)
        async with pulling(log, data_dir, server) as relay:
            refused = relay.status.refused
    finally:
        await log.close()
    with Reader(data_dir) as reader:
        return refused, reader.read_stream("request-forged")


async def test_a_forged_end_is_refused_and_told(data_dir: Path, server: Natsd) -> None:
    refused, stored = await forged(data_dir, server, SQLiteLog)
    assert stored == []
    assert len(refused) == 1
    assert "event 6" in refused[0]
    assert "does not chain" in refused[0]


async def test_a_log_that_trusts_stores_the_forgery(data_dir: Path, server: Natsd) -> None:
    """The deliberate bug, and that it shows."""
    refused, stored = await forged(data_dir, server, TrustingLog)
    assert refused == []
    assert [event.body["text"] for event in stored] == ["never said"]
    assert list(verify(rows_of(data_dir), run_of)) != []


async def test_what_still_writes_in_this_nodes_name_is_no_past_of_ours(data_dir: Path, server: Natsd) -> None:
    first = await SQLiteLog.open(data_dir, durability="process")
    await append(first, 3)
    await first.close()
    shutil.copytree(data_dir, data_dir.with_name("twin"))
    ours = await SQLiteLog.open(data_dir, durability="process")
    twin = await SQLiteLog.open(data_dir.with_name("twin"), durability="process")
    try:
        await append(ours, 1)
        await twin.append(StreamWrite("node-twin", ANY_VERSION, (NewEvent(TYPES[0], 1, b"{}"),)))
        async with pulling(twin, data_dir.with_name("twin"), server):
            pass
        async with pulling(ours, data_dir, server) as relay:
            assert len(relay.status.refused) == 1
            assert relay.status.pulled == 0
    finally:
        await ours.close()
        await twin.close()
