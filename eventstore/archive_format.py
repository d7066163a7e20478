"""The file of an archived segment: a contiguous range of positions, compressed, each byte under a digest.

    magic                 8 bytes
    blocks                zstd, one after the other; each holds up to `BLOCK_ROWS` rows
    index                 zstd over a JSON object, see `Segment`
    footer                index offset (8 bytes), index length (8), sha256 of magic and index (32), magic (8)

A block is the length of its columns (4 bytes), the columns of the events and those of the frames as two JSON arrays of
arrays (numbers that grow as differences from row to row, which fold better), and behind them the rows' bytes in order
of position: of an event its data, of frames their bytes. An origin's first event in a block has its digest before its
data; the others' are made again from it, since they are a chain. All integers are big-endian. Blobs are not part of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import Any

import orjson
import zstandard

from eventstore.chain import chained
from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.value import value

MAGIC = b"ACLGSEG\x01"
"""The last byte is the format's version."""
FOOTER = struct.Struct(">QQ32s8s")
BLOCK_ROWS = 2_048
BLOCK_MAXIMUM = 1 << 30
"""Bytes that a block or an index may unfold to: more is damage."""
LEVEL = 19
"""Written once and read seldom: the last tenth is worth the time."""
DIGEST = 32
_LENGTH = struct.Struct(">I")


@value
class Block:
    """Where a block lies in the file, the sha256 of its compressed bytes in hex, and the positions it spans."""

    offset: int
    length: int
    digest: str
    first: int
    last: int


@value
class Segment:
    """A file's index. `streams` and `runs` name the blocks (by number) that hold a stream's events and a run's frames;
    `chains` are `(oseq, digest in hex)` of each origin's last event here, from which its chain goes on."""

    first: int
    through: int
    events: int
    frames: int
    blocks: tuple[Block, ...]
    streams: dict[str, list[int]]
    runs: dict[int, list[int]]
    chains: dict[str, tuple[int, str]]


def pack(rows: Iterable[Recorded]) -> Iterator[bytes]:
    """The file in pieces, from rows in order of position. Raises `LogCorrupt` where a position is missing, and
    `ValueError` where there are no rows."""
    index = _Index()
    yield MAGIC
    for page in _pages(rows):
        index.check_positions(page)
        packed = zstandard.compress(_block(page), LEVEL)
        index.add(page, packed)
        yield packed
    packed = zstandard.compress(index.encoded(), LEVEL)
    yield packed
    yield FOOTER.pack(index.offset, len(packed), sha256(MAGIC + packed).digest(), MAGIC)


def segment(magic: bytes, packed: bytes) -> Segment:
    """The index from its compressed bytes, which agreed with the footer. Raises `LogCorrupt`."""
    if magic != MAGIC:
        raise LogCorrupt(0, "no archived segment of a known version")
    try:
        read = orjson.loads(_unfolded(packed))
        return Segment(
            read["first"],
            read["through"],
            read["events"],
            read["frames"],
            tuple(Block(*block) for block in read["blocks"]),
            read["streams"],
            {int(generation): numbers for generation, numbers in read["runs"].items()},
            {origin: (oseq, digest) for origin, (oseq, digest) in read["chains"].items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LogCorrupt(0, f"the index of a segment makes no sense: {error}") from error


def unpack(block: Block, packed: bytes) -> list[Recorded]:
    """The rows of a block. Raises `LogCorrupt` where its bytes are not those that were written."""
    if sha256(packed).hexdigest() != block.digest:
        raise LogCorrupt(block.first, f"the archived block of positions {block.first} to {block.last} is damaged")
    plain = _unfolded(packed)
    (length,) = _LENGTH.unpack_from(plain)
    at = _LENGTH.size + length
    found: list[Recorded] = []
    digests: dict[str, bytes] = {}
    for *columns, size in _in_rows(orjson.loads(plain[_LENGTH.size : at])):
        found.append(_row(columns, plain[at : at + size], digests))
        at += size
    return found


class _Index:
    """What the index will say, gathered block by block; `offset` is where the next piece of the file begins."""

    def __init__(self) -> None:
        self.offset = len(MAGIC)
        self._blocks: list[tuple[int, int, str, int, int]] = []
        self._counts = {"events": 0, "frames": 0}
        self._streams: dict[str, list[int]] = {}
        self._runs: dict[str, list[int]] = {}
        self._chains: dict[str, tuple[int, str]] = {}

    def add(self, page: list[Recorded], packed: bytes) -> None:
        """The next block."""
        first, last = page[0].position, page[-1].position
        for row in page:
            self._note(row, len(self._blocks))
        self._blocks.append((self.offset, len(packed), sha256(packed).hexdigest(), first, last))
        self.offset += len(packed)

    def encoded(self) -> bytes:
        """The index as JSON."""
        if not self._blocks:
            raise ValueError("a segment without rows")
        return orjson.dumps(
            {
                "first": self._blocks[0][3],
                "through": self._blocks[-1][4],
                **self._counts,
                "blocks": self._blocks,
                "streams": self._streams,
                "runs": self._runs,
                "chains": self._chains,
            }
        )

    def check_positions(self, page: list[Recorded]) -> None:
        """Raises `LogCorrupt` unless the next block's rows follow one another and the last block."""
        expected = self._blocks[-1][4] + 1 if self._blocks else page[0].position
        for row in page:
            if row.position != expected:
                raise LogCorrupt(row.position, f"positions {expected} to {row.position - 1} are missing")
            expected += 1

    def _note(self, row: Recorded, number: int) -> None:
        if isinstance(row, RecordedFrames):
            self._counts["frames"] += 1
            _once(self._runs.setdefault(str(row.generation), []), number)
            return
        self._counts["events"] += 1
        _once(self._streams.setdefault(row.stream, []), number)
        self._chains[row.origin] = row.oseq, row.digest.hex()


def _once(numbers: list[int], number: int) -> None:
    if not numbers or numbers[-1] != number:
        numbers.append(number)


def _pages(rows: Iterable[Recorded]) -> Iterator[list[Recorded]]:
    page: list[Recorded] = []
    for row in rows:
        page.append(row)
        if len(page) == BLOCK_ROWS:
            yield page
            page = []
    if page:
        yield page


def _block(page: list[Recorded]) -> bytes:
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


_GROWING = ((0, 2, 6), (0, 1, 5))
"""Of an event position, oseq and time; of frames position, generation and offset."""


def _in_columns(lane: list[list[Any]], growing: tuple[int, ...]) -> list[list[Any]]:
    columns = [list(column) for column in zip(*lane, strict=True)]
    for number in growing if columns else ():
        column = columns[number]
        columns[number] = [new - old for old, new in pairwise([0, *column])]
    return columns


def _in_rows(lanes: list[list[list[Any]]]) -> list[tuple[Any, ...]]:
    """In order of position, the first of the columns."""
    rows: list[tuple[Any, ...]] = []
    for columns, growing in zip(lanes, _GROWING, strict=True):
        for number in growing if columns else ():
            columns[number] = list(accumulate(columns[number]))
        rows += zip(*columns, strict=True)
    return sorted(rows, key=itemgetter(0))


def _columns(row: Recorded) -> list[Any]:
    if isinstance(row, RecordedFrames):
        return [row.position, row.generation, row.back, row.frame, row.count, row.offset_us, row.codec]
    return [row.position, row.origin, row.oseq, row.stream, row.version, row.type, row.at, row.codec]


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


def _unfolded(packed: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=BLOCK_MAXIMUM)
    except zstandard.ZstdError as error:
        raise LogCorrupt(0, f"an archived segment does not unfold: {error}") from error
