"""JSON numbers kept digit for digit, where a parser would pass them through floats."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import orjson

from gateway.wire.values import WireError


def loads(data: bytes) -> Any:
    """Like `orjson.loads`, but each number is an `orjson.Fragment` of its own text, so that `dumps` of it, or of a part
    of it, writes the same number. Slow: for the few frames that carry structured values. Raises `WireError`, also for
    what `dumps` could not write."""
    try:
        value = json.loads(data, parse_int=orjson.Fragment, parse_float=orjson.Fragment, parse_constant=_refuse)
    except (ValueError, RecursionError) as e:
        raise WireError("A frame of the answer is not valid JSON.") from e
    dumps(value)
    return value


def dumps(value: Any) -> str:
    """The JSON text of what `loads` gave. Raises `WireError` for a text that is not Unicode (a lone surrogate)."""
    try:
        return orjson.dumps(value).decode()
    except TypeError as e:
        raise WireError("A frame of the answer holds a text that is not Unicode.") from e


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
