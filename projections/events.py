"""How projections read an event: always in the newest schema; its time as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from eventstore.catalogue import REGISTRY
from eventstore.catalogue.upcasts import upcast
from eventstore.catalogue.values import Usd
from eventstore.envelope import RecordedEvent
from eventstore.errors import UnknownEventType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = 1_000_000
"""A millionth of a dollar, in 1e-12 USD."""


def newest(event: RecordedEvent) -> dict[str, Any]:
    """The flat object in the newest schema of its type. Not decoded further: a fold reads a few fields of many events.

    Raises `UnknownEventType` for a type or a schema that this release does not know.
    """
    cls = REGISTRY.get(event.type)
    if cls is None:
        raise UnknownEventType(event.type)
    body = event.body
    return body if body["schema"] == cls.schema else upcast(cls, body)


def money(value: float | None) -> int | None:
    """A recorded amount of dollars as whole 1e-12 USD; None stays None (no price is known)."""
    return None if value is None else int(Usd.parse(value))


def summed(column: str) -> str:
    """SQL for a sum of amounts, as two columns for `amount`: SQLite's own fails at nine million dollars, which are more
    than 63 bits hold."""
    whole = f"{column} / {_MICRO}"
    return f"coalesce(sum({whole}), 0), coalesce(sum({column} - {whole} * {_MICRO}), 0)"


def amount(high: int, low: int) -> Usd:
    """The amount that `summed` found."""
    return Usd(high * _MICRO + low)


def moment(at: int) -> datetime:
    """Microseconds since 1970 as a date and time in UTC."""
    return _EPOCH + timedelta(microseconds=at)


def iso(at: int) -> str:
    """Microseconds since 1970 as `2026-11-21T10:15:00.123456Z`."""
    return moment(at).isoformat(timespec="microseconds")[:-6] + "Z"


def stamp(at: int) -> str:
    """Microseconds since 1970 as the TIMESTAMP of a file's name: `20261121_101500`, UTC."""
    return moment(at).strftime("%Y%m%d_%H%M%S")
