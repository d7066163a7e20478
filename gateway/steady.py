"""The clock that ages and cool-downs are measured by: whatever the wall clock does, a second of it is a second."""

from __future__ import annotations

import time
from collections.abc import Callable

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""It goes on while the machine sleeps; where Linux has a clock of its own for that, macOS has none but this."""


def elapsed_us() -> int:
    """Microseconds since some moment."""
    return time.clock_gettime_ns(CLOCK) // 1_000


def steady_from(at_us: int) -> Callable[[], int]:
    """A clock of microseconds since 1970 UTC that says `at_us` now, and that no jump of the wall clock moves."""
    began = elapsed_us()
    return lambda: at_us + elapsed_us() - began
