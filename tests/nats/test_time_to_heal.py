"""What it costs to make a copy whole again: little more than to publish it. Counted is the relay's processor time, as
no clock knows what else the machine does; the seconds are printed (`pytest -m soak -s`)."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nats
import pytest

from eventstore.jetstream import JetStream, Message
from eventstore.sqlite import SQLiteLog
from tests.eventstore.relay_rig import append, relaying, until
from tests.eventstore.test_relay import Deaf
from tests.nats.check import Copy
from tests.nats.test_damage import blocks, flip
from tests.natsd import Natsd

DEARER = 4.0
"""How many times the cost of publishing all of it; measured: up to 1.4."""
EVENTS = pytest.mark.parametrize("events", [2_000, pytest.param(100_000, marks=pytest.mark.soak)])


class Single(JetStream):
    """The deliberate bug: a message at a time."""

    async def publish_batch(self, messages: Sequence[Message], fence: str, last_sequence: int) -> int:
        for message in messages:
            last_sequence = await super().publish_batch([message], fence, last_sequence)
        return last_sequence


class Cost:
    """Of a block: seconds of the processor and of the clock."""

    def __enter__(self) -> Cost:
        self._began = time.process_time(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.work_s, self.took_s = time.process_time() - self._began[0], time.monotonic() - self._began[1]


def wiped(server: Natsd, copied: Path) -> None:
    server.wipe()


def one_bit(server: Natsd, copied: Path) -> None:
    flip(server, "LEDGER", 0.4)


def one_bit_and_no_index(server: Natsd, copied: Path) -> None:
    flip(server, "LEDGER", 0.4)
    (blocks(server, "LEDGER") / "index.db").unlink()


def set_back(server: Natsd, copied: Path) -> None:
    """To half of it."""
    server.wipe()
    shutil.copytree(copied, server.store)


Damage = Callable[[Natsd, Path], None]


async def dearness(
    log: SQLiteLog, data_dir: Path, server: Natsd, events: int, damage: Damage, heals_over: type[JetStream]
) -> float:
    """How many times dearer than to publish it."""
    copied = server.directory / "copied"
    with Cost() as publishing:
        async with relaying(log, data_dir, server) as relay:
            for half in range(2):
                if half:
                    await asyncio.to_thread(copy_of, server, copied)
                await append(log, events // 2, size=300)
                assert await relay.flush(60)
    server.terminate()
    damage(server, copied)
    server.start()
    with Cost() as healing:
        async with relaying(log, data_dir, server, connect=heals_over.connect) as relay:
            await published_anew(server, events, after=events if damage is one_bit else 0)
            assert await relay.flush(60)
    told(damage.__name__, events, publishing, healing)
    return healing.work_s / publishing.work_s


def copy_of(server: Natsd, copied: Path) -> None:
    """Put a copy of its store aside."""
    server.terminate()
    shutil.copytree(server.store, copied)
    server.start()


def told(damage: str, events: int, publishing: Cost, healing: Cost) -> None:
    print(
        f"\n{damage}: {events} events whole again after {healing.took_s:.1f} s; {healing.work_s:.1f} s of work, "
        f"{healing.work_s / publishing.work_s:.1f} times that of publishing them"
    )


@EVENTS
@pytest.mark.parametrize("damage", [wiped, one_bit, one_bit_and_no_index, set_back])
async def test_to_heal_costs_little_more_than_to_publish(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy, damage: Damage, events: int
) -> None:
    assert await dearness(log, data_dir, server, events, damage, JetStream) < DEARER
    assert await copy.healed(lambda: server.url) == []


async def test_a_relay_that_sends_them_one_by_one_is_caught(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    assert await dearness(log, data_dir, server, 500, wiped, Single) > DEARER


async def test_so_it_does_after_answers_were_lost(log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy) -> None:
    """Each that is lost costs a new connection, which reads back what is there: of few, little."""
    events = 2_000
    await append(log, events, size=300)
    with Cost() as publishing:
        async with relaying(log, data_dir, server) as relay:
            assert await relay.flush(60)
    server.kill()
    server.wipe()
    server.start()
    with Cost() as healing:
        async with relaying(log, data_dir, server, connect=Deaf.connect) as relay:
            assert await relay.flush(60)
    told("every other answer lost", events, publishing, healing)
    assert healing.work_s < DEARER * publishing.work_s
    assert await copy.healed(lambda: server.url) == []


@EVENTS
async def test_and_where_there_was_no_room(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy, events: int
) -> None:
    async with relaying(log, data_dir, server) as relay:
        with Cost() as publishing:
            await append(log, events // 2, size=300)
            assert await relay.flush(60)
        await limited(server, events // 2)
        await append(log, events // 2, size=300)
        await until(lambda: relay.status.state == "full", "there is no room")
        await limited(server, -1)
        with Cost() as healing:
            assert await relay.flush(60)
    told("no room for half of it", events // 2, publishing, healing)
    assert healing.work_s < DEARER * publishing.work_s
    assert await copy.healed(lambda: server.url) == []


async def limited(server: Natsd, messages: int) -> None:
    """LEDGER takes no more than these."""
    client = await nats.connect(server.url)
    config = (await client.jetstream().stream_info("LEDGER")).config
    await client.jetstream().update_stream(config.evolve(max_msgs=messages))
    await client.close()


async def published_anew(server: Natsd, events: int, after: int) -> None:
    """Wait until the stream holds as many events as there are, all of them later than this sequence."""
    client = await nats.connect(server.url)
    try:
        async with asyncio.timeout(60):
            while True:
                names = await client.jetstream().streams_info()
                states = [info.state for info in names if info.config.name == "LEDGER"]
                if states and states[0].messages >= events and states[0].first_seq > after:
                    return
                await asyncio.sleep(0.05)
    finally:
        await client.close()
