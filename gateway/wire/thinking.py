"""`thinking`: one word for how much a model reasons, as the original AbstractCore server takes it; each family says it
in its own way. An object is Anthropic's own form of the field, and no wish of this kind."""

from __future__ import annotations

from typing import Any

from gateway.errors import InvalidRequest

LEVELS = ("minimal", "low", "medium", "high", "xhigh", "max")
USUAL = "medium"
"""The level that `on` stands for where a family knows levels only."""


def wish(thinking: Any) -> str | None:
    """`off`, `on`, or a level; None where the provider decides (null, `auto`).

    Raises `InvalidRequest` for another word.
    """
    if thinking is None or thinking == "auto" or isinstance(thinking, dict):
        return None
    if isinstance(thinking, bool):
        return "on" if thinking else "off"
    if thinking in ("off", "none"):
        return "off"
    if thinking == "on" or thinking in LEVELS:
        return str(thinking)
    raise InvalidRequest(
        f"'thinking' must be null, auto, on, off, or one of {', '.join(LEVELS)}.",
        param="thinking",
        code="invalid_value",
    )


def effort(thinking: Any) -> str | None:
    """The same as OpenAI's `reasoning_effort`."""
    wished = wish(thinking)
    return {"on": USUAL, "off": "none"}.get(wished, wished) if wished else None
