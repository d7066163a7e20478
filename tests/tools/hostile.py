"""Python tools that end in ways nobody would choose."""

from __future__ import annotations

import asyncio
import sys


def leaves() -> str:
    """Ends the interpreter, it thinks."""
    sys.exit(3)


def runs_out() -> str:
    """Forgets that there may be nothing."""
    return next(iter(()))


async def gives_up() -> str:
    """Cancels itself."""
    raise asyncio.CancelledError


def circles() -> list[object]:
    """Holds itself."""
    held: list[object] = []
    held.append(held)
    return held


def halves() -> str:
    """Half a character."""
    return "\ud800!"


def raw() -> bytes:
    """No text at all."""
    return b"\xff\xfe"


def exact(number: object) -> str:
    """The number that it was given."""
    return repr(number)
