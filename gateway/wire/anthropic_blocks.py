"""Where thinking stood among an answer's text and calls. Chat has a list for each of them, Anthropic has one order, and
wants signed thinking back where it stood (https://docs.claude.com/en/docs/build-with-claude/extended-thinking, under
"preserving thinking blocks").

A block that was not the first of its answer carries its place: `after: {text, tool_calls}`, the characters of text and
the calls that came before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

AFTER = "after"


def placed(block: dict[str, Any], text: int, calls: int) -> dict[str, Any]:
    """The block with its place, which at the beginning goes without saying."""
    return {**block, AFTER: {"text": text, "tool_calls": calls}} if text or calls else block


def ordered(thinking: Sequence[Any], texts: Sequence[Any], calls: Sequence[Any]) -> list[Any]:
    """All the blocks of a message, as they stood. Thinking without a place comes first."""
    said: list[Any] = []
    length = called = 0
    for block in thinking:
        place = block.get(AFTER) if isinstance(block, dict) else None
        if isinstance(place, dict):
            before, texts = _cut(texts, _count(place, "text") - length)
            said += [*before, *calls[called : _count(place, "tool_calls")]]
            length, called = max(length, _count(place, "text")), max(called, _count(place, "tool_calls"))
            block = {name: value for name, value in block.items() if name != AFTER}
        said.append(block)
    return [*said, *texts, *calls[called:]]


def _count(place: Mapping[str, Any], name: str) -> int:
    """A number that a client gave back."""
    count = place.get(name)
    return count if isinstance(count, int) and count > 0 else 0


def _cut(blocks: Sequence[Any], length: int) -> tuple[list[Any], Sequence[Any]]:
    """Texts in two: so many characters, and the rest. The API refuses halves that are blank."""
    before: list[Any] = []
    for index, block in enumerate(blocks):
        text = block.get("text") or ""
        if len(text) > length:
            halves = [{**block, "text": half} if half.strip() else None for half in (text[:length], text[length:])]
            rest = [block for block in (halves[1], *blocks[index + 1 :]) if block]
            return [*before, *([halves[0]] if halves[0] else [])], rest
        before.append(block)
        length -= len(text)
    return before, []
