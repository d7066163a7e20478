"""Blocks of segments of the first format, which are read for ever, and written only to make a damaged file again.

A block is the length of its columns (4 bytes), the columns of the events and those of the frames as two JSON arrays of
arrays (numbers that grow as differences from row to row), and behind them the rows' bytes in order of position: of an
event its data, of frames their bytes. An origin's first event in a block has its digest before its data. The index
names streams in full.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import Any

import orjson

from eventstore.chain import chained
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt

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


def packed(page: Sequence[Recorded]) -> bytes:
    """The block of these rows. Raises `LogCorrupt` where a digest does not go on from the one before."""
    lanes: tuple[list[list[Any]], list[list[Any]]] = [], []
    contents = []
    digests: dict[str, bytes] = {}
    for row in page:
        content = row.bytes if isinstance(row, RecordedFrames) else _content(row, digests)
        lanes[isinstance(row, RecordedFrames)].append([*_columns(row), len(content)])
        contents.append(content)
    head = orjson.dumps([_in_columns(lane, growing) for lane, growing in zip(lanes, _GROWING, strict=True)])
    return b"".join((_LENGTH.pack(len(head)), head, *contents))


def _content(event: RecordedEvent, digests: dict[str, bytes]) -> bytes:
    before = digests.get(event.origin)
    digests[event.origin] = event.digest
    if before is None:
        return event.digest + event.data
    if chained(before, event.data) != event.digest:
        raise LogCorrupt(event.position, "the digest does not match the data and the digest before it")
    return event.data


def _in_columns(lane: list[list[Any]], growing: tuple[int, ...]) -> list[list[Any]]:
    columns = [list(column) for column in zip(*lane, strict=True)]
    for number in growing if columns else ():
        column = columns[number]
        columns[number] = [new - old for old, new in pairwise([0, *column])]
    return columns


def _columns(row: Recorded) -> list[Any]:
    if isinstance(row, RecordedFrames):
        return [row.position, row.generation, row.back, row.frame, row.count, row.offset_us, row.codec]
    return [row.position, row.origin, row.oseq, row.stream, row.version, row.type, row.at, row.codec]


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
