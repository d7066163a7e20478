"""Prices enter the log once, and what the log has prices the answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstore.catalogue.values import Usage
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from gateway.config import Settings
from gateway.pricing import Prices, lacks_prices, load_prices, stream_of
from gateway.upstreams.registry import providers

PROVIDERS = providers(Settings(), 8000)
USAGE = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
AT_US = 1_795_219_200_000_000


async def test_a_providers_prices_enter_the_log_in_one_commit_and_once(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    try:
        with Reader(tmp_path) as reader:
            assert lacks_prices(reader, PROVIDERS)
            await load_prices(log, PROVIDERS)
            assert not lacks_prices(reader, PROVIDERS)
        published = await log.read_stream(stream_of("openai"))
        assert published
        assert len({event.at for event in published}) == 1, "one append, one time"
        head = await log.head()
        await load_prices(log, PROVIDERS)
        assert await log.head() == head
    finally:
        await log.close()


@pytest.mark.parametrize(("tier", "part"), [(None, 1.0), ("default", 1.0), ("flex", 0.5), ("unheard-of", 1.0)])
async def test_the_service_tier_prices_an_answer(tmp_path: Path, tier: str | None, part: float) -> None:
    log = await SQLiteLog.open(tmp_path)
    try:
        price = Prices(PROVIDERS)
        await price.load(log)
    finally:
        await log.close()
    standard, _ = price("openai", "gpt-5", USAGE, None, None, AT_US)
    cost, rule = price("openai", "gpt-5", USAGE, None, tier, AT_US)
    assert standard is not None
    assert rule is not None
    assert cost == standard * part
    assert ("service_tier=flex" in rule) == (tier == "flex")


async def test_a_local_model_is_free_and_an_unknown_one_has_no_price(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    try:
        price = Prices(PROVIDERS)
        await price.load(log)
    finally:
        await log.close()
    assert price("ollama", "llama", USAGE, None, None, AT_US) == (0, "local")
    assert price("openai", "no-such-model", USAGE, None, None, AT_US) == (None, None)
    assert price("nobody", "m", USAGE, None, None, AT_US) == (None, None)
