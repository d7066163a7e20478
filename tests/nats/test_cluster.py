"""Three servers, three replicas: one of them may go, then two; and all come back."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from eventstore.jetstream import JetStream
from eventstore.relay import Relay
from eventstore.sqlite import SQLiteLog
from tests.eventstore.relay_rig import FRAMES, TYPES, append, append_run, relaying, until
from tests.nats.check import Copy
from tests.nats.cluster import Cluster, cluster

SUBJECTS = {
    "LEDGER": [f"abstractcore.events.{name}.*" for name in TYPES],
    "TOKENS": [f"abstractcore.events.{FRAMES}.*"],
}


class Brisk(JetStream):
    """Waits for an election, and not for much more."""

    answer_timeout_s = 3.0


async def written(log: SQLiteLog) -> None:
    await append(log, 150)
    await append_run(log, [b"%d" % n for n in range(40)])


class Story:
    """A log that is written while members come and go."""

    def __init__(self, three: Cluster, log: SQLiteLog, relay: Relay, copy: Copy) -> None:
        self.three, self._log, self.relay, self._copy = three, log, relay, copy

    async def goes_on(self) -> None:
        await self.written()
        assert await self.relay.flush(60)

    async def written(self) -> None:
        await append(self._log, 150)
        await append_run(self._log, [b"%d" % n for n in range(40)])

    async def ended(self) -> None:
        """Every member says the same, and the streams are as their operator made them."""
        await self.goes_on()
        for member in self.three.members:
            assert await self._copy.healed(lambda url=member.url: url) == []  # type: ignore[misc]
        assert [await self.three.replicas(stream) for stream in SUBJECTS] == [3, 3]


@asynccontextmanager
async def story(log: SQLiteLog, data_dir: Path, copy: Copy, directory: Path) -> AsyncIterator[Story]:
    async with cluster(directory) as three:
        await three.make_streams(SUBJECTS)

        async def connect(_: Sequence[str]) -> JetStream:
            return await Brisk.connect(three.urls)

        async with relaying(log, data_dir, three.members[0], connect=connect) as relay:
            told = Story(three, log, relay, copy)
            await told.goes_on()
            yield told


async def test_a_leader_goes_and_comes_back(
    log: SQLiteLog, data_dir: Path, copy: Copy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with story(log, data_dir, copy, tmp_path) as told:
        leader = await told.three.leader("LEDGER")
        leader.kill()
        await told.goes_on()
        leader.start()
        await told.ended()
        assert "damaged" not in caplog.text, "replicas that lag are no damage"


@pytest.mark.soak
async def test_two_of_three_go_and_come_back(log: SQLiteLog, data_dir: Path, copy: Copy, tmp_path: Path) -> None:
    async with story(log, data_dir, copy, tmp_path) as told:
        for _ in range(5):
            gone = random.sample(told.three.members, 2)
            for member in gone:
                member.kill()
            await told.written()
            await until(lambda: told.relay.status.state == "down", "one of three is not enough")
            for member in gone:
                member.start()
            await told.goes_on()
        await told.ended()
