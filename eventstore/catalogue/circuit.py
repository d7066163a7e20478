"""Circuit breakers: a provider that fails on and on is left alone for a while. Stream `provider-<name>`.

`credential` is the fingerprint of the key that was called with, None without one. Times are microseconds since 1970.
"""

from __future__ import annotations

from typing import Any, ClassVar

from eventstore.catalogue.event import Event, event
from eventstore.value import value


@event
@value(kw_only=True)
class CircuitOpened(Event):
    """So many `failures` in a row, or the provider's own word (`reason`): no probe before `retry_at`. `inputs` is what
    this was decided from."""

    type: ClassVar[str] = "circuit_opened"

    provider: str
    reason: str
    failures: int
    opened_at: int
    retry_at: int
    cool_down_s: float
    inputs: dict[str, Any]
    credential: str | None = None


@event
@value(kw_only=True)
class CircuitHalfOpened(Event):
    """One request goes there to see; where its end is never heard of, the next may at `retry_at`."""

    type: ClassVar[str] = "circuit_half_opened"

    provider: str
    failures: int
    opened_at: int
    retry_at: int
    cool_down_s: float
    inputs: dict[str, Any]
    credential: str | None = None


@event
@value(kw_only=True)
class CircuitClosed(Event):
    """The provider answers again, or was configured anew."""

    type: ClassVar[str] = "circuit_closed"

    provider: str
    inputs: dict[str, Any]
    credential: str | None = None
