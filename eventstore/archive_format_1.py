"""Segments of the first format, which are read for ever and no longer written.

A block is the length of its columns (4 bytes), the columns of the events and those of the frames as two JSON arrays of
arrays (numbers that grow as differences from row to row), and behind them the rows' bytes in order of position: of an
event its data, of frames their bytes. An origin's first event in a block has its digest before its data. The index
names streams in full.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any

import orjson

from eventstore.chain import chained
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames

DIGEST = 32
_LENGTH = struct.Struct(">I")
_GROWING = ((0, 2, 6), (0, 1, 5))
"""Of an event position, oseq and time; of frames position, generation and offset."""


def unpacked(plain: bytes) -> list[Recorded]:
    """The rows of a block. What it raises, `archive_format.unpack` turns into `LogCorrupt`."""
    (length,) = _LENGTH.unpack_from(plain)
    at = _LENGTH.size + length
    found: list[Recorded] = []
    digests: dict[str, bytes] = {}
    for *columns, size in _in_rows(orjson.loads(plain[_LENGTH.size : at])):
        found.append(_row(columns, plain[at : at + size], digests))
        at += size
    return found


def streams(named: dict[str, list[int]], key_of: Callable[[str], int]) -> dict[int, list[int]]:
    """The index's streams as the present format has them, by key."""
    found: dict[int, list[int]] = {}
    for name, blocks in named.items():
        key = key_of(name)
        found[key] = sorted({*found.get(key, ()), *blocks})
    return found


def _in_rows(lanes: list[list[list[Any]]]) -> list[tuple[Any, ...]]:
    """In order of position, the first of the columns."""
    rows: list[tuple[Any, ...]] = []
    for columns, growing in zip(lanes, _GROWING, strict=True):
        for number in growing if columns else ():
            columns[number] = list(accumulate(columns[number]))
        rows += zip(*columns, strict=True)
    return sorted(rows, key=itemgetter(0))


def _row(columns: Sequence[Any], content: bytes, digests: dict[str, bytes]) -> Recorded:
    if len(columns) == 7:  # frames have one column fewer than events
        return RecordedFrames(*[*columns, content])
    origin = columns[1]
    if origin in digests:
        digest = chained(digests[origin], content)
    else:
        digest, content = content[:DIGEST], content[DIGEST:]
    digests[origin] = digest
    return RecordedEvent(*[*columns, content, digest])
