"""A start without its low-water mark finds what is open from the ends of streams: all of it, nothing that is over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from eventstore.catalogue.event import Event
from eventstore.catalogue.group import GroupSettled, GroupStarted
from eventstore.catalogue.tool import ToolCompleted, ToolFailed, ToolStarted
from eventstore.reader import Reader
from gateway.config import Settings
from gateway.exchange.recover import LowWater, open_streams
from gateway.follower.supervise import Follower
from gateway.lost_mark import open_from
from gateway.pricing import Prices
from gateway.recovery import Recovery
from tests.replay.recorded_log import Recorder

GROUP = GroupStarted(
    group_id="g", key="k", mode="first", members=["a", "b"], models=["m", "n"], body_length=1, body_digest="d"
)
SETTLED = GroupSettled(group_id="g", reason="first", winner="a")


def started(call: str) -> ToolStarted:
    return ToolStarted(tool_name="add", call_id=call, kind="function")


def completed(call: str) -> ToolCompleted:
    return ToolCompleted(tool_name="add", call_id=call, duration_ms=1.0, length=1, digest="d")


def failed(call: str) -> ToolFailed:
    return ToolFailed(tool_name="add", call_id=call, kind="interrupted")


@pytest.fixture
async def recorder(tmp_path: Path) -> Recorder:
    async with Recorder(tmp_path / "logs") as made:
        await made.exchange("over")
    return made


async def found_after(recorder: Recorder, *written: tuple[str, Event]) -> tuple[int, int]:
    """The head before these events were written, and from where a start would look after them."""
    async with Recorder(recorder.data_dir) as again:
        before = await again.log.head()
        for stream, event in written:
            await again._append(stream, event)
    with Reader(recorder.data_dir) as reader:
        return before, open_from(reader)


async def test_where_all_is_over_nothing_is_read_again(recorder: Recorder) -> None:
    with Reader(recorder.data_dir) as reader:
        assert open_from(reader) == reader.head() > 0


async def test_an_empty_log_has_nothing_open(tmp_path: Path) -> None:
    async with Recorder(tmp_path / "logs"):
        pass
    with Reader(tmp_path / "logs") as reader:
        assert open_from(reader) == reader.head()


async def test_the_first_open_exchange_is_where_to_look_from(tmp_path: Path) -> None:
    async with Recorder(tmp_path / "logs") as log:
        await log.exchange("over")
        before = await log.log.head()
        names = [await log.asked(), await log.asked()]
        await log.exchange("over")
    async with Recorder(tmp_path / "logs") as later:  # of an incarnation before the last one, too
        await later.log.head()
    with Reader(tmp_path / "logs") as reader:
        assert open_from(reader) == before
        assert open_streams(reader, open_from(reader)) == [f"request-{name}" for name in names]


async def test_a_group_is_open_until_it_is_settled(recorder: Recorder) -> None:
    before, found = await found_after(recorder, ("group-g", GROUP), ("node-x", started("other")))
    assert found == before
    before, found = await found_after(recorder, ("group-g", SETTLED))
    assert found > before


@pytest.mark.parametrize("end", [completed, failed])
async def test_a_run_of_a_tool_is_open_until_its_own_end(recorder: Recorder, end: Callable[[str], Event]) -> None:
    before, found = await found_after(
        recorder, ("tool-add", started("1")), ("tool-add", started("2")), ("tool-add", end("2"))
    )
    assert found == before
    before, found = await found_after(recorder, ("tool-add", end("1")))
    assert found > before


OPEN: dict[str, tuple[str, Event]] = {"group": ("group-g", GROUP), "run of a tool": ("tool-add", started("1"))}


@pytest.mark.parametrize("what", ["nothing", "request", *OPEN])
async def test_a_start_is_unsure_where_something_is_open_or_there_is_no_mark(tmp_path: Path, what: str) -> None:
    async with Recorder(tmp_path) as recorder:
        recovery = Recovery(tmp_path, recorder.log, Prices({}), Follower(Settings(data_dir=tmp_path)), tuple)
        assert recovery.unsure(), "there is no mark"
        LowWater(tmp_path).write(await recorder.log.head())
        if what == "request":
            await recorder.asked()
        elif what in OPEN:
            await recorder._append(*OPEN[what])
        assert recovery.unsure() == (what != "nothing")
        LowWater(tmp_path).write(await recorder.log.head() + 1)
        assert recovery.unsure(), "the mark is past the end"
