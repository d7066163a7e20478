"""Columns as bytes: what rows have in common, side by side, so that a compressor sees it. Pure.

    numbers   count (4 bytes), width (1, 2, 4 or 8), then the lowest bytes of all, their second bytes, and so on
    texts     their lengths as numbers, then all of them one after the other

All of it is made and read a column at a time, in C. Numbers are from 0 to 2**64 - 1; `folded` makes such numbers of
signed ones. A byte plane that says nothing costs next to nothing once compressed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate

_HEAD = struct.Struct(">IB")
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


def numbers(values: Sequence[int]) -> bytes:
    """Raises `struct.error` or `TypeError` for what is no such number."""
    width = _width(max(values, default=0))
    plain = struct.pack(f"<{len(values)}{_CODES[width]}", *values)
    return b"".join((_HEAD.pack(len(values), width), *(plain[number::width] for number in range(width))))


def texts(values: Sequence[bytes]) -> bytes:
    """Raises `TypeError` for what is no bytes."""
    return numbers([len(value) for value in values]) + b"".join(values)


def folded(values: Iterable[int]) -> list[int]:
    """Signed numbers as 0, -1, 1, -2, 2…: small ones stay small."""
    return [value << 1 if value >= 0 else ~(value << 1) for value in values]


def unfolded(values: Iterable[int]) -> list[int]:
    """What `folded` was given."""
    return [value >> 1 ^ -(value & 1) for value in values]


class ColumnReader:
    """Gives columns back in the order in which they were written. Raises `ValueError` where they end too soon."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def numbers(self) -> list[int]:
        """What `numbers` was given."""
        count, width = _HEAD.unpack(self.take(_HEAD.size))
        if width not in _CODES:
            raise ValueError(f"numbers of {width} bytes")
        plain = bytearray(count * width)
        for number in range(width):
            plain[number::width] = self.take(count)
        return list(struct.unpack(f"<{count}{_CODES[width]}", plain))

    def texts(self) -> list[bytes]:
        """What `texts` was given."""
        lengths = self.numbers()
        content = self.take(sum(lengths))
        ends = list(accumulate(lengths))
        return [content[end - length : end] for length, end in zip(lengths, ends, strict=True)]

    def take(self, length: int) -> bytes:
        """The next so many bytes."""
        taken = self._content[self._at : self._at + length]
        if len(taken) != length:
            raise ValueError("the columns end too soon")
        self._at += length
        return taken


def _width(largest: int) -> int:
    return next((width for width in (1, 2, 4) if largest < 1 << 8 * width), 8)
