"""Money and tokens where nobody said the last word: never a guess of a price, never fewer tokens than were seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from eventstore.catalogue.values import Usage
from gateway.exchange.decide import Views
from gateway.prices.table import LOCAL
from tests.gateway.exchange.given import NOW_US, Given, answered, left, submitted
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import chat, gateway

HERE = "http://127.0.0.1:9/v1"


def test_what_a_host_takes_that_the_caller_named_is_not_known() -> None:
    given = Given(submitted(base_url=HERE)).when(answered(cost_reported="7"))
    completed = given.one("generation_completed")
    assert (completed.cost_usd, completed.price_rule) == (None, None)
    assert given.one("request_completed").cost_usd is None


def test_a_local_kind_is_free_wherever_it_runs() -> None:
    local = Views(lambda *_: (None, LOCAL), NOW_US)
    completed = Given(submitted(base_url=HERE)).when(answered(), local).one("generation_completed")
    assert completed.price_rule == LOCAL


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        (Usage(input_tokens=7, output_tokens=1), (7, 25)),  # the answer's count was a placeholder
        (Usage(input_tokens=7, output_tokens=90), (7, 90)),  # it was ahead of the text: hidden reasoning
        (Usage(output_tokens=90), (1, 90)),  # the prompt's count is missing
    ],
)
def test_a_preliminary_count_is_filled_in(said: Usage, counted: tuple[int, int]) -> None:
    """Two bytes of call, 100 characters of answer."""
    cut = left(usage=said, usage_estimated=True, text_length=100)
    failed = Given(submitted()).when(cut).one("generation_failed")
    assert (failed.tokens_input, failed.tokens_output) == counted
    assert failed.usage_source == "estimated"


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


async def test_a_message_cut_in_the_middle_counts_its_text(tmp_path: Path) -> None:
    """Anthropic's first event says one token of output, whatever follows; the last, which would know, never came."""
    usage: Mapping[str, int] = {"input_tokens": 12, "output_tokens": 1}
    stream = event("message_start", message={"id": "m", "model": "c", "content": [], "usage": usage})
    stream += event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    stream += event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x" * 400})
    async with (
        ScriptedServer() as upstream,
        gateway(tmp_path, upstream.base_url, env={"ANTHROPIC_API_KEY": "sk-ant-test-0001"}) as served,
    ):
        upstream.script("POST /v1/messages", Script(stream, content_type="text/event-stream"))
        answer = await served.ask(chat("anthropic/claude-sonnet-4-5", stream=True, max_tokens=500))
        failed = await served.generation(answer.request_id)
    assert (failed["tokens_input"], failed["tokens_output"], failed["usage_source"]) == (12, 100, "estimated")
