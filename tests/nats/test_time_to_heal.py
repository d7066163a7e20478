"""How long a copy of 100,000 ledger events takes to be whole again: printed (`pytest --soak -s`), not asserted."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import nats
import pytest

from eventstore.sqlite import SQLiteLog
from tests.eventstore.relay_rig import append, relaying
from tests.nats.check import Copy
from tests.nats.test_damage import blocks, flip
from tests.natsd import Natsd

EVENTS = 100_000


@pytest.mark.soak
@pytest.mark.parametrize("damage", ["wiped", "one bit, with its index", "one bit, without"])
async def test_the_time_to_heal(log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy, damage: str) -> None:
    async with relaying(log, data_dir, server) as relay:
        await append(log, EVENTS, size=300)
        assert await relay.flush(60)
    server.terminate()
    if damage == "wiped":
        server.wipe()
    else:
        flip(server, "LEDGER", 0.4)
    if damage.endswith("without"):
        (blocks(server, "LEDGER") / "index.db").unlink()
    server.start()
    before = time.monotonic()
    async with relaying(log, data_dir, server) as relay:
        await _published_anew(server, after=0 if damage == "wiped" else EVENTS)
        assert await relay.flush(60)
        print(f"\n{damage}: {EVENTS} events whole again after {time.monotonic() - before:.1f} s")
        assert await copy.healed(lambda: server.url) == []


async def _published_anew(server: Natsd, after: int) -> None:
    """Wait until the stream holds as many events as there are, all of them later than this sequence."""
    client = await nats.connect(server.url)
    try:
        async with asyncio.timeout(60):
            while True:
                names = await client.jetstream().streams_info()
                states = [info.state for info in names if info.config.name == "LEDGER"]
                if states and states[0].messages >= EVENTS and states[0].first_seq > after:
                    return
                await asyncio.sleep(0.05)
    finally:
        await client.close()
