"""Signed thinking among text and calls: as it came, so it goes back."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.wire.anthropic_messages import MessagesBodyDecoder, MessagesStreamDecoder
from gateway.wire.anthropic_request import encode
from gateway.wire.sse import SSEFramer
from gateway.wire.whole_body import BodyFramer
from tests.endpoints.families import in_blocks
from tests.gateway.wire.reading import fold, read
from tests.gateway.wire.test_anthropic_request import HI, said, text

INTERLEAVED: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "one", "signature": "S1"},
    {"type": "redacted_thinking", "data": "R"},
    text("A\u00e4"),
    {"type": "thinking", "thinking": "two", "signature": "S2"},
    {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
    {"type": "thinking", "thinking": "", "signature": "S3"},
    text("B"),
    {"type": "tool_use", "id": "t2", "name": "f", "input": {"a": 1}},
]


def anthropics(blocks: list[dict[str, Any]], streamed: bool) -> dict[str, Any]:
    """The message of an answer in these blocks, as chat has it."""
    reading = (SSEFramer(), MessagesStreamDecoder()) if streamed else (BodyFramer(), MessagesBodyDecoder())
    message: dict[str, Any] = fold(read(*reading, [in_blocks(blocks, "tool_use", streamed).body])).choices()[0][
        "message"
    ]
    return message


@pytest.mark.parametrize("streamed", [True, False])
def test_thinking_goes_back_where_it_stood(streamed: bool) -> None:
    answer = anthropics(INTERLEAVED, streamed)
    assert said([*HI, answer, *HI])["messages"][1]["content"] == INTERLEAVED
    bare = [block for block in INTERLEAVED if block["type"] != "tool_use"]
    assert said([*HI, anthropics(bare, streamed), *HI])["messages"][1]["content"] == bare


@pytest.mark.parametrize("after", [{"text": 1}, {"text": 9**9, "tool_calls": -1}, {"text": "x"}, "x", None])
def test_a_place_that_is_none_loses_nothing(after: Any) -> None:
    """Clients give back what they like."""
    thought = {"type": "thinking", "thinking": "one", "signature": "S1"}
    answer = {"role": "assistant", "content": " ab", "thinking_blocks": [{**thought, "after": after}]}
    blocks = orjson.loads(encode("claude-x", {"messages": [*HI, answer, *HI]})[0])["messages"][1]["content"]
    assert "".join(block["text"] for block in blocks if block["type"] == "text").strip() == "ab"
    assert [block.get("signature") for block in blocks if block["type"] == "thinking"] == ["S1"]
