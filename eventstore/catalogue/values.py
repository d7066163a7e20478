"""Values that events carry: money, durations, usage. Pure; unknown fields of a provider ride along in `usage_raw`."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import Any

import orjson

from eventstore.value import value

PICO = 10**12


class Usd(int):
    """An amount of money: whole 1e-12 US dollars. In JSON it is an exact decimal number of dollars."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: str | float | Decimal) -> Usd:
        """From a decimal number of dollars; digits past 1e-12 are rounded half to even.

        A JSON number that went through `float` keeps 15 significant digits, and so any amount under 1,000 USD, exactly.
        """
        return cls(round(Decimal(str(value)) * PICO))

    def decimal(self) -> str:
        """As a plain decimal number of dollars: `0.00116`, `0`, `-1.5`."""
        sign, whole, part = "-" if self < 0 else "", abs(self) // PICO, abs(self) % PICO
        return f"{sign}{whole}" + (f".{part:012d}".rstrip("0") if part else "")


def milliseconds(seconds: float) -> float:
    """A duration as events have it: in milliseconds, to the microsecond."""
    return round(seconds * 1000, 3)


def dumps(value: Any, option: int = 0) -> bytes:
    """JSON bytes, `Usd` as an exact decimal number. Raises `TypeError` for what JSON cannot say."""
    return orjson.dumps(value, default=_default, option=option | orjson.OPT_PASSTHROUGH_SUBCLASS)


def _default(value: Any) -> Any:
    if isinstance(value, Usd):
        return orjson.Fragment(value.decimal().encode())
    raise TypeError(f"{type(value).__name__} is not JSON")


@value(kw_only=True)
class Usage:
    """Tokens of one generation, normalised. `input_tokens` is the whole prompt, cached tokens included (OpenAI's rule);
    `output_tokens` includes `reasoning_tokens`. `web_search_requests` are billed per request."""

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    web_search_requests: int = 0

    def compact(self) -> dict[str, int]:
        """The fields that are not 0."""
        return {name: value for name in USAGE if (value := getattr(self, name))}


USAGE = tuple(field.name for field in fields(Usage))
