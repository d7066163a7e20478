"""How deep a parsed JSON value is. A parser takes 1,024 levels, a writer only 254: what lies between could be read, but
neither recorded nor sent on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def deeper_than(value: Any, levels: int, text: bytes) -> bool:
    """Whether the value has more than so many objects and arrays within one another. `text` is what it was parsed from:
    where it has too few brackets for that, nobody has to look."""
    if text.count(b"{") + text.count(b"[") <= levels:
        return False
    level = _nested([value])
    for _ in range(levels):
        level = _nested(inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer))
    return bool(level)


def _nested(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, (dict, list))]
