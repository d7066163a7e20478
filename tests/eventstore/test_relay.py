"""The relay against a real nats-server: every event once, in order, whatever becomes of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import nats
import orjson
import pytest

from eventstore.jetstream import JetStream, Message, NoAnswer, Stored, WrongLastSequence
from eventstore.relay import Relay
from eventstore.relay_messages import POSITION, WHOLE
from eventstore.sqlite import SQLiteLog
from tests.eventstore.archiver import Small, dropped, leaves_open, sealed
from tests.eventstore.relay_rig import (
    append,
    append_run,
    ledger_faults,
    messages,
    relaying,
    stored_pieces,
    until,
)
from tests.natsd import Natsd


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Natsd]:
    server = Natsd(tmp_path / "nats")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def log(data_dir: Path) -> AsyncIterator[SQLiteLog]:
    log = await SQLiteLog.open(data_dir, durability="process")
    yield log
    await log.close()


class Unfenced(JetStream):
    """The deliberate bug: a batch that goes in whatever is there."""

    async def publish_batch(self, messages: Sequence[Message], fence: str, last_sequence: int) -> int:
        while True:
            try:
                return await super().publish_batch(messages, fence, last_sequence)
            except WrongLastSequence as e:
                last_sequence = int(str(e).rpartition(" ")[2])


class Remembering(Unfenced):
    """The deliberate bug: a relay that trusts what it once stored, and does not ask."""

    remembered: dict[str, Stored]

    async def publish_batch(self, messages: Sequence[Message], fence: str, last_sequence: int) -> int:
        sequence = await super().publish_batch(messages, fence, last_sequence)
        self.remembered[fence] = Stored(sequence, messages[-1].subject, messages[-1].headers)
        return sequence

    async def last(self, stream: str, subject: str) -> Stored | None:
        return self.remembered.get(subject) if stream == "LEDGER" else await super().last(stream, subject)

    async def subjects(self, stream: str, subject: str) -> dict[str, int]:
        found = await super().subjects(stream, subject)
        return found | {stored.subject: 1 << 30 for stored in self.remembered.values()}

    async def read(self, stream: str, sequence: int, limit: int) -> list[Stored]:
        return list(self.remembered.values())


class Impatient(JetStream):
    """Gives a server less time to answer, so that a test need not wait."""

    answer_timeout_s = 0.3


class Deaf(JetStream):
    """Loses every other answer: the batch is stored, and the sender never hears of it."""

    heard = 0

    async def publish_batch(self, messages: Sequence[Message], fence: str, last_sequence: int) -> int:
        sequence = await super().publish_batch(messages, fence, last_sequence)
        Deaf.heard += 1
        if Deaf.heard % 2:
            raise NoAnswer("the answer was lost")
        return sequence


async def test_publishes_every_event_once_and_in_order(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    await append(log, 1_234)
    async with relaying(log, data_dir, server) as relay:
        await append(log, 600)
        assert await relay.flush(60)
        assert relay.status.state == "live"
        assert relay.status.ledger_position == relay.status.tokens_position == 1_834
        assert await ledger_faults(server, data_dir) == []


async def test_publishes_a_message_a_frame(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    generation = await append_run(log, [b"one", b"two", b"three", b"four"])
    async with relaying(log, data_dir, server) as relay:
        assert await relay.flush(60)
        assert await stored_pieces(server) == [
            (generation + 1, 1, "one"),
            (generation + 1, 2, "two"),
            (generation + 1, 3, "three"),
            (generation + 2, 4, "four"),
        ]
        assert await ledger_faults(server, data_dir) == []


async def test_a_run_goes_on_where_an_earlier_relay_stopped(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    await append_run(log, [b"%d" % n for n in range(30)])
    half = await append_run(log, [b"a", b"b", b"c", b"d"])
    async with relaying(log, data_dir, server) as relay:
        assert await relay.flush(60)
    client = await nats.connect(server.url)
    info = await client.jetstream().stream_info("TOKENS")
    for sequence in (info.state.last_seq, info.state.last_seq - 1):  # the newest that is left is the run's second
        await client.jetstream().delete_msg("TOKENS", sequence)
    await client.close()
    async with relaying(log, data_dir, server) as relay:
        assert await relay.flush(60)
        assert (await stored_pieces(server))[-4:] == [
            (half + 1, 1, "a"), (half + 1, 2, "b"), (half + 1, 3, "c"), (half + 2, 4, "d"),
        ]  # fmt: skip


async def test_what_was_archived_unpublished_is_published(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    await append(log, 300)
    async with relaying(log, data_dir, server) as relay:
        assert await relay.flush(60)
    await append(log, 300)
    await append_run(log, [b"one", b"two"])
    await Small(log, data_dir, leaves_open, sealed, dropped).archive(1 << 62)
    async with relaying(log, data_dir, server) as relay:
        assert await relay.flush(60)
        assert await ledger_faults(server, data_dir) == []
        assert [text for *_, text in await stored_pieces(server)] == ["one", "two"]
        assert relay.status.state == "live"


async def test_heals_when_the_server_is_killed_midway(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    async with relaying(log, data_dir, server) as relay:
        for _ in range(3):
            await append(log, 700)
            await _killed(server, relay)
            await append(log, 50)
            assert relay.status.lag_events > 0
            server.start()
        assert await relay.flush(60)
        assert await ledger_faults(server, data_dir) == []


async def test_starts_without_a_server(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    server.kill()
    async with relaying(log, data_dir, server) as relay:
        await append(log, 10)
        await until(lambda: relay.status.last_error is not None, "the missing server is told")
        assert relay.status.state == "down"
        assert "secret-of-the-test" not in str(relay.status)
        server.start()
        assert await relay.flush(60)
        assert await ledger_faults(server, data_dir) == []


async def test_a_server_that_hangs_is_left(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    async with relaying(log, data_dir, server, connect=Impatient.connect) as relay:
        await append(log, 100)
        assert await relay.flush(60)
        server.freeze()
        await append(log, 1_000, size=5_000)  # more than the sockets between us hold
        await until(lambda: relay.status.state == "down", "the silence is seen")
        server.kill()
        server.start()
        assert await relay.flush(60)
        assert await ledger_faults(server, data_dir) == []


async def test_ends_when_told_to_while_a_server_hangs(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    """The client swallows a cancellation that reaches it while it flushes; ours must get through all the same."""
    async with AsyncExitStack() as running:
        relay = await running.enter_async_context(relaying(log, data_dir, server))
        await append(log, 1)
        assert await relay.flush(60)
        server.freeze()
        await append(log, 2_000, size=5_000)  # more than the sockets between us hold
        await asyncio.sleep(0.3)
        assert relay.status.lag_events > 0
        async with asyncio.timeout(8):
            await running.aclose()


async def test_lost_answers_lose_and_double_nothing(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    async with relaying(log, data_dir, server, connect=Deaf.connect) as relay:
        for _ in range(4):
            await append(log, 200)
        assert await relay.flush(60)
        assert await ledger_faults(server, data_dir) == []


async def _killed(server: Natsd, relay: Relay) -> None:
    server.kill()
    await until(lambda: relay.status.state == "down", "the loss is seen")


async def _wiped(log: SQLiteLog, data_dir: Path, server: Natsd, connect: Any) -> list[str]:
    async with relaying(log, data_dir, server, connect=connect) as relay:
        await append(log, 300)
        assert await relay.flush(60)
        await _killed(server, relay)
        server.wipe()
        server.start()
        await until(lambda: relay.status.state == "live", "connected again")
        await append(log, 5)
        assert await relay.flush(60)
        return await ledger_faults(server, data_dir)


async def test_heals_a_wiped_server(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    assert await _wiped(log, data_dir, server, JetStream.connect) == []


async def test_heals_a_server_that_was_rolled_back(
    log: SQLiteLog, data_dir: Path, server: Natsd, tmp_path: Path
) -> None:
    async with relaying(log, data_dir, server) as relay:
        await append(log, 120)
        assert await relay.flush(60)
        await _killed(server, relay)
        server.store.rename(tmp_path / "old")
        server.start()
        await until(lambda: relay.status.state == "live", "connected again")
        await append(log, 30)
        assert await relay.flush(60)
        await _killed(server, relay)
        server.wipe()
        (tmp_path / "old").rename(server.store)
        server.start()
        await until(lambda: relay.status.state == "live", "connected again")
        assert await relay.flush(60)
        assert await ledger_faults(server, data_dir) == []


@pytest.mark.parametrize("damage", ["purge", "delete", "hole"])
async def test_heals_a_stream_that_somebody_emptied(log: SQLiteLog, data_dir: Path, server: Natsd, damage: str) -> None:
    async with relaying(log, data_dir, server) as relay:
        await append(log, 100)
        assert await relay.flush(60)
        client = await nats.connect(server.url)
        if damage == "purge":
            await client.jetstream().purge_stream("LEDGER")
        elif damage == "delete":
            await client.jetstream().delete_stream("LEDGER")
        else:
            await client.jetstream().delete_msg("LEDGER", 50)
            server.kill()
            server.start()
        await client.close()
        async with asyncio.timeout(60):
            while await _faults_or_absent(server, data_dir):
                await asyncio.sleep(0.1)


async def _faults_or_absent(server: Natsd, data_dir: Path) -> bool:
    try:
        return bool(await ledger_faults(server, data_dir))
    except (nats.errors.Error, OSError):
        return True


async def test_publishes_earlier_incarnations_first(data_dir: Path, server: Natsd) -> None:
    for _ in range(3):
        log = await SQLiteLog.open(data_dir, durability="process")
        await append(log, 40)
        await append_run(log, [b"x", b"y"])
        await log.close()
    log = await SQLiteLog.open(data_dir, durability="process")
    try:
        await append(log, 3)
        async with relaying(log, data_dir, server) as relay:
            assert await relay.flush(60)
            assert await ledger_faults(server, data_dir) == []
            assert len(await stored_pieces(server)) == 6
    finally:
        await log.close()


async def test_an_event_too_large_goes_out_as_a_stub(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    await append(log, 3)
    await append(log, 1, size=2 << 20)
    await append(log, 1, size=(1 << 20) - 2048 - 300)  # just under the limit, or just over: both must do
    await append(log, 3)
    async with relaying(log, data_dir, server) as relay:
        assert await relay.flush(60)
        stored = await messages(server, "LEDGER")
        assert [int(headers[POSITION]) for _, headers, _ in stored] == list(range(1, 9))
        (stub,) = [(headers, orjson.loads(data)) for _, headers, data in stored if WHOLE in headers]
        assert int(stub[0][WHOLE]) > 2 << 20
        assert stub[1].keys() == {"type", "schema", "stream", "version", "origin", "oseq", "time"}
        assert stub[1]["oseq"] == 4


async def test_a_full_stream_waits_and_loses_nothing(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    await append(log, 10)
    async with relaying(log, data_dir, server) as relay:
        assert await relay.flush(60)
        await _limit(server, 60)
        await append(log, 200)
        await append_run(log, [b"still heard"])
        await until(lambda: relay.status.state == "full", "the full stream is told")
        assert "exceeded" in (relay.status.last_error or "")
        await until(lambda: relay.status.tokens_position == 212, "the other lane goes on")
        await _limit(server, -1)
        assert await relay.flush(60)
        assert await ledger_faults(server, data_dir) == []


async def _limit(server: Natsd, messages: int) -> None:
    client = await nats.connect(server.url)
    config = (await client.jetstream().stream_info("LEDGER")).config
    await client.jetstream().update_stream(config.evolve(max_msgs=messages))
    await client.close()


async def _two_relays(log: SQLiteLog, data_dir: Path, server: Natsd, connect: Any) -> list[str]:
    async with (
        relaying(log, data_dir, server, connect=connect) as one,
        relaying(log, data_dir, server, connect=connect) as two,
    ):
        await append(log, 1)
        assert await one.flush(60)
        assert await two.flush(60)
        for _ in range(10):  # both are there by now
            await append(log, 100)
        assert await one.flush(60)
        assert await two.flush(60)
        return await ledger_faults(server, data_dir)


async def test_two_relays_of_one_log_double_nothing(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    assert await _two_relays(log, data_dir, server, JetStream.connect) == []


async def test_without_the_fence_two_relays_double_events(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    assert await _two_relays(log, data_dir, server, Unfenced.connect) != []


async def test_without_asking_the_server_a_wipe_loses_events(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    Remembering.remembered = {}
    assert await _wiped(log, data_dir, server, Remembering.connect) != []


async def test_a_message_that_no_relay_wrote_stops_us(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    async with relaying(log, data_dir, server) as relay:
        await append(log, 2)
        assert await relay.flush(60)
        client = await nats.connect(server.url)
        await client.jetstream().publish(f"abstractcore.events.thing_done.{log.origin}", b"?")
        await client.close()
        await until(lambda: relay.status.state == "fenced", "we stop")


async def test_frames_that_cannot_be_composed_cost_their_run_alone(
    log: SQLiteLog, data_dir: Path, server: Natsd
) -> None:
    await append_run(log, [b"one"])
    await append_run(log, [b"not utf-8: \xff", b"two", b"three", b"four"])
    await append_run(log, [b"five"])
    async with relaying(log, data_dir, server) as relay:
        assert await relay.flush(60)
        assert [text for _, _, text in await stored_pieces(server)] == ["one", "five"]
        assert relay.status.failed_runs == 1
        assert await ledger_faults(server, data_dir) == []


async def test_a_zombie_with_our_identity_stops_us(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    async with relaying(log, data_dir, server) as relay:
        await append(log, 20)
        assert await relay.flush(60)
        await _forge(server, log.origin, 21, {"Abstractcore-Digest": "00" * 32})
        await append(log, 5)
        await until(lambda: relay.status.state == "fenced", "we stop")
        assert "never recorded" in (relay.status.last_error or "")
        assert not await relay.flush(0.1)
    stored = await messages(server, "LEDGER")
    assert len(stored) == 21, "nothing of ours after the other's event"


async def test_an_earlier_origin_with_more_than_we_have_is_left_alone(data_dir: Path, server: Natsd) -> None:
    earlier = await SQLiteLog.open(data_dir, durability="process")
    await append(earlier, 5)
    await earlier.close()
    log = await SQLiteLog.open(data_dir, durability="process")
    try:
        async with relaying(log, data_dir, server) as relay:
            assert await relay.flush(60)
            await _forge(server, earlier.origin, 6, {"Abstractcore-Digest": "00" * 32})
        async with relaying(log, data_dir, server) as relay:
            await append(log, 5)
            assert await relay.flush(60)
            assert relay.status.foreign == 1
            assert len(await messages(server, "LEDGER")) == 11
    finally:
        await log.close()


async def _forge(server: Natsd, origin: str, oseq: int, headers: Mapping[str, str]) -> None:
    client = await nats.connect(server.url)
    await client.jetstream().publish(
        f"abstractcore.events.thing_done.{origin}",
        b"{}",
        headers={"Abstractcore-Oseq": str(oseq), "Abstractcore-Position": str(oseq), **headers},
    )
    await client.close()
