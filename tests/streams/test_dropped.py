"""A feed of a log whose beginning was dropped, in the middle of a request: the rest comes, and nothing is damage."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from eventstore.archiving import Archiving
from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from gateway.archivist import Archivist
from projections.feed import Cursor
from tests.durability.lives import fold
from tests.gateway.whole import gateway
from tests.replay.recorded_log import Recorder

TOKENS = "types=token_generated"
EVENTS = "types=request_completed"


class Tiny(Archiving):
    segment_rows = 1


class TinyArchivist(Archivist):
    archiving = Tiny


async def left(data_dir: Path, lost: str) -> str:
    """A log of two requests, dropped up to an event of the first; what a listener has who came as far as that."""
    async with Recorder(data_dir) as recorder:
        for _ in range(2):
            await recorder.exchange("Hello", " you")
        fold(data_dir)
        with Reader(data_dir) as reader:
            events = [row for row in reader.rows(frames=False) if isinstance(row, RecordedEvent)]
        last = next(event for event in events if event.type == lost)
        archivist = TinyArchivist(recorder.log, data_dir)
        await archivist.asked("archive", last.position + 2)
        assert len((await archivist.asked("drop", last.position))["dropped"]) == last.position
    return Cursor(last.position, 0, last.origin, last.oseq).encode()


async def heard(data_dir: Path, query: str, enough: int) -> bytes:
    """What a feed says until it has said so many events, or that something is wrong."""
    said = b""
    async with (
        gateway(data_dir, "http://127.0.0.1:9") as served,
        aiohttp.ClientSession() as client,
        client.get(f"{served.url}/v1/events/stream?{query}") as answer,
        asyncio.timeout(20),
    ):
        async for line in answer.content:
            said += line
            if b"error" in line or said.count(b"data: ") == enough:
                break
    return said


@pytest.mark.parametrize(("lost", "tokens"), [("request_received", 10), ("generation_started", 5)])
async def test_tokens_of_runs_whose_beginning_is_gone_are_passed_over(tmp_path: Path, lost: str, tokens: int) -> None:
    await left(tmp_path / "logs", lost)
    said = await heard(tmp_path / "logs", f"after=0&{TOKENS}", tokens)
    assert b"error" not in said
    assert said.count(b"event: token_generated") == tokens


async def test_who_had_come_as_far_as_what_is_gone_goes_on_behind_it(tmp_path: Path) -> None:
    cursor = await left(tmp_path / "logs", "route_selected")
    said = await heard(tmp_path / "logs", f"after={cursor}&{EVENTS}", 2)
    assert said.count(b"event: request_completed") == 2
