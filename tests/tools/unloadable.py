"""A module whose tool no model could call: JSON has no such arguments."""

from __future__ import annotations


def positions(first: int, /, *more: int) -> int:
    """Takes its arguments by place."""
    return first + sum(more)
