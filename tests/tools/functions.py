"""Python tools for the tests, as an operator would write them."""

from __future__ import annotations

import asyncio
import threading
import time

LONG = 30.0
RELEASED = threading.Event()
CANCELLED = threading.Event()


def weather(city: str, days: int = 1) -> dict[str, object]:
    """The weather of a city."""
    return {"city": city, "days": days, "sky": "clear"}


async def tide(harbour: str) -> str:
    """When the tide is high."""
    await asyncio.sleep(0)
    return f"{harbour}: 04:12"


async def patient() -> str:
    """Never ends by itself."""
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        CANCELLED.set()
        raise
    return "late"


def stubborn() -> str:
    """Cannot be cancelled."""
    RELEASED.wait(LONG)
    return "late"


def broken() -> str:
    """Raises."""
    raise LookupError("the almanac is not there")


def long() -> str:
    """Says more than anybody reads."""
    return "x" * 200_000


def slow(seconds: float) -> str:
    """Holds its thread."""
    time.sleep(seconds)
    return "done"


def _not_a_tool() -> None:
    """Private."""
