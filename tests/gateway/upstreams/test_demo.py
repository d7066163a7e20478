"""The demo answers from the prompt, in OpenAI's format, and says what it has no use for."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.upstreams.demo import Demo
from gateway.wire.values import Fold
from tests.gateway.upstreams.calling import answer, provider, refusal


def hello(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": content}], **more}


async def said(body: dict[str, Any]) -> Fold:
    whole, complete = await answer(Demo(), "demo:", body)
    assert complete
    return whole


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "text", ["Hello!", "two words", "  spaces  kept ", "", "a\nb", 'he said "no" \\ 🎉', "data: [DONE]\n\n"]
)
async def test_it_says_the_prompt_again(text: str, stream: bool) -> None:
    whole = await said(hello(text, stream=stream))
    assert whole.choices()[0]["message"]["content"] == text
    assert whole.finish_reason == "stop"
    assert whole.meta.usage is not None
    assert whole.meta.usage.output_tokens == len(text.split(" "))


@pytest.mark.parametrize("stream", [False, True])
async def test_it_stops_at_the_limit(stream: bool) -> None:
    whole = await said(hello("one two three", stream=stream, max_tokens=2))
    assert (whole.choices()[0]["message"]["content"], whole.finish_reason) == ("one two", "length")


async def test_the_last_user_message_counts_and_parts_are_text() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "u"}},
        {"type": "text", "text": "b"},
    ]
    body = hello("first")
    body["messages"] += [{"role": "user", "content": parts}, {"role": "assistant", "content": "no"}]
    assert (await said(body)).choices()[0]["message"]["content"] == "a b"


async def test_nobody_asked_anything() -> None:
    body = {"model": "echo", "messages": [{"role": "system", "content": "be"}]}
    assert (await said(body)).choices()[0]["message"]["content"] == ""


async def test_there_is_no_other_model() -> None:
    error = await refusal(Demo(), "demo:", hello("x") | {"model": "oracle"})
    assert (error.status, error.code) == (404, "model_not_found")
    assert "echo" in error.message


def test_what_it_ignores_it_names() -> None:
    call = Demo().encode(provider("demo", "demo:"), "echo", hello("x", temperature=0.5, tools=[], stream=True))
    assert call.ignored == ("temperature", "tools")


async def test_it_lists_its_models() -> None:
    assert [model.id for model in await Demo().models(provider("demo", "demo:"), None)] == ["echo"]
