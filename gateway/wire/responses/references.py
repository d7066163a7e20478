"""Items of the input that only name an item of an earlier response: `{"type": "item_reference", "id"}`.

Clients that let the server store responses (Vercel's AI SDK does, unless it is told otherwise) send what the model said
so, and not again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Items = list[dict[str, Any]]


def referred(item: Mapping[str, Any]) -> str | None:
    """The id that a reference names; None for an item that stands for itself. The type may be left out."""
    kind = item.get("type")
    if kind == "item_reference" or (kind is None and "role" not in item and "id" in item):
        return str(item.get("id"))
    return None


def request_of(item_id: str) -> str:
    """The request that issued an id: `<kind>_<request>_<place>`."""
    return item_id.partition("_")[2].rpartition("_")[0]


def by_id(shown: Items, signed: Items) -> dict[str, Items]:
    """Id -> what it stands for. `shown` is the output as its client knows it, `signed` the same with the thinking that
    the provider wants back; thinking that the client was never shown comes before the item that it led to."""
    if _told(shown) != _told(signed):
        return {item["id"]: [item] for item in shown}
    found: dict[str, Items] = {}
    known, unseen = iter(shown), list[dict[str, Any]]()
    expected = next(known, None)
    for item in signed:
        if expected is None or item["type"] != expected["type"]:
            unseen.append(item)
            continue
        found[expected["id"]] = [*unseen, item]
        expected, unseen = next(known, None), []
    return found


def _told(output: Sequence[Mapping[str, Any]]) -> list[str]:
    return [item["type"] for item in output if item["type"] != "reasoning"]
