"""Frames of OpenAI's chat streams that add to nothing but one text: what they share is their template."""

from __future__ import annotations

import re
from typing import Any

import orjson

from eventstore.frames import Template
from gateway.wire.fastlane import differs_behind, find_template
from gateway.wire.sse import read_frame

A_TEXT = re.compile(rb'"(?:content|reasoning(?:_content)?|arguments)": ?"(?!")')
"""In a frame that adds to a text."""
PADDING = ("obfuscation", "p")
"""What pads each frame of a stream to hide its length, behind all else: OpenAI's, and Mistral's and Cloudflare's."""
KNOWN_DELTA = frozenset({"role", "content", "refusal", "tool_calls", "reasoning_content", "reasoning"})


def is_extra(key: str, value: Any) -> bool:
    """Whether a key of a delta is one that we do not know, and says something."""
    return key not in KNOWN_DELTA and value not in (None, [])


def template_of(frame: bytes) -> Template | None:
    """The template that a frame gives, if it adds to one text; and if it is padded, with a second gap."""
    try:
        chunk = orjson.loads(read_frame(frame)[1] or b"null")
    except orjson.JSONDecodeError:
        return None
    key, text = _only_text(chunk) or ("", "")
    template = find_template(frame, text, key.encode()) if text else None
    return template and _padded(template, chunk)


def _padded(template: Template, chunk: dict[str, Any]) -> Template:
    for key in PADDING:
        padding = chunk.get(key)
        if isinstance(padding, str) and (padded := differs_behind(template, key.encode(), padding)) is not None:
            return padded
    return template


def _only_text(chunk: Any) -> tuple[str, str] | None:
    """The key and the text of a chunk that adds to nothing but one text: of choice 0's answer, or of any reasoning or
    call's arguments. None for any other."""
    if not isinstance(chunk, dict) or chunk.get("usage") or chunk.get("error"):
        return None
    choices = chunk.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    choice = choices[0]
    delta = choice.get("delta")
    if not isinstance(delta, dict) or choice.get("finish_reason") is not None or choice.get("logprobs"):
        return None
    added = [(key, value) for key, value in delta.items() if (value and key != "role") or is_extra(key, value)]
    if len(added) != 1:
        return None
    key, value = added[0]
    if key == "tool_calls":
        key, value = "arguments", _only_arguments(value)
    elif key == "content" and choice.get("index", 0) != 0:
        return None
    return (key, value) if key in _ONE_TEXT and isinstance(value, str) else None


_ONE_TEXT = frozenset({"content", "reasoning_content", "reasoning", "arguments"})


def _only_arguments(calls: Any) -> Any:
    """The arguments that go on, of one call."""
    if not isinstance(calls, list) or len(calls) != 1 or not isinstance(calls[0], dict):
        return None
    function = calls[0].get("function")
    if calls[0].get("id") or not isinstance(function, dict) or function.get("name"):
        return None
    return function.get("arguments")
