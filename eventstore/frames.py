"""The frames lane: packing verbatim frames into rows, and getting exactly the same bytes out again.

A *frame* is one message of a long answer, verbatim (one SSE event, one NDJSON line, or a whole body). Neighbours
in one run differ in little: a *template* (prefix and suffix) found in one frame is elided from those after it.
The packing is pure and knows nothing of what the bytes mean.

Codecs of a row:
    PLAIN     one frame, as it is.
    JOINED    several frames joined by RS (0x1e).
    TEMPLATE  uvarint index, uvarint prefix length, uvarint suffix length; then like ELIDED. The frame at `index`
              is whole, and its ends are the template of the frames after it, here and in later rows.
    ELIDED    frames joined by RS; one that begins with US (0x1f) is the middle of a frame: put the template around it.
Where a frame holds RS or US (no valid JSON text does), every frame of its batch gets a row of its own, PLAIN.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from eventstore.envelope import NewFrames, RecordedFrames
from eventstore.errors import LogCorrupt

PLAIN, JOINED, TEMPLATE, ELIDED = 0, 1, 2, 3
RS = b"\x1e"
US = b"\x1f"


@dataclass(frozen=True, slots=True)
class Template:
    """The ends that the frames of one run share."""

    prefix: bytes
    suffix: bytes


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
    ) -> tuple[list[NewFrames], list[bytes]]:
        """The rows for these frames, and the frames as they stand in them: `US + middle` where the template fits,
        else whole. `opens` names the frame whose ends become the run's template (once a run) and that template."""
        raw = RS.join(frames)
        if raw.count(RS) != len(frames) - 1 or US in raw:
            return [self._row(1, offset_us, PLAIN, frame) for frame in frames], list(frames)
        if opens is not None:
            index, template = opens
            self.template = template
            items = [*frames[: index + 1], *self._elide(frames[index + 1 :], template)]
            head = _uvarint(index) + _uvarint(len(template.prefix)) + _uvarint(len(template.suffix))
            return [self._row(len(items), offset_us, TEMPLATE, head + RS.join(items))], items
        if self.template is not None:
            items = self._elide(frames, self.template)
            packed = RS.join(items)
            if len(packed) < len(raw):
                return [self._row(len(items), offset_us, ELIDED, packed)], items
        return [self._row(len(frames), offset_us, JOINED if len(frames) > 1 else PLAIN, raw)], list(frames)

    @staticmethod
    def _elide(frames: Sequence[bytes], template: Template) -> list[bytes]:
        prefix, suffix = template.prefix, template.suffix
        start, end, least = len(prefix), -len(suffix) or None, len(prefix) + len(suffix)
        return [
            US + frame[start:end]
            if frame.startswith(prefix) and frame.endswith(suffix) and len(frame) >= least
            else frame
            for frame in frames
        ]

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
        items = self.items(row)
        template = self.template
        if template is None or row.codec == PLAIN:
            return items
        return [template.prefix + item[1:] + template.suffix if item[:1] == US else item for item in items]

    def items(self, row: RecordedFrames) -> list[bytes]:
        """The frames of the next row as they stand in it, as `FrameRun.pack` gave them: whole, or `US + middle`."""
        if row.frame != self.count + 1:
            raise LogCorrupt(row.position, f"frame {row.frame} follows frame {self.count}")
        self._digest.update(_digest_head(row.frame, row.count, row.offset_us, row.codec, row.bytes) + row.bytes)
        items = self._split(row)
        if len(items) != row.count:
            raise LogCorrupt(row.position, f"{len(items)} frames where the row says {row.count}")
        self.count += row.count
        return items

    def _split(self, row: RecordedFrames) -> list[bytes]:
        if row.codec == PLAIN:
            return [row.bytes]
        if row.codec == JOINED:
            return row.bytes.split(RS)
        if row.codec == TEMPLATE:
            return self._open_template(row)
        if row.codec == ELIDED and self.template is not None:
            return row.bytes.split(RS)
        raise LogCorrupt(row.position, f"codec {row.codec} cannot stand here")

    def _open_template(self, row: RecordedFrames) -> list[bytes]:
        index, at = _read_uvarint(row.bytes, 0, row.position)
        prefix, at = _read_uvarint(row.bytes, at, row.position)
        suffix, at = _read_uvarint(row.bytes, at, row.position)
        items = row.bytes[at:].split(RS)
        if index >= len(items) or prefix + suffix > len(items[index]):
            raise LogCorrupt(row.position, "the template lies outside its frame")
        opened = items[index]
        self.template = Template(opened[:prefix], opened[len(opened) - suffix :])
        return items


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
