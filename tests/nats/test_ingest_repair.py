"""A log with damaged rows is made again from JetStream, to the byte; what nobody has leaves it as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

import nats
import pytest

from eventstore import rows
from eventstore.envelope import Recorded, RecordedEvent
from eventstore.reader import Reader
from eventstore.repair_file import DAMAGED
from replay.repair import repaired
from replay.verify import verified
from tests.nats.load import failed, gateway, streamed
from tests.natsd import Natsd

FLIPS = 200


async def recorded(data_dir: Path, server: Natsd) -> list[Recorded]:
    """A log of some exchanges, all of it in JetStream, and no server running."""
    async with gateway(data_dir, server.url) as served:
        texts = [" ".join(f"word {number} {n}" for n in range(15)) for number in range(12)]
        answers = await asyncio.gather(*(streamed(served.url, "demo/echo", text) for text in texts))
        assert [*map(failed, answers)] == [None] * len(texts)
        assert await served.copy.healed(lambda: server.url) == []
        assert await served.process.terminate() == 0
        assert await served.copy.healed(lambda: server.url) == []
    return rows_of(data_dir)


def rows_of(data_dir: Path) -> list[Recorded]:
    with Reader(data_dir) as reader:
        return list(reader.rows())


def flipped(content: bytes, found: Sequence[Recorded], random: Random) -> bytes:
    """The file with one bit of one row's bytes turned over."""
    while True:
        row = random.choice(found)
        lively = row.data + row.digest if isinstance(row, RecordedEvent) else row.bytes
        at = content.find(lively) if len(lively) > 8 else -1
        if at >= 0:
            where = at + random.randrange(len(lively))
            return content[:where] + bytes([content[where] ^ 1 << random.randrange(8)]) + content[where + 1 :]


async def test_every_flipped_bit_is_made_good(data_dir: Path, server: Natsd) -> None:
    before = await recorded(data_dir, server)
    content, random = (data_dir / rows.FILE).read_bytes(), Random(1)
    damaged = content
    for _ in range(FLIPS):
        damaged = flipped(damaged, before, random) if random.random() < 0.9 else flipped(content, before, random)
    (data_dir / rows.FILE).write_bytes(damaged)
    with Reader(data_dir) as reader:
        assert verified(reader)["findings"]
    report = await repaired(data_dir, server.url)
    assert report["lost"] == []
    after = rows_of(data_dir)
    assert after[:-1] == before
    said = after[-1]
    assert isinstance(said, RecordedEvent)
    assert (said.type, said.body["events"], said.body["frames"]) == ("log_repaired", report["events"], report["frames"])
    with Reader(data_dir) as reader:
        assert verified(reader)["listed"] == []
    assert (data_dir / DAMAGED).read_bytes() == damaged
    async with gateway(data_dir, server.url) as served:
        await served.says("healthy")
        assert await served.copy.healed(lambda: server.url) == []


@pytest.mark.parametrize("stream", ["LEDGER", "TOKENS"])
async def test_what_nobody_has_changes_nothing(data_dir: Path, server: Natsd, stream: str) -> None:
    before = await recorded(data_dir, server)
    client = await nats.connect(server.url)
    await client.jetstream().purge_stream(stream)
    await client.close()
    kind = [row for row in before if isinstance(row, RecordedEvent) == (stream == "LEDGER")]
    damaged = flipped((data_dir / rows.FILE).read_bytes(), kind, Random(2))
    (data_dir / rows.FILE).write_bytes(damaged)
    report = await repaired(data_dir, server.url)
    assert report["lost"]
    assert (data_dir / rows.FILE).read_bytes() == damaged
    assert not (data_dir / DAMAGED).exists()
