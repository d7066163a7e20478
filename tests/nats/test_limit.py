"""Messages around the server's limit on one, byte by byte: each is there, whole or as its stub, and none stops another.

A message over `max_payload`, its headers counted, is not refused: the server ends the connection."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from eventstore.envelope import RecordedEvent
from eventstore.jetstream import HEADROOM_BYTES, JetStream, Message
from eventstore.reader import Reader
from eventstore.relay_messages import ROW, of_event
from eventstore.sqlite import SQLiteLog
from tests.eventstore.relay_rig import FRAMES, append, append_run, messages, open_run, relaying, until
from tests.gateway.raw import ask
from tests.gateway.whole import chat
from tests.nats.check import Copy, stored, tokens_of
from tests.nats.load import gateway
from tests.natsd import Natsd

LIMIT = 32 << 10
OURS = LIMIT - HEADROOM_BYTES
"""The largest message that goes out as it is."""
BESIDE = 200
"""How far below a limit the sizes begin; they end one byte above it."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Natsd]:
    """One with little room in a message."""
    server = Natsd(tmp_path / "nats", more=f"max_payload: {LIMIT}")
    server.start()
    yield server
    server.kill()


class Roomless(JetStream):
    """The deliberate bug: nothing is kept free for the headers of the batch."""

    @property
    def max_message_bytes(self) -> int:
        return super().max_message_bytes + HEADROOM_BYTES


def unweighed(message: Message) -> int:
    """Another: its headers weigh nothing."""
    return len(message.payload)


def around(limit: int, step: int = 1) -> Iterator[int]:
    """Sizes from below a limit to just above it."""
    return iter(range(limit - BESIDE, limit + 2, step))


def weights(data_dir: Path) -> Counter[int]:
    """What the log's events weigh as messages, headers and all."""
    with Reader(data_dir) as reader:
        found = (row for row in reader.rows(frames=False) if isinstance(row, RecordedEvent))
        return Counter(of_event(row).message.size for row in found)


async def append_weighing(log: SQLiteLog, sizes: Iterable[int]) -> None:
    """An event for each size, a small one behind each."""
    await append(log, 1_000)  # from here on all numbers have four digits
    await append(log, 1, size=0)
    (row,) = await log.read(await log.head() - 1, 1)
    assert isinstance(row, RecordedEvent)
    empty = of_event(row).message.size
    for size in sizes:
        await append(log, 1, size=size - empty)
        await append(log, 1)


async def events(log: SQLiteLog, data_dir: Path) -> None:
    """Of every size around both limits."""
    sizes = [*around(OURS), *around(LIMIT)]
    await append_weighing(log, sizes)
    assert weights(data_dir).keys() >= set(sizes)


async def frames(log: SQLiteLog, data_dir: Path) -> None:
    """Alone in their rows: those with room for the row beside the frame, those without, and those without for
    themselves; around each limit, some sizes."""
    alone = [*around(OURS, 7), *around(LIMIT, 7)]
    with_row = [int(size / (1 + 4 / 3)) for size in [*around(OURS - 300), *around(LIMIT - 300)]]
    await append_run(log, [os.urandom(size // 2 - 100).hex().encode() for size in [*with_row, *alone]], rows_of=1)


Fill = Callable[[SQLiteLog, Path], Awaitable[None]]


@pytest.mark.parametrize("fill", [events, frames])
async def test_every_message_around_the_limit_goes_out(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy, fill: Fill
) -> None:
    await fill(log, data_dir)
    async with relaying(log, data_dir, server) as relay:
        assert await relay.flush(60)
        assert relay.status.state == "live"
        assert await copy.faults(server.url) == []
    whole = [said for said in await stored(server.url, "LEDGER") if not said.whole]
    assert len(whole) == sum(count for size, count in weights(data_dir).items() if size <= OURS)
    assert any(said.whole for said in await stored(server.url, "TOKENS")) == (fill is frames)
    with_row = [headers for _, headers, _ in await messages(server, "TOKENS") if ROW in headers]
    assert bool(with_row) == (fill is frames)
    assert len(with_row) < len(tokens_of(data_dir, FRAMES, open_run)) or fill is events  # the others had no room for it


async def stuck(log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy, kind: type[JetStream] = JetStream) -> bool:
    """Whether a relay with a bug loses its connection again and again, and leaves something out."""
    connected = 0

    async def connect(servers: Sequence[str]) -> JetStream:
        nonlocal connected
        connected += 1
        return await kind.connect(servers)

    async with relaying(log, data_dir, server, connect=connect) as relay:
        await until(lambda: connected > 3, "the connection is lost")
        return relay.status.lag_events > 0 and await copy.faults(server.url) != []


async def test_a_relay_that_forgets_the_headers_of_the_batch_is_caught(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy
) -> None:
    await append_weighing(log, around(LIMIT, 20))
    assert await stuck(log, data_dir, server, copy, Roomless)


async def test_and_one_that_does_not_weigh_headers(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Message, "size", property(unweighed))
    await frames(log, data_dir)
    assert await stuck(log, data_dir, server, copy)


async def requests_around_the_limit(data_dir: Path, server: Natsd, step: int) -> None:
    """A real server whose events weigh so much: nothing stops its relay."""
    async with gateway(data_dir, server.url) as served:
        for limit in (OURS, LIMIT):
            for size in range(limit - 1_100, limit, step):
                body = {**chat("demo/echo"), "messages": [{"role": "user", "content": "w" * size}]}
                assert (await ask(served.url, body)).status == 200
        assert await served.copy.healed(lambda: server.url) == []
        await served.says("healthy")
    there = weights(data_dir)
    assert all(any(there[size] for size in around(limit)) for limit in (OURS, LIMIT))


async def test_a_server_s_events_of_many_sizes_around_the_limit_go_out(data_dir: Path, server: Natsd) -> None:
    await requests_around_the_limit(data_dir, server, 20)


@pytest.mark.soak
async def test_and_those_of_every_size(data_dir: Path, server: Natsd) -> None:
    await requests_around_the_limit(data_dir, server, 1)
