"""Segments are dropped under whoever reads them: what is gone then is gone, and no damage. Nor is damage passed over
because it was told once."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from eventstore.archive import SegmentReader
from eventstore.archived import Archive, Span
from eventstore.errors import LogCorrupt, LogUnavailable
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from eventstore.subscription import Subscription
from replay.verify import verified
from tests.eventstore.test_archiving import archive, archiving, kept, record


def drop(data_dir: Path) -> None:
    """The first segment, as another process would."""

    async def dropped() -> None:
        log = await SQLiteLog.open(data_dir)
        assert len(await archiving(log, data_dir).drop(100, folded=1_000, keep=kept)) == 1
        await log.close()

    thread = Thread(target=lambda: asyncio.run(dropped()))
    thread.start()
    thread.join()


class Overtaken(Archive):
    """The first segment is dropped just when it is about to be opened."""

    overtaken = False

    def _overtake(self) -> None:
        if not self.overtaken:
            self.overtaken = True
            drop(self._data_dir)

    def _opened(self, segment: Span) -> SegmentReader:
        self._overtake()
        return super()._opened(segment)

    def damage(self, segment: Span, digest: bytes) -> str | None:
        self._overtake()
        return super().damage(segment, digest)


READS: dict[str, Callable[[Reader], list[Any]]] = {
    "all of it": lambda reader: reader.read(0, 1_000, until=300),
    "a stream": lambda reader: reader.read_stream("node-a"),
    "a stream that is gone": lambda reader: reader.read_stream("request-0"),
    "a run that is gone": lambda reader: list(reader.read_frames(1, 300)),
    "every file": lambda reader: list(reader.segment_damages()),
}


@pytest.mark.parametrize("proving", [True, False])
@pytest.mark.parametrize("what", READS)
async def test_what_is_dropped_under_a_reader_is_no_damage(tmp_path: Path, what: str, proving: bool) -> None:
    await record(tmp_path)
    await archive(tmp_path, until=250)
    with Reader(tmp_path, proving=proving) as reader:
        reader._archive = Overtaken(tmp_path)
        found = READS[what](reader)
        assert reader._archive.overtaken
        assert found == READS[what](reader)


async def test_nor_to_verify(tmp_path: Path) -> None:
    await record(tmp_path)
    await archive(tmp_path, until=250)
    with Reader(tmp_path) as reader:
        reader._archive = Overtaken(tmp_path)
        report = verified(reader)
        assert reader._archive.overtaken
        assert report["listed"] == verified(reader)["listed"]


async def test_a_stream_is_gone_on_with_behind_what_was_dropped_of_it(tmp_path: Path) -> None:
    """By whom has read some of that before."""
    await record(tmp_path)
    await archive(tmp_path, until=100)
    drop(tmp_path)
    with Reader(tmp_path, proving=True) as reader:
        live = reader.read_stream("node-a")
        assert [event.version for event in live] == list(range(live[0].version, live[0].version + len(live)))
        assert reader.read_stream("node-a", after=3) == live


async def test_a_file_of_other_positions_is_refused_every_time(tmp_path: Path) -> None:
    await record(tmp_path)
    await archive(tmp_path, until=250)
    first, second = sorted((tmp_path / "archive").iterdir())[:2]
    shutil.copy(second, first)
    with Reader(tmp_path) as reader:
        for _ in range(2):
            with pytest.raises(LogCorrupt, match="other positions"):
                reader.read(0, 10)


async def test_a_file_that_cannot_be_read_is_told_in_the_logs_words(tmp_path: Path) -> None:
    await record(tmp_path)
    await archive(tmp_path, until=250)
    first = min((tmp_path / "archive").iterdir())
    first.unlink()
    first.mkdir()
    with Reader(tmp_path) as reader, pytest.raises(LogUnavailable, match="the archive cannot be read"):
        reader.read_stream("node-a")


async def test_nor_to_a_subscriber_who_has_not_come_to_it(tmp_path: Path) -> None:
    await record(tmp_path)
    await archive(tmp_path, until=250)
    log = await SQLiteLog.open(tmp_path)
    behind = Subscription(log, 0, batch=50)
    await anext(behind)
    assert len(await archiving(log, tmp_path).drop(200, folded=1_000, keep=kept)) == 2
    assert (await anext(behind))[0].position > 200
    await log.close()
