"""TOKENS keeps the newest frames: as many as there is room for, none older than a day. What it has dropped is not
damage: it is not published anew, and what is damaged among the rest is."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats

from eventstore.jetstream import JetStream, StreamState
from eventstore.relay_frames import FrameLane
from eventstore.sqlite import SQLiteLog
from tests.eventstore.relay_rig import FRAMES, append, append_run, open_run, relaying, until
from tests.nats.check import Copy, Said, stored, tokens_of
from tests.nats.test_damage import Trusting, flip
from tests.natsd import Natsd

ROOM = 200_000
FRAME = 500


class Uncrowded(JetStream):
    """The deliberate bug: a relay that does not ask whether the stream may have dropped something."""

    async def state(self, stream: str) -> StreamState:
        return replace(await super().state(stream), crowded=False)


async def config(server: Natsd, **settings: Any) -> None:
    """Change TOKENS, as whoever runs the server may."""
    client = await nats.connect(server.url)
    found = (await client.jetstream().stream_info("TOKENS")).config
    await client.jetstream().update_stream(found.evolve(**settings))
    await client.close()


async def newest(server: Natsd) -> tuple[int, int]:
    """(bytes, newest sequence) of TOKENS."""
    client = await nats.connect(server.url)
    state = (await client.jetstream().stream_info("TOKENS")).state
    await client.close()
    return state.bytes, state.last_seq


async def held(server: Natsd, data_dir: Path) -> tuple[list[Said], list[Said]]:
    """All frames of the log, and those that TOKENS has."""
    return tokens_of(data_dir, FRAMES, open_run), await stored(server.url, "TOKENS")


async def crowded(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    """A log with more frames than there is room for, in a server that goes on."""
    async with relaying(log, data_dir, server) as relay:
        await append_run(log, [b"%d %s" % (n, b"x" * FRAME) for n in range(50)])
        assert await relay.flush(60)
        await config(server, max_bytes=ROOM)
        for run in range(4):
            await append_run(log, [b"%d: %d %s" % (run, n, b"x" * FRAME) for n in range(200)])
        assert await relay.flush(60)


async def assert_newest(server: Natsd, data_dir: Path) -> None:
    expected, found = await held(server, data_dir)
    assert expected[-len(found) :] == found
    assert len(found) < len(expected)
    assert ROOM * 3 / 4 < (await newest(server))[0] <= ROOM


async def test_a_full_stream_holds_the_newest_frames(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    await crowded(log, data_dir, server)
    await assert_newest(server, data_dir)
    assert await restarted(log, data_dir, server, JetStream) == 1
    await assert_newest(server, data_dir)


async def test_a_relay_that_takes_what_was_dropped_for_damage_is_caught(
    log: SQLiteLog, data_dir: Path, server: Natsd
) -> None:
    await crowded(log, data_dir, server)
    assert await restarted(log, data_dir, server, Uncrowded) > 1


async def restarted(log: SQLiteLog, data_dir: Path, server: Natsd, relay_over: type[JetStream]) -> int:
    """How many messages another relay publishes for one new frame, once it has read all back."""
    _, before = await newest(server)
    async with relaying(log, data_dir, server, connect=relay_over.connect) as relay:
        lane = relay._frame_lane
        await until(lambda: lane._audit.over and not relay.status.lag_events, "it has read all back")
        await append_run(log, [b"one more"])
        assert await relay.flush(60)
    return (await newest(server))[1] - before


async def rotten(
    log: SQLiteLog, data_dir: Path, server: Natsd, relay_over: type[JetStream], within_s: float = 60.0
) -> bool:
    """Whether a full stream that has lost a message is whole again."""
    await crowded(log, data_dir, server)
    server.terminate()
    flip(server, "TOKENS", 0.9)
    server.start()
    async with relaying(log, data_dir, server, connect=relay_over.connect):
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            expected, found = await held(server, data_dir)
            if found and expected[-len(found) :] == found:
                return True
            await asyncio.sleep(0.1)
    return False


async def test_a_bit_in_a_full_stream_is_found(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    assert await rotten(log, data_dir, server, JetStream)
    await assert_newest(server, data_dir)


async def test_a_relay_that_reads_nothing_back_misses_it(log: SQLiteLog, data_dir: Path, server: Natsd) -> None:
    assert not await rotten(log, data_dir, server, Trusting, within_s=2)


async def aged(data_dir: Path, server: Natsd, max_age_s: int) -> list[int]:
    """The runs whose frames an empty server gets, of two that are 25 hours apart."""
    now = time.time_ns() // 1000
    clock = iter([now - 25 * 3600 * 1_000_000] * 3)
    log = await SQLiteLog.open(data_dir, durability="process", now_us=lambda: next(clock, now))
    try:
        await append_run(log, [b"old", b"old"])
        await append_run(log, [b"young", b"young"])
        async with relaying(log, data_dir, server) as relay:
            relay._frame_lane.max_age_s = max_age_s  # type: ignore[misc]  # before it begins
            assert await relay.flush(60)
        return sorted({one.key[0] for one in await stored(server.url, "TOKENS")})
    finally:
        await log.close()


async def test_an_empty_server_gets_what_is_younger_than_a_day(data_dir: Path, server: Natsd) -> None:
    assert await aged(data_dir, server, FrameLane.max_age_s) == [4]


async def test_a_relay_that_minds_no_age_is_caught(data_dir: Path, server: Natsd) -> None:
    assert await aged(data_dir, server, 1000 * FrameLane.max_age_s) == [2, 4]


async def test_what_grew_too_old_before_a_day_comes_back(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy
) -> None:
    """Somebody had the server keep it for a second only."""
    async with relaying(log, data_dir, server) as relay:
        await append_run(log, [b"one", b"two"])
        assert await relay.flush(60)
        await config(server, max_age=1.0, duplicate_window=1.0)
        async with asyncio.timeout(60):
            while (await held(server, data_dir))[1]:
                await asyncio.sleep(0.05)
        await config(server, max_age=float(FrameLane.max_age_s))
        await append(log, 1)
        await append_run(log, [b"three"])
        assert await copy.healed(lambda: server.url) == []
