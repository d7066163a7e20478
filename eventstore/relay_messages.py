"""What goes out for a row of the log: one message an event, its subject, its headers, its exact bytes.

    subject   abstractcore.events.<type>.<origin>
    payload   the event's flat JSON object: for the ledger exactly the recorded bytes; for frames as composed
    headers   Abstractcore-Position   where it lies in the log of its node
              Abstractcore-Oseq       ledger: the origin's own count, gapless
              Abstractcore-Digest     ledger: hex, sha256(digest of the origin's event before it + recorded bytes)
              Abstractcore-Frame      frames: the frame's number in its run
              Abstractcore-Row        on the first frame of a row, if there is room: the row as it was written
                                      (`RowHeader`), so that the frames lane can be made again to the byte
              Abstractcore-Whole      only on a stub: how many bytes the whole event has

An event too large for one message goes out as a *stub*: the same subject, headers and envelope fields, without the
rest. The whole event is at that position of the log of that origin: `GET /v1/requests/<id>/events` of its gateway,
where the id is what follows `request-` in the stub's `stream`; its digest is that of the whole.
"""

from __future__ import annotations

import logging
import re
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from eventstore.envelope import Recorded, RecordedEvent, RecordedFrames
from eventstore.errors import LogCorrupt
from eventstore.jetstream import Message
from eventstore.value import value

logger = logging.getLogger(__name__)

SUBJECTS = "abstractcore.events"
POSITION, OSEQ, DIGEST, FRAME, WHOLE, ROW = (
    "Abstractcore-Position",
    "Abstractcore-Oseq",
    "Abstractcore-Digest",
    "Abstractcore-Frame",
    "Abstractcore-Whole",
    "Abstractcore-Row",
)
ENVELOPE = ("type", "schema", "stream", "version", "origin", "oseq", "time", "request_id", "attempt", "frame")
ROWS = 500
"""Rows that one read takes from the log."""
RUNS = 16_384
"""Runs whose reading state is kept; one more costs reading the oldest again from its first frame."""

_TYPE = re.compile(r"[a-z0-9_]{1,64}")
_ORIGIN = re.compile(r"[a-z0-9]{1,64}")

Key = tuple[int, int]
"""Order of an origin's messages in one stream: `(oseq, 0)` in the ledger's, `(position, frame)` in the frames'."""

NOTHING: Key = (0, 0)
"""Before every message."""
BEYOND: Key = (1 << 62, 0)
"""After every message that a log can have."""

Compose = Callable[[RecordedFrames], Sequence[bytes]]
"""The flat JSON objects of a row's frames, in order; called with every row of one run, from its first."""

OpenRun = Callable[[RecordedEvent], Compose]
"""A fresh `Compose` for the run that this event opened."""


class Rows(Protocol):
    """The log, as the relay reads it (`reader.Reader`)."""

    def read(self, after: int, limit: int, *, until: int | None = None, frames: bool = True) -> list[Recorded]:
        """As `Log.read`."""

    def read_frames(self, generation: int, until: int, after: int = 0) -> list[RecordedFrames]:
        """As `Log.read_frames`."""

    def head(self) -> int:
        """As `Log.head`."""


@value
class Outgoing:
    """A message, whose it is, and its place among that origin's messages."""

    origin: str
    key: Key
    message: Message


def subject(event_type: str, origin: str, position: int) -> str:
    """The subject of an event. Raises `LogCorrupt` where a name could mean more than itself in a subject."""
    if not _TYPE.fullmatch(event_type) or not _ORIGIN.fullmatch(origin):
        raise LogCorrupt(position, "its type or origin cannot be part of a subject")
    return f"{SUBJECTS}.{event_type}.{origin}"


def of_origin(origin: str) -> str:
    """The filter for all messages of one origin."""
    return f"{SUBJECTS}.*.{origin}"


def of_event(row: RecordedEvent) -> Outgoing:
    """The message of a ledger row."""
    headers = {POSITION: str(row.position), OSEQ: str(row.oseq), DIGEST: row.digest.hex()}
    return Outgoing(row.origin, (row.oseq, 0), Message(subject(row.type, row.origin, row.position), row.data, headers))


def of_frames(
    row: RecordedFrames, objects: Sequence[bytes], event_type: str, opening: tuple[str, int]
) -> list[Outgoing]:
    """The messages of a frames row; `opening` is origin and oseq of the event that opened its run."""
    origin, opened = opening
    name = subject(event_type, origin, row.position)
    place = str(row.position)
    found = [
        Outgoing(origin, (row.position, frame), Message(name, data, {POSITION: place, FRAME: str(frame)}))
        for frame, data in enumerate(objects, row.frame)
    ]
    if found:
        header = RowHeader(opened, row.back, row.count, row.offset_us, row.codec, row.bytes)
        found[0].message.headers[ROW] = header.text()
    return found


def fitted(message: Message, limit: int) -> Message:
    """The message itself, without its row or its stub if payload and headers would take more than `limit` bytes."""
    if message.size <= limit:
        return message
    if ROW in message.headers:
        headers = {name: value for name, value in message.headers.items() if name != ROW}
        message = Message(message.subject, message.payload, headers)
        if message.size <= limit:
            return message
    body: dict[str, Any] = orjson.loads(message.payload)
    stub = orjson.dumps({name: body[name] for name in ENVELOPE if name in body})
    return Message(message.subject, stub, {**message.headers, WHOLE: str(len(message.payload))})


def ledger_key(headers: Mapping[str, str]) -> Key:
    """The place of a stored ledger message among its origin's; `BEYOND` where no relay wrote these headers."""
    oseq = headers.get(OSEQ, "")
    return (int(oseq), 0) if oseq.isdecimal() else BEYOND


def frame_key(headers: Mapping[str, str]) -> Key:
    """The place of a stored frame message among its origin's; `BEYOND` where no relay wrote these headers."""
    position, frame = headers.get(POSITION, ""), headers.get(FRAME, "")
    return (int(position), int(frame)) if position.isdecimal() and frame.isdecimal() else BEYOND


@dataclass(frozen=True, slots=True)
class RowHeader:
    """A frames row as one header: `<opened>,<back>,<count>,<offset_us>,<codec>,<bytes in base64>`, where `opened` is
    the oseq of the event that opened its run. Position and first frame stand in headers of their own."""

    opened: int
    back: int
    count: int
    offset_us: int
    codec: int
    bytes: bytes

    def text(self) -> str:
        """As it stands in the header."""
        numbers = f"{self.opened},{self.back},{self.count},{self.offset_us},{self.codec},"
        return numbers + b64encode(self.bytes).decode()

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> RowHeader | None:
        """The row that these headers carry; None where they carry none that makes sense."""
        *numbers, packed = headers.get(ROW, "").split(",")
        if len(numbers) != 5 or not all(number.isdecimal() for number in numbers):
            return None
        opened, back, count, offset_us, codec = map(int, numbers)
        try:
            return cls(opened, back, count, offset_us, codec, b64decode(packed, validate=True))
        except ValueError:
            return None


class LedgerMessages:
    """The ledger's events as messages."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def read(self, after: int, until: int) -> tuple[list[Outgoing], int]:
        """Messages of the next rows, and the position up to which these are all."""
        found = self._rows.read(after, ROWS, until=until, frames=False)
        messages = [of_event(row) for row in found if isinstance(row, RecordedEvent)]
        return messages, until if len(found) < ROWS else found[-1].position


class FrameMessages:
    """The frames lane as messages, one a frame, composed by the run's own `Compose`.

    A composer's failure costs that run its messages and nothing else: it is logged and counted in `failed_runs`.
    """

    def __init__(self, rows: Rows, event_type: str, open_run: OpenRun) -> None:
        self._rows = rows
        self._type = event_type
        self._open = open_run
        self._runs: OrderedDict[int, tuple[tuple[str, int], Compose] | None] = OrderedDict()
        self.failed_runs = 0

    def another(self) -> FrameMessages:
        """The same frames again, to be read elsewhere in the log at the same time."""
        return FrameMessages(self._rows, self._type, self._open)

    def rewind(self) -> None:
        """Forget all reading state: the next read may begin anywhere."""
        self._runs.clear()

    def read(self, after: int, until: int) -> tuple[list[Outgoing], int]:
        """Messages of the next rows, and the position up to which these are all."""
        found = self._rows.read(after, ROWS, until=until)
        messages: list[Outgoing] = []
        for row in found:
            if isinstance(row, RecordedFrames):
                messages += self._messages(row)
        return messages, until if len(found) < ROWS else found[-1].position

    def _messages(self, row: RecordedFrames) -> list[Outgoing]:
        try:
            run = self._run(row)
            return [] if run is None else of_frames(row, run[1](row), self._type, run[0])
        except Exception:  # a decoder's bug must not stop the lane: it is told, and its run left out
            logger.exception("the frames from position %d on cannot be composed", row.position)
            self._runs[row.generation] = None
            self.failed_runs += 1
            return []

    def _run(self, row: RecordedFrames) -> tuple[tuple[str, int], Compose] | None:
        """Origin and oseq of the opening of the row's run, and its composer, fed with all rows before this one; None:
        leave it out."""
        if row.generation in self._runs:
            self._runs.move_to_end(row.generation)
            return self._runs[row.generation]
        run = self._opened(row)
        self._runs[row.generation] = run
        if len(self._runs) > RUNS:
            self._runs.popitem(last=False)
        return run

    def _opened(self, row: RecordedFrames) -> tuple[tuple[str, int], Compose] | None:
        opening = self._rows.read(row.generation - 1, 1, until=row.generation, frames=False)
        if not opening or not isinstance(opening[0], RecordedEvent):
            return None  # its beginning lies in an archive
        compose = self._open(opening[0])
        if row.back:
            for earlier in self._rows.read_frames(row.generation, row.position - row.back):
                compose(earlier)
        return (opening[0].origin, opening[0].oseq), compose
