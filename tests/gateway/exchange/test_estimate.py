"""How much of a call is prompt: its text as it is, its files for what they are to a model."""

from __future__ import annotations

import base64
import random

import orjson
import pytest

from gateway.exchange.estimate import BYTES_OF_FILE, prompt_bytes

PICTURE = base64.b64encode(random.Random(1).randbytes(1_400_000)).decode()


def call(*parts: object) -> bytes:
    return orjson.dumps({"model": "m", "messages": [{"role": "user", "content": parts}]})


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
        {"inline_data": {"mime_type": "image/png", "data": PICTURE}},
    ],
    ids=["OpenAI", "Anthropic", "Google"],
)
def test_a_file_counts_as_one_whatever_its_size(part: dict[str, object]) -> None:
    text = {"type": "text", "text": "What is this?"}
    assert prompt_bytes(call(text, part)) - prompt_bytes(call(text)) < BYTES_OF_FILE + 200
    assert prompt_bytes(call(part, part)) - prompt_bytes(call(part)) < BYTES_OF_FILE + 200


@pytest.mark.parametrize(
    "text",
    ["All of it. " * 5_000, "长" * 5_000, "a,b\n" * 5_000, orjson.dumps({"k": ["v"] * 5_000}).decode(), "short"],
    ids=["prose", "no blanks", "lines", "JSON", "short"],
)
def test_text_counts_as_it_is(text: str) -> None:
    said = call({"type": "text", "text": text})
    assert prompt_bytes(said) == len(said)
