"""The log is read again in the background: what has rotted there is told, while nobody asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eventstore.envelope import Recorded
from eventstore.errors import LogUnavailable
from eventstore.reader import Reader
from eventstore.verify import Finding, Verifier
from gateway.api.health import degraded
from gateway.follower import scrub
from gateway.follower.scrub import Scrub
from tests.durability.flipped import flipped
from tests.replay.recorded_log import Recorder

DAMAGES = {
    "an event": ("ledger", "data", b'"tokens_output":2', b'"tokens_output":9'),
    "a frame": ("frames", "bytes", b"fox", b"box"),
}


class Quick(Scrub):
    share = 1_000.0
    first_s = again_s = 0.0


class Believing(Verifier):
    """The bug: rows are read, and believed."""

    def check(self, row: Recorded) -> Sequence[Finding]:
        return ()


class Blind(Quick):
    verifier = Believing


async def until(kind: type[Scrub], data_dir: Path, *known: Any) -> dict[str, Any]:
    """What is known once each of these was so, one after the other; what is no question is done in between."""
    scrubbing = kind(data_dir, lambda: None)
    task = asyncio.create_task(scrubbing.run())
    async with asyncio.timeout(20):
        for question in known:
            while not question(scrubbing.status):
                await asyncio.sleep(0.01)
    task.cancel()
    return scrubbing.status


def passed(status: dict[str, Any]) -> bool:
    return bool(status["passes"])


@pytest.fixture
async def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scrub, "PAGE", 7)
    async with Recorder(tmp_path / "logs") as recorder:
        for _ in range(5):
            await recorder.exchange("the fox", " jumped")
        await recorder.asked()
    return tmp_path / "logs"


async def test_a_sound_log_is_passed_without_a_word(data_dir: Path) -> None:
    status = await until(Quick, data_dir, passed)
    assert (status["findings"], status["first"]) == (0, None)
    assert degraded({"scrub": status}) == []


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_what_has_rotted_is_told(data_dir: Path, damage: tuple[str, str, bytes, bytes]) -> None:
    assert flipped(data_dir, *damage) == 5
    status = await until(Quick, data_dir, passed)
    assert status["findings"] >= 5
    (said,) = degraded({"scrub": status})
    assert f"the first at position {status['first']}" in said
    assert (await until(Blind, data_dir, passed))["findings"] == 0


async def test_what_the_disk_refuses_is_told_and_tried_again(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> list[Recorded]:
        raise LogUnavailable("disk I/O error")

    with monkeypatch.context() as failing:
        failing.setattr(Reader, "read", refused)
        status = await until(Quick, data_dir, lambda status: status["passes"] > 1)
    assert (status["findings"], status["first"]) == (1, 1)


async def test_a_pass_over_a_mended_log_takes_it_back(data_dir: Path) -> None:
    table, column, word, by = DAMAGES["a frame"]
    flipped(data_dir, table, column, word, by)

    def mended(status: dict[str, Any]) -> bool:
        return flipped(data_dir, table, column, by, word) == 5

    await until(Quick, data_dir, lambda status: status["findings"], mended, lambda status: status["findings"] == 0)
