"""What the store on the disk may suffer: bits that turn over, old copies, a wipe under the running server, no room."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import attrgetter
from pathlib import Path

import pytest

from eventstore.jetstream import JetStream, Stored
from eventstore.sqlite import SQLiteLog
from gateway.follower.process import mind
from gateway.follower.stuck import Stuck
from gateway.nats_server import NatsServer
from tests.eventstore.relay_rig import append, append_run, relaying, until
from tests.nats.check import Copy
from tests.natsd import Natsd

STREAMS = ("LEDGER", "TOKENS")
SEVERAL_BLOCKS = 10_000
"""A size of events and frames of which the server needs more than one file; it begins another after 8 MB."""


class Trusting(JetStream):
    """The deliberate bug: a relay that believes the server's index, and reads nothing back."""

    async def read(self, stream: str, sequence: int, limit: int) -> list[Stored]:
        newest = [await self.last(stream, subject) for subject in await self.subjects(stream, "abstractcore.events.>")]
        return sorted((stored for stored in newest if stored), key=attrgetter("sequence"))[-1:]


class Impatient(JetStream):
    """Gives a server less time to answer, so that a test need not wait."""

    answer_timeout_s = 0.5


def blocks(server: Natsd, stream: str) -> Path:
    """Where the server keeps a stream's messages."""
    return next(server.store.rglob(f"streams/{stream}/msgs"))


def flip(server: Natsd, stream: str, where: float) -> None:
    """Turn one bit over in a message's payload, so far into the stream's first block; at 1 in the last message."""
    block = first_block(server.store, stream)
    data = bytearray(block.read_bytes())
    padding = b"x" * 50
    data[data.rindex(padding, 0, max(int(len(data) * where), data.index(padding) + 50))] ^= 1
    block.write_bytes(data)


def first_block(store: Path, stream: str) -> Path:
    """The first file of a stream's messages: one record after the other."""
    return min(store.rglob(f"streams/{stream}/msgs/*.blk"), key=lambda file: int(file.stem))


def flip_sequence(store: Path) -> None:
    """Turn bit 40 of a number in the ledger: nats-server then believes that a million million messages are missing.

    A record is its length (4 bytes, of which the highest bit says that there are headers), its sequence number (8), …:
    `server/filestore.go` of nats-server 2.
    """
    block = first_block(store, "LEDGER")
    data = bytearray(block.read_bytes())
    second = int.from_bytes(data[:4], "little") & 0x7FFFFFFF
    data[second + 4 + 5] ^= 1
    block.write_bytes(data)


async def filled(log: SQLiteLog, data_dir: Path, server: Natsd, size: int = 500) -> None:
    """A log of some events and frames of this size, in a server that is stopped then."""
    async with relaying(log, data_dir, server) as relay:
        for run in range(5):
            await append(log, 300, size=size)
            await append_run(log, [b"%d: %d %s" % (run, n, b"x" * size) for n in range(200)])
        assert await relay.flush(20)
    server.terminate()


async def healed_of_rot(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy, where: float, *, index: bool, size: int = 500,
    within_s: float = 30.0, relay_over: type[JetStream] = JetStream,
) -> list[str]:  # fmt: skip
    """The faults that stay after a bit of each stream has turned over, and the index is lost or not."""
    await filled(log, data_dir, server, size)
    for stream in STREAMS:
        flip(server, stream, where)
        if not index:
            (blocks(server, stream) / "index.db").unlink()
    server.start()
    assert await copy.faults(server.url), "nothing is broken"
    async with relaying(log, data_dir, server, connect=relay_over.connect) as relay:
        found = await copy.healed(lambda: server.url, within_s)
        if not found:
            await append(log, 10)
            assert await relay.flush(20)
            found = await copy.faults(server.url)
        return found


@pytest.mark.parametrize("index", [True, False], ids=["with its index", "without"])
@pytest.mark.parametrize("where", [0.0005, 0.4, 1], ids=["first", "middle", "last"])
async def test_heals_bit_rot(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy, where: float, index: bool
) -> None:
    assert await healed_of_rot(log, data_dir, server, copy, where, index=index) == []


async def test_heals_bit_rot_before_a_block_that_is_sound(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy
) -> None:
    """Without an index the server drops the rest of the damaged block, and goes on with the next."""
    assert await healed_of_rot(log, data_dir, server, copy, 0.4, index=False, size=SEVERAL_BLOCKS) == []


@pytest.mark.parametrize(("index", "size"), [(True, 500), (False, SEVERAL_BLOCKS)], ids=["with its index", "without"])
async def test_without_reading_back_bit_rot_stays(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy, index: bool, size: int
) -> None:
    assert await healed_of_rot(
        log, data_dir, server, copy, 0.4, index=index, size=size, within_s=3, relay_over=Trusting
    )  # fmt: skip


async def test_another_log_s_messages_stay_where_ours_are_published_anew(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy, tmp_path: Path
) -> None:
    other = await SQLiteLog.open(tmp_path / "other", durability="process")
    try:
        async with relaying(other, tmp_path / "other", server) as relay:
            await append(other, 50)
            assert await relay.flush(20)
        await filled(log, data_dir, server)
        flip(server, "LEDGER", 0.4)
        server.start()
        async with relaying(log, data_dir, server):
            await until_faults_are_of(copy, server, other.origin)
    finally:
        await other.close()


async def until_faults_are_of(copy: Copy, server: Natsd, origin: str) -> None:
    """Wait until the only thing wrong is that somebody else's 50 events are there too."""
    async with asyncio.timeout(20):
        while await copy.faults(server.url) != [f"LEDGER has 50 of {origin}, the log 0"]:
            await asyncio.sleep(0.2)


async def test_heals_a_server_that_was_rolled_back(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy, tmp_path: Path
) -> None:
    await filled(log, data_dir, server)
    shutil.copytree(server.store, tmp_path / "old")
    server.start()
    async with relaying(log, data_dir, server) as relay:
        await append(log, 300)
        await append_run(log, [b"later %d" % n for n in range(100)])
        assert await relay.flush(20)
        server.kill()
        server.wipe()
        (tmp_path / "old").rename(server.store)
        server.start()
        await append(log, 10)
        assert await copy.healed(lambda: server.url) == []


async def test_one_stream_without_room_leaves_the_other_alone(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy
) -> None:
    """The disk that the server may use is too small for TOKENS to be made at all."""
    server.kill()
    server.limits = "max_file_store: 64MB"
    server.start()
    async with relaying(log, data_dir, server) as relay:
        await append(log, 200)
        await append_run(log, [b"heard", b"later"])
        await until(lambda: relay.status.ledger_position == 202, "the ledger is there")
        assert relay.status.state == "full"
        assert await copy.faults(server.url) == [f"TOKENS has 0 of {log.origin}, the log 2"]
        server.kill()
        server.limits = ""
        server.start()
        assert await copy.healed(lambda: server.url) == []
        assert relay.status.state == "live"


class Embedded:
    """The bundled server under its supervisor, as something with a `url`."""

    url = ""

    def __init__(self, supervised: NatsServer) -> None:
        self.supervised = supervised

    async def find(self) -> str:
        self.url = await self.supervised.address()
        return self.url


@asynccontextmanager
async def embedded(data_dir: Path, kind: type[NatsServer] = NatsServer) -> AsyncIterator[Embedded]:
    supervised = kind(data_dir)
    running = asyncio.create_task(supervised.run())
    server = Embedded(supervised)
    try:
        async with asyncio.timeout(40):
            await server.find()
        yield server
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await supervised.stop()


async def wiped_under_it(log: SQLiteLog, data_dir: Path, copy: Copy, *, minded: bool, within_s: float) -> list[str]:
    """The faults that stay after the store was deleted under a running server that then needs a new file."""
    async with (
        embedded(data_dir) as server,
        relaying(log, data_dir, server, connect=Impatient.connect) as relay,  # type: ignore[arg-type]  # it has the url
    ):
        minding = asyncio.create_task(mind(server.supervised, relay, Stuck(1.0 if minded else 1e9)))
        await append(log, 500)
        assert await relay.flush(20)
        shutil.rmtree(server.supervised.files.store)
        await append(log, 200, size=50_000)
        found = await copy.healed(lambda: server.url, within_s)
        minding.cancel()
        return found


async def test_heals_a_store_that_was_wiped_under_the_running_server(
    log: SQLiteLog, data_dir: Path, copy: Copy
) -> None:
    assert await wiped_under_it(log, data_dir, copy, minded=True, within_s=30) == []


async def test_a_server_that_nobody_minds_stays_broken(log: SQLiteLog, data_dir: Path, copy: Copy) -> None:
    assert await wiped_under_it(log, data_dir, copy, minded=False, within_s=4)


class Hasty(NatsServer):
    """Waits less long for a child that hangs, so that a test need not wait."""

    patience_s = (1.0, 1.5, 3.0)


class Faithful(Hasty):
    """The deliberate bug: a supervisor that never gives its store up."""

    doubts = 0

    async def _doubt_the_store(self) -> None:
        self.doubts += 1


async def unreadable_store(log: SQLiteLog, data_dir: Path) -> None:
    """A log and its copy in the bundled server, of which the server cannot read its own any more."""
    async with embedded(data_dir) as server, relaying(log, data_dir, server) as relay:  # type: ignore[arg-type]  # it has the url
        await append(log, 300)
        await append_run(log, [b"heard", b"later"])
        assert await relay.flush(20)
        store = server.supervised.files.store
    flip_sequence(store)


async def test_a_store_that_no_server_can_read_is_set_aside_and_filled_anew(
    log: SQLiteLog, data_dir: Path, copy: Copy
) -> None:
    await unreadable_store(log, data_dir)
    async with embedded(data_dir, Hasty) as server, relaying(log, data_dir, server):  # type: ignore[arg-type]  # it has the url
        assert await copy.healed(lambda: server.url) == []
        assert first_block(server.supervised.files.broken, "LEDGER").exists(), "kept for whoever wants to know"


async def test_a_supervisor_that_never_gives_its_store_up_has_no_server(log: SQLiteLog, data_dir: Path) -> None:
    await unreadable_store(log, data_dir)
    faithful = Faithful(data_dir)
    running = asyncio.create_task(faithful.run())
    try:
        await until(lambda: faithful.doubts > len(Hasty.patience_s), "it tries once more than it should")
        assert faithful.url is None
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await faithful.stop()
