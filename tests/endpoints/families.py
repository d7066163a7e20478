"""One answer in the words of each family, whole or streamed, and where each family's requests say a thing.

The same conversation is held with every family; what differs is written down here, and nowhere in the test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.wire.anthropic_thinking import BUDGETS
from tests.clients.front import MODELS
from tests.gateway.scripted import Request, Script

PIECE = 5
"""Characters of text in a piece of a stream."""


@dataclass(frozen=True)
class Reply:
    """What the model says: it thinks, then talks, then calls."""

    text: str = ""
    thinking: str = ""
    call: tuple[str, dict[str, Any]] | None = None


@dataclass(frozen=True)
class Family:
    """`say` makes a reply in the family's words; `at` says where in its requests a thing stands: thing -> place."""

    provider: str
    say: Callable[[Reply, bool], Script]
    at: Mapping[str, Callable[[Any], Any]]
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        return MODELS[self.provider]

    def answer(self, reply: Reply) -> Callable[[Request], Script]:
        """Streamed where the request wants a stream; Ollama's do unless they say otherwise."""
        return lambda asked: self.say(reply, asked.json().get("stream", self.provider == "ollama"))


def pieces(text: str) -> list[str]:
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


def _sse(events: list[Any], named: bool = False) -> Script:
    lines = [f"event: {event['type']}\n" if named else "" for event in events]
    body = "".join(f"{line}data: {json.dumps(event)}\n\n" for line, event in zip(lines, events, strict=True))
    return Script((body if named else f"{body}data: [DONE]\n\n").encode(), content_type="text/event-stream")


def openai(reply: Reply, streamed: bool) -> Script:
    """https://platform.openai.com/docs/api-reference/chat, with the `reasoning_content` of its kin."""
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    reason = "tool_calls" if reply.call else "stop"
    if not streamed:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        message |= {"reasoning_content": reply.thinking} if reply.thinking else {}
        if reply.call:
            message["tool_calls"] = [{"id": "call_1", "type": "function", "function": _function(reply.call)}]
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return Script.json({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})
    deltas: list[dict[str, Any]] = [{"reasoning_content": piece} for piece in pieces(reply.thinking)]
    deltas += [{"content": piece} for piece in pieces(reply.text)]
    if reply.call:
        function = _function(reply.call)
        head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": function["name"], "arguments": ""}}
        parts = [{"index": 0, "function": {"arguments": piece}} for piece in pieces(function["arguments"])]
        deltas += [{"tool_calls": [part]} for part in [head, *parts]]
    choices: list[Any] = [{"index": 0, "delta": delta} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": reason})
    chunks = [{"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]} for choice in choices]
    return _sse([*chunks, {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": usage}])


def _function(call: tuple[str, dict[str, Any]]) -> dict[str, str]:
    return {"name": call[0], "arguments": json.dumps(call[1])}


def in_text(reply: Reply, streamed: bool) -> Script:
    """A model without tools: it writes its call, as its prompt told it to."""
    if reply.call is None:
        return openai(reply, streamed)
    written = json.dumps({"name": reply.call[0], "arguments": reply.call[1]})
    return openai(Reply(f"{reply.text}<tool_call>\n{written}\n</tool_call>", reply.thinking), streamed)


def anthropic(reply: Reply, streamed: bool) -> Script:
    """https://docs.anthropic.com/en/api/messages"""
    return in_blocks(_blocks(reply), "tool_use" if reply.call else "end_turn", streamed)


def in_blocks(blocks: list[dict[str, Any]], reason: str, streamed: bool) -> Script:
    """An answer of Anthropic's in these blocks."""
    usage = {"input_tokens": 10, "output_tokens": 4}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
    if not streamed:
        return Script.json({**head, "content": blocks, "stop_reason": reason, "usage": usage})
    events: list[Any] = [{"type": "message_start", "message": {**head, "content": [], "usage": usage}}]
    for index, block in enumerate(blocks):
        started, deltas = _streamed(block)
        events.append({"type": "content_block_start", "index": index, "content_block": started})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 4}})
    return _sse([*events, {"type": "message_stop"}], named=True)


def _blocks(reply: Reply) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if reply.thinking:
        blocks.append({"type": "thinking", "thinking": reply.thinking, "signature": "c2lnbmVk"})
    if reply.text:
        blocks.append({"type": "text", "text": reply.text})
    if reply.call:
        blocks.append({"type": "tool_use", "id": "call_1", "name": reply.call[0], "input": reply.call[1]})
    return blocks


def _streamed(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a block begins, and its pieces."""
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
    if block["type"] == "thinking":
        thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*thoughts, signed]
    if block["type"] != "tool_use":
        return block, []
    parts = pieces(json.dumps(block["input"]))
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]


def ollama(reply: Reply, streamed: bool) -> Script:
    """https://github.com/ollama/ollama/blob/main/docs/api.md"""
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 10, "eval_count": 4}
    calls = [{"function": {"name": reply.call[0], "arguments": reply.call[1]}}] if reply.call else []
    if not streamed:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text}
        message |= {"thinking": reply.thinking} if reply.thinking else {}
        message |= {"tool_calls": calls} if calls else {}
        return Script.json({"model": "m", "message": message, **end})
    messages: list[dict[str, Any]] = [{"content": "", "thinking": piece} for piece in pieces(reply.thinking)]
    messages += [{"content": piece} for piece in pieces(reply.text)]
    messages += [{"content": "", "tool_calls": calls}] if calls else []
    lines = [{"model": "m", "message": {"role": "assistant", **message}, "done": False} for message in messages]
    last = {"model": "m", "message": {"role": "assistant", "content": ""}, **end}
    body = "".join(json.dumps(line) + "\n" for line in [*lines, last])
    return Script(body.encode(), content_type="application/x-ndjson")


def _data(url: str) -> str:
    return url.partition(",")[2]


_OPENAI: Mapping[str, Callable[[Any], Any]] = {
    "instructions": lambda body: body["messages"][0]["content"],
    "question": lambda body: body["messages"][1]["content"],
    "image": lambda body: _data(body["messages"][1]["content"][1]["image_url"]["url"]),
    "document": lambda body: body["messages"][1]["content"][1]["text"],
    "tool": lambda body: body["tools"][0]["function"]["name"],
    "call": lambda body: json.loads(body["messages"][2]["tool_calls"][0]["function"]["arguments"]),
    "result": lambda body: body["messages"][3]["content"],
    "effort": lambda body: body["reasoning_effort"],
    "schema": lambda body: body["response_format"]["json_schema"]["schema"],
}
_WRITTEN: Mapping[str, Callable[[Any], Any]] = {
    "tool": lambda body: "get_weather" if "get_weather" in body["messages"][0]["content"] else None,
    "call": lambda body: json.loads(body["messages"][2]["content"].split("\n")[1])["arguments"],
    "result": lambda body: "12 °C" if "12 °C" in body["messages"][3]["content"] else None,
}
_WORDS = {tokens: word for word, tokens in BUDGETS.items()}
_ANTHROPIC: Mapping[str, Callable[[Any], Any]] = {
    "instructions": lambda body: body["system"][0]["text"],
    "question": lambda body: body["messages"][0]["content"][0]["text"],
    "image": lambda body: body["messages"][0]["content"][1]["source"]["data"],
    "document": lambda body: body["messages"][0]["content"][1]["source"]["data"],
    "tool": lambda body: body["tools"][0]["name"],
    "call": lambda body: body["messages"][1]["content"][-1]["input"],
    "result": lambda body: body["messages"][2]["content"][0]["content"],
    "effort": lambda body: _WORDS[body["thinking"]["budget_tokens"]],
    "schema": lambda body: body["output_config"]["format"]["schema"],
}
_OLLAMA: Mapping[str, Callable[[Any], Any]] = {
    "instructions": lambda body: body["messages"][0]["content"],
    "question": lambda body: body["messages"][1]["content"],
    "image": lambda body: body["messages"][1]["images"][0],
    "document": lambda body: body["messages"][1]["content"],
    "tool": lambda body: body["tools"][0]["function"]["name"],
    "call": lambda body: body["messages"][2]["tool_calls"][0]["function"]["arguments"],
    "result": lambda body: body["messages"][3]["content"],
    "effort": lambda body: body["think"],
    "schema": lambda body: body["format"],
}

FAMILIES: Mapping[str, Family] = {
    "openai_compatible": Family("openai-compatible", openai, _OPENAI),
    "anthropic": Family("anthropic", anthropic, _ANTHROPIC),
    "ollama": Family("ollama", ollama, _OLLAMA),
    "prompted tools": Family("openai-compatible", in_text, {**_OPENAI, **_WRITTEN}, {"tool_mode": "prompted"}),
}
