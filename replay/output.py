"""How what a command found is written: for programs, and for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from eventstore.catalogue.values import Usd, dumps

T = TypeVar("T")
CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""What JSON leaves as it is and a terminal obeys."""


def write_json(value: Any) -> None:
    """One line of JSON: UTF-8, whatever the terminal's encoding is, money as exact decimal numbers."""
    sys.stdout.buffer.write(dumps(value) + b"\n")


def tell(done: T, as_json: bool, told: Callable[[T], str]) -> None:
    """What was done: as JSON, or as it is told to people."""
    if as_json:
        write_json(done)
    else:
        print(told(done))


def printable(value: Any) -> str:
    """JSON on one line, texts of one word bare, numbers without exponents; nothing in it moves a terminal's cursor."""
    if isinstance(value, Usd):
        return value.decimal()
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    if isinstance(value, str) and value.isascii() and value.isprintable() and value and " " not in value:
        return value
    return json.dumps(value, ensure_ascii=False).translate(CONTROLS)


def moment(at: int) -> str:
    """Microseconds since 1970 as `2026-11-21 01:26:13.123` UTC."""
    return datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
