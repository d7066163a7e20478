"""Anthropic's words for a list of models (https://docs.anthropic.com/en/api/models-list), beside OpenAI's: both have
`data` and `id`. Where there is one name for two things, as `type`, Anthropic's is meant here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

ASKED_BY = "anthropic-version"
"""The header that every client of Anthropic's sends, and no other."""
_OTHERS = frozenset({"capabilities"})
"""What is an object of another kind there."""


def model(shown: Mapping[str, Any]) -> dict[str, Any]:
    """One model, from OpenAI's object of it."""
    said = {name: value for name, value in shown.items() if name not in _OTHERS}
    return said | {
        "type": "model",
        "display_name": shown["id"],
        "created_at": _time(shown["created"]),
        "lifecycle": "active",
        "max_input_tokens": shown.get("context_length"),
    }


def page(listed: Mapping[str, Any]) -> dict[str, Any]:
    """All of them, from OpenAI's list: it is one page."""
    data = [model(shown) for shown in listed["data"]]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {**listed, "data": data, "has_more": False, **ends}


def _time(created: int) -> str:
    """Seconds since 1970 UTC, which Anthropic's service has too where it does not know, as RFC 3339."""
    try:
        return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return "1970-01-01T00:00:00Z"
