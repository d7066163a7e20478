"""Streams that have said all of their answer and do not end, and those that only seem to have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.exchange.running import Limits, Watch
from tests.gateway.raw import ask
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.test_streaming import SAID, STREAM, assert_whole, sse
from tests.gateway.whole import COMPATIBLE, Gateway, chat

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXTS = "POST /v1/completions"
FIRST = b'data: {"choices": [{"index": 0, "text": "one", "finish_reason": "stop"}]}\n\n'
SECOND = FIRST.replace(b'"index": 0', b'"index": 1')


def limited(monkeypatch: pytest.MonkeyPatch, **limits: float) -> None:
    """Less patience, for what is looked at from now on."""
    look = Watch.look

    def sooner(self: Watch, running: Any, now: float) -> None:
        self._limits = replace(Limits(), **limits)
        look(self, running, now)

    monkeypatch.setattr(Watch, "look", sooner)


async def test_the_end_behind_a_whole_answer_is_waited_for_a_moment_only(
    served: Gateway, upstream: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, end_s=0.5, idle_s=3_600)
    upstream.script(COMPATIBLE, sse(STREAM[:SAID], hold=True))
    await assert_whole(served, counted=False)


async def test_usage_that_comes_a_moment_later_counts(
    served: Gateway, upstream: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, end_s=30)
    upstream.script(COMPATIBLE, sse(STREAM, split=SAID, pace_s=1))
    await assert_whole(served, counted=True)


async def test_an_answer_that_is_not_whole_has_the_patience_of_any(
    served: Gateway, upstream: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two choices the first has its finish reason long before the second."""
    limited(monkeypatch, end_s=0.3)
    both = STREAM[:SAID] + STREAM.replace(b'"index": 0', b'"index": 1')
    upstream.script(COMPATIBLE, sse(both, split=SAID, pace_s=1.5))
    answer = await served.ask(chat(stream=True, n=2))
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert answer.body.count(b'"finish_reason":"stop"') == 2


@pytest.mark.parametrize("prompt", [["a", "b"], [[1, 2], [3]]])
async def test_each_prompt_of_an_old_completion_has_its_own_end(
    served: Gateway, upstream: ScriptedServer, prompt: Any
) -> None:
    body = {"model": "openai-compatible/m", "prompt": prompt, "stream": True}
    upstream.script(TEXTS, sse(FIRST, framing="close"))
    answer = await ask(served.url, body, "/v1/completions")
    assert (await served.end_of(answer.request_id))["type"] == "request_failed"
    upstream.script(TEXTS, sse(FIRST + SECOND, framing="close"))
    answer = await ask(served.url, body, "/v1/completions")
    assert (await served.end_of(answer.request_id))["type"] == "request_completed"


async def test_numbers_are_one_prompt(served: Gateway, upstream: ScriptedServer) -> None:
    upstream.script(TEXTS, sse(FIRST, framing="close"))
    body = {"model": "openai-compatible/m", "prompt": [1, 2, 3], "stream": True}
    answer = await ask(served.url, body, "/v1/completions")
    assert (await served.end_of(answer.request_id))["type"] == "request_completed"


async def test_an_attempt_that_was_told_what_was_wrong_may_think_as_long_as_the_first(
    served: Gateway, upstream: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its silence is not one in the middle of the answer before."""
    limited(monkeypatch, idle_s=0.5)

    def said(text: str, **changes: Any) -> Script:
        content = [{"type": "text", "text": text}]
        usage = {"input_tokens": 1, "output_tokens": 1}
        message = {"type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn"}
        return Script.json({**message, "usage": usage}, **changes)

    upstream.script("POST /v1/messages", said("[1]"), said('{"a": 1}', delay_s=2))
    answer = await served.ask(chat("anthropic/claude-sonnet-5", response_format={"type": "json_object"}))
    assert answer.json()["choices"][0]["message"]["content"] == '{"a": 1}'
