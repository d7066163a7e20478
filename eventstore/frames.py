"""The frames lane: packing verbatim frames into rows, and getting exactly the same bytes out again.

A *frame* is one message of a long answer, verbatim (one SSE event, one NDJSON line, or a whole body). Neighbours
in one run differ in little: a *template* (prefix and suffix) found in one frame is elided from those after it. Where
two things differ, such as a text and a time, the template has what stands between them too.
The packing is pure and knows nothing of what the bytes mean.

Codecs of a row:
    PLAIN     one frame, as it is.
    JOINED    several frames joined by RS (0x1e).
    TEMPLATE  uvarint index, uvarint prefix length, uvarint suffix length; then like ELIDED. The frame at `index`
              is whole, and its ends are the template of the frames after it, here and in later rows, up to the next.
    ELIDED    frames joined by RS; one that begins with US (0x1f) is the middle of a frame: put the template around it.
    PAIRED    like TEMPLATE, with two more uvarints behind the suffix's: where in the whole frame that begins which
              stands between the two things that differ, and its length. In each middle of the run GS (0x1d) is for it.
Where a frame holds RS or US (no valid JSON text does), every frame of its batch gets a row of its own, PLAIN.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from eventstore.envelope import NewFrames, RecordedFrames
from eventstore.errors import LogCorrupt

PLAIN, JOINED, TEMPLATE, ELIDED, PAIRED = range(5)
GS = b"\x1d"
RS = b"\x1e"
US = b"\x1f"
SEP = RS + US
_UNITS = re.compile(rb"\x1e(?!\x1f)")
"""Between whole frames, and between a whole frame and the middles before it."""


@dataclass(frozen=True, slots=True)
class Template:
    """What the frames of one run share: their ends and, if two things differ, what stands between those."""

    prefix: bytes
    suffix: bytes
    between: bytes = b""

    def middle(self, frame: bytes) -> bytes | None:
        """What is left of a frame without this; None where it has not all of it."""
        prefix, suffix = self.prefix, self.suffix
        middle = frame.removeprefix(prefix).removesuffix(suffix)
        if len(middle) + len(prefix) + len(suffix) != len(frame):
            return None
        if not self.between:
            return middle
        one, there, other = middle.partition(self.between)
        return one + GS + other if there and GS not in middle else None

    def around(self, middle: bytes) -> bytes:
        """The frame again."""
        return self.prefix + (middle.replace(GS, self.between, 1) if self.between else middle) + self.suffix


@dataclass(frozen=True, slots=True)
class Middles:
    """Neighbouring frames without the template around them: what stands in each, joined by `SEP`."""

    joined: bytes

    def each(self) -> list[bytes]:
        """One by one."""
        return self.joined.split(SEP)


Part = bytes | Middles
"""A whole frame, or a run of elided ones: what a row holds, as decoders take it."""


class FrameRun:
    """The writing side of one run: numbers its frames, elides, digests. `generation` is the position of the ledger
    event that opened it. The digest covers every row as written, so a flipped bit in any column of it shows."""

    __slots__ = ("_digest", "count", "generation", "last_position", "template")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.count = 0
        self.last_position = 0
        self.template: Template | None = None
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Hex sha256 over the rows packed so far."""
        return self._digest.hexdigest()

    def pack(
        self, frames: Sequence[bytes], offset_us: int, opens: tuple[int, Template] | None = None
    ) -> tuple[list[NewFrames], list[Part]]:
        """The rows for these frames, and their parts as every later reader of the rows will find them. `opens` names
        the frame whose ends become the run's template from there on, and that template."""
        if len(frames) == 1 and opens is None and (alone := self.alone(frames[0], offset_us)) is not None:
            return alone
        raw = b"".join(frames)
        if US in raw or RS in raw or not frames:
            return [self._row(1, offset_us, PLAIN, frame) for frame in frames], list(frames)
        if opens is not None:
            index, self.template = opens
            codec, head = _head(index, frames[index], self.template)
            packed = RS.join(frames[: index + 1])
            if index + 1 < len(frames):
                packed += RS + _elide(frames[index + 1 :], self.template)
            return [self._row(len(frames), offset_us, codec, head + packed)], _parts(packed)
        if self.template is not None and len(packed := _elide(frames, self.template)) < len(raw) + len(frames) - 1:
            return [self._row(len(frames), offset_us, ELIDED, packed)], _parts(packed)
        codec = JOINED if len(frames) > 1 else PLAIN
        return [self._row(len(frames), offset_us, codec, RS.join(frames))], list(frames)

    def alone(self, frame: bytes, offset_us: int) -> tuple[list[NewFrames], list[Part]] | None:
        """As `pack`, of one frame that is of the template, as a slow model's come one by one; None of any other, and of
        one that is not shorter without what is shared."""
        middle = None if self.template is None or US in frame or RS in frame else self.template.middle(frame)
        if middle is None or len(middle) + 1 >= len(frame):
            return None
        return [self._row(1, offset_us, ELIDED, US + middle)], [Middles(middle)]

    def _row(self, count: int, offset_us: int, codec: int, packed: bytes) -> NewFrames:
        row = NewFrames(self, self.count + 1, count, offset_us, codec, packed)
        self.count += count
        self._digest.update(_digest_head(row.frame, count, offset_us, codec, packed) + packed)
        return row


class FrameReader:
    """The reading side of one run: rows in order in, the verbatim frames out. Carries the template from row to row."""

    __slots__ = ("_digest", "count", "template")

    def __init__(self) -> None:
        self.count = 0
        self.template: Template | None = None
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Hex sha256 over the rows read so far; equals the writer's when nothing is damaged or missing."""
        return self._digest.hexdigest()

    def unpack(self, row: RecordedFrames) -> list[bytes]:
        """The frames of the next row, verbatim. Raises `LogCorrupt` where the row cannot be what was written."""
        frames: list[bytes] = []
        for part in self.parts(row):
            if isinstance(part, bytes):
                frames.append(part)
            else:
                template = self.template
                assert template is not None  # parts() refuses middles without one
                frames += map(template.around, part.each())
        return frames

    def parts(self, row: RecordedFrames) -> list[Part]:
        """The parts of the next row, as `FrameRun.pack` gave them. Raises like `unpack`."""
        packed = self.skip(row)
        if row.codec == PLAIN:
            return [packed]
        return list(packed.split(RS)) if row.codec == JOINED else _parts(packed)

    def skip(self, row: RecordedFrames) -> bytes:
        """Count and digest the next row without making its frames, which is all that verification needs. Returns them
        packed. Raises like `unpack`."""
        if row.frame != self.count + 1:
            raise LogCorrupt(row.position, f"frame {row.frame} follows frame {self.count}")
        packed = row.bytes
        self._digest.update(_digest_head(row.frame, row.count, row.offset_us, row.codec, packed) + packed)
        if row.codec in (TEMPLATE, PAIRED):
            packed = self._open_template(row)
        elif row.codec not in (PLAIN, JOINED) and (row.codec != ELIDED or self.template is None):
            raise LogCorrupt(row.position, f"codec {row.codec} cannot stand here")
        count = 1 if row.codec == PLAIN else packed.count(RS) + 1
        if count != row.count:
            raise LogCorrupt(row.position, f"{count} frames where the row says {row.count}")
        self.count += count
        return packed

    def _open_template(self, row: RecordedFrames) -> bytes:
        index, at = _read_uvarint(row.bytes, 0, row.position)
        prefix, at = _read_uvarint(row.bytes, at, row.position)
        suffix, at = _read_uvarint(row.bytes, at, row.position)
        begin, length = prefix, 0
        if row.codec == PAIRED:
            begin, at = _read_uvarint(row.bytes, at, row.position)
            length, at = _read_uvarint(row.bytes, at, row.position)
        packed = row.bytes[at:]
        items = packed.split(RS, index + 1)
        if index >= len(items) or not prefix <= begin <= begin + length <= len(items[index]) - suffix:
            raise LogCorrupt(row.position, "the template lies outside its frame")
        opened = items[index]
        self.template = Template(opened[:prefix], opened[len(opened) - suffix :], opened[begin : begin + length])
        return packed


def _head(index: int, frame: bytes, template: Template) -> tuple[int, bytes]:
    """The codec of the row that a template is opened in, and what stands there before its frames."""
    head = _uvarint(index) + _uvarint(len(template.prefix)) + _uvarint(len(template.suffix))
    if not template.between:
        return TEMPLATE, head
    begin = frame.index(template.between, len(template.prefix))
    return PAIRED, head + _uvarint(begin) + _uvarint(len(template.between))


def _elide(frames: Sequence[bytes], template: Template) -> bytes:
    """Frames joined by RS, each that has what the template shares as US and its middle."""
    if template.between:
        middles = map(template.middle, frames)
        pairs = zip(frames, middles, strict=True)
        return RS.join([frame if middle is None else US + middle for frame, middle in pairs])
    prefix, suffix = template.prefix, template.suffix
    ends = len(prefix) + len(suffix)
    return RS.join(
        [
            US + middle
            if len(middle := frame.removeprefix(prefix).removesuffix(suffix)) + ends == len(frame)
            else frame
            for frame in frames
        ]
    )


def _parts(packed: bytes) -> list[Part]:
    """The whole frames and the runs of middles in a packed row."""
    parts: list[Part] = []
    for unit in _UNITS.split(packed):
        if unit.startswith(US):
            parts.append(Middles(unit[1:]))
        elif SEP in unit:
            whole, _, middles = unit.partition(SEP)
            parts += [whole, Middles(middles)]
        else:
            parts.append(unit)
    return parts


def _digest_head(frame: int, count: int, offset_us: int, codec: int, packed: bytes) -> bytes:
    return b"%d,%d,%d,%d,%d:" % (frame, count, offset_us, codec, len(packed))


def _uvarint(value: int) -> bytes:
    """LEB128, as in Protocol Buffers."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_uvarint(data: bytes, at: int, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 28:
            raise LogCorrupt(position, "a length runs past the row")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
