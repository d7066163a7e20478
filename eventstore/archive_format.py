"""The file of an archived segment: a contiguous range of positions, compressed, each byte under a digest.

    magic                 8 bytes
    blocks                zstd, one after the other; each holds rows as columns, see `archive_block`
    index                 zstd over a JSON object, see `Segment`
    footer                index offset (8 bytes), index length (8), sha256 of magic and index (32), magic (8)

All integers are big-endian. Blobs are not part of it. What differs from format to format is a `Format`: those that came
before are read for ever, and written where a damaged file is made again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from zlib import crc32

import orjson
import zstandard

from eventstore import archive_block, archive_format_1
from eventstore.envelope import Recorded, RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.value import value

FOOTER = struct.Struct(">QQ32s8s")
MAGIC_LENGTH = 8
BLOCK_MAXIMUM = 1 << 30
"""Bytes that a block or an index may unfold to: more is damage."""
LEVEL = 19
"""Written once and read seldom: the last tenth is worth the time."""


@value
class Format:
    """One way to write a segment. A block ends with the row that brings it to `block_rows`, or to `block_content` bytes
    held by them: what rows share is stored once a block, and to read one of them the block is unfolded whole. `key` is
    what the index has of a stream's name."""

    magic: bytes
    block_rows: int
    block_content: int
    packed: Callable[[Sequence[Recorded]], bytes]
    unpacked: Callable[[bytes], list[Recorded]]
    key: Callable[[str], str]


def _checksum(stream: str) -> str:
    """Most of a name is random, and the block has it anyway. Two names may have the same."""
    return str(crc32(stream.encode()))


NEWEST = Format(b"ACLGSEG\x02", 16_384, 2 << 20, archive_block.packed, archive_block.unpacked, _checksum)
FIRST = Format(b"ACLGSEG\x01", 2_048, 1 << 62, archive_format_1.packed, archive_format_1.unpacked, str)
FORMATS = {known.magic: known for known in (NEWEST, FIRST)}
"""By what their files begin with, of which the last byte is the format's version."""


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
    """A file's index. `streams` and `runs` name the blocks (by number) that hold a stream's events and a run's frames.
    A stream goes by its key, and a run by its generation as text. `chains` are `(oseq, digest in hex)` of each origin's
    last event here, from which its chain goes on."""

    format: Format
    first: int
    through: int
    events: int
    frames: int
    blocks: tuple[Block, ...]
    streams: dict[str, list[int]]
    runs: dict[str, list[int]]
    chains: dict[str, tuple[int, str]]

    def blocks_of(self, stream: str) -> list[int]:
        """The blocks outside of which the stream has no events."""
        return self.streams.get(self.format.key(stream), [])

    def blocks_of_run(self, generation: int) -> list[int]:
        """The blocks outside of which the run has no frames."""
        return self.runs.get(str(generation), [])


def pack(rows: Iterable[Recorded], written: Format = NEWEST) -> Iterator[bytes]:
    """The file in pieces, from rows in order of position. Raises `LogCorrupt` where a position is missing or a row is
    not what was written, and `ValueError` where there are no rows."""
    index = _Index(written)
    yield written.magic
    for page in _pages(rows, written):
        index.check_positions(page)
        packed = zstandard.compress(written.packed(page), LEVEL)
        index.add(page, packed)
        yield packed
    packed = zstandard.compress(index.encoded(), LEVEL)
    yield packed
    yield FOOTER.pack(index.offset, len(packed), sha256(written.magic + packed).digest(), written.magic)


def segment(magic: bytes, packed: bytes) -> Segment:
    """The index from its compressed bytes, which agreed with the footer. Raises `LogCorrupt`."""
    if magic not in FORMATS:
        raise LogCorrupt(0, "no archived segment of a known version")
    try:
        read = orjson.loads(_unfolded(packed))
        return Segment(
            FORMATS[magic],
            read["first"],
            read["through"],
            read["events"],
            read["frames"],
            tuple(Block(*block) for block in read["blocks"]),
            read["streams"],
            read["runs"],
            {origin: (oseq, digest) for origin, (oseq, digest) in read["chains"].items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LogCorrupt(0, f"the index of a segment makes no sense: {error}") from error


def unpack(written: Format, block: Block, packed: bytes) -> list[Recorded]:
    """The rows of a block. Raises `LogCorrupt` where its bytes are not those that were written."""
    if sha256(packed).hexdigest() != block.digest:
        raise LogCorrupt(block.first, f"the archived block of positions {block.first} to {block.last} is damaged")
    return written.unpacked(_unfolded(packed))


class _Index:
    """What the index will say, gathered block by block; `offset` is where the next piece of the file begins."""

    def __init__(self, written: Format) -> None:
        self._key = written.key
        self.offset = MAGIC_LENGTH
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
        _once(self._streams.setdefault(self._key(row.stream), []), number)
        self._chains[row.origin] = row.oseq, row.digest.hex()


def _once(numbers: list[int], number: int) -> None:
    if not numbers or numbers[-1] != number:
        numbers.append(number)


def _pages(rows: Iterable[Recorded], written: Format) -> Iterator[list[Recorded]]:
    page: list[Recorded] = []
    room = written.block_content
    for row in rows:
        page.append(row)
        room -= len(row.bytes if isinstance(row, RecordedFrames) else row.data)
        if len(page) == written.block_rows or room <= 0:
            yield page
            page, room = [], written.block_content
    if page:
        yield page


def _unfolded(packed: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=BLOCK_MAXIMUM)
    except zstandard.ZstdError as error:
        raise LogCorrupt(0, f"an archived segment does not unfold: {error}") from error
