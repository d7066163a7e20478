"""No number that an upstream can say stops the reports: absurd counts and costs are not believed, and not added up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.prices.table import MOST_REPORTED, PriceTable
from gateway.wire.anthropic_outcome import usage_of as anthropic_usage
from gateway.wire.openai_chat import usage_of as openai_usage
from gateway.wire.values import MOST_TOKENS, count
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, chat, gateway

ABSURD: list[Mapping[str, Any]] = [
    {"prompt_tokens": 2**63, "completion_tokens": 2**64 - 1},
    {"prompt_tokens": 2**62, "completion_tokens": 2**62},
    {"prompt_tokens": 2**62, "completion_tokens": 2**62},  # their sum is past 64 bits
    {"prompt_tokens": 3, "completion_tokens": 1, "cost": 1e30},
    {"prompt_tokens": 3, "completion_tokens": 1, "cost": 9_000_000},
]


def body(usage: Mapping[str, Any]) -> Script:
    message = {"role": "assistant", "content": "Hello."}
    return Script(
        json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}).encode()
    )


async def test_absurd_usage_halts_no_projection(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url) as served:
        upstream.script(COMPATIBLE, *map(body, ABSURD), body({"prompt_tokens": 3, "completion_tokens": 1}))
        for _ in range(len(ABSURD) + 1):
            assert (await served.ask(chat())).status == 200
        async with aiohttp.ClientSession() as client:
            async with client.get(served.url + "/v1/usage") as answer:
                report = await answer.json()
            async with client.get(served.url + "/health") as answer:
                assert await answer.json() == {"status": "healthy"}
    total = report["total"]
    assert "stale" not in report
    counts = total["requests"], total["tokens_input"], total["tokens_output"]
    assert counts == (6, 57, 9), "what is absurd is estimated"
    assert (total["cost_usd"], total["requests_unpriced"]) == (None, 6)


@pytest.mark.parametrize(("said", "believed"), [(MOST_TOKENS, MOST_TOKENS), (MOST_TOKENS + 1, 0), (True, 0), (-1, 0)])
def test_counts(said: Any, believed: int) -> None:
    assert count(said) == believed
    assert openai_usage({"completion_tokens": said}).output_tokens == believed
    assert anthropic_usage({"output_tokens": said}).output_tokens == believed


def test_costs() -> None:
    table = PriceTable.from_events([])
    usage = openai_usage({"prompt_tokens": 1})
    believed = table.book(usage, prices=None, model="m", at=0, reported=str(MOST_REPORTED))
    assert (believed.cost, believed.rule) == (MOST_REPORTED * 10**12, "provider_reported")
    assert table.book(usage, prices=None, model="m", at=0, reported=f"{MOST_REPORTED}.01").cost is None
