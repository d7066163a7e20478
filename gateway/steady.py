"""The clock that ages and cool-downs are measured by: whatever the wall clock does, a second of it is a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""It goes on while the machine sleeps; where Linux has a clock of its own for that, macOS has none but this."""


elapsed_ns = partial(time.clock_gettime_ns, CLOCK)
"""Nanoseconds since some moment."""


def steady_from(at_us: int) -> Callable[[], int]:
    """A clock of microseconds since 1970 UTC that says `at_us` now, and that no jump of the wall clock moves."""
    elapsed, before = elapsed_ns, at_us * 1_000 - elapsed_ns()
    return lambda: (before + elapsed()) // 1_000
