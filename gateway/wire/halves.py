"""Characters that a chat stream splits over two chunks: JSON writes those beyond U+FFFF as two escapes (a surrogate
pair), and a server that escapes piece by piece may send one in each. A half waits for the other; alone it is U+FFFD.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.wire.fastlane import loads_unmended, mended

ESCAPE = (b"\\ud", b"\\uD")
"""How every half begins, and every pair."""
TEXTS = ("content", "reasoning_content", "reasoning", "refusal")
"""Of a delta."""

Place = tuple[int, object]
"""A choice, and a text of it."""


class Halves:
    """The halves that the texts of a stream ended in so far. False where there are none."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[Place, str] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def join(self, choices: Any, data: bytes) -> None:
        """Make the texts of a chunk's choices whole, in place; `data` is the chunk."""
        raw = choices if _is_whole(data) else loads_unmended(data).get("choices")
        if isinstance(choices, list) and isinstance(raw, list):
            for place, (choice, as_sent) in enumerate(zip(choices, raw, strict=True)):
                if isinstance(choice, dict) and isinstance(choice.get("delta"), dict):
                    self._choice(place, choice, as_sent)

    def _choice(self, place: int, choice: dict[str, Any], as_sent: dict[str, Any]) -> None:
        index = choice.get("index")
        index, ends = index if isinstance(index, int) else place, bool(choice.get("finish_reason"))
        for name in TEXTS:
            self._text((index, name), name, choice["delta"], as_sent["delta"], ends)
        for (number, call), (_, call_sent) in zip(_calls(choice["delta"]), _calls(as_sent["delta"]), strict=True):
            self._text((index, number), "arguments", call, call_sent, ends)

    def _text(self, place: Place, name: str, holder: dict[str, Any], as_sent: dict[str, Any], ends: bool) -> None:
        text = as_sent.get(name)
        if not isinstance(text, str):
            if not ends or place not in self._held:
                return
            text = ""
        text = self._held.pop(place, "") + text
        if text and not ends and "\ud800" <= text[-1] <= "\udbff":
            self._held[place] = text[-1]
            text = text[:-1]
        holder[name] = mended(text)


def _calls(delta: dict[str, Any]) -> Iterator[tuple[object, dict[str, Any]]]:
    """The functions of a delta's tool calls, each by its index."""
    calls = delta.get("tool_calls")
    for place, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict) and isinstance(call.get("function"), dict):
            index = call.get("index")
            yield index if isinstance(index, int) else place, call["function"]


def _is_whole(data: bytes) -> bool:
    """Whether no half stands alone in it."""
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True
