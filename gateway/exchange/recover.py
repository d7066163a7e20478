"""After a crash: every exchange that was left open ends in `request_interrupted`, its frames bound and accounted.

Which were open is found from a low-water mark: a position at or before the first event of every open exchange, kept
in a small file while the server runs. The mark is a hint: an old one costs time, as does a missing one, which is found
again from the ends of streams (`gateway.lost_mark`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eventstore.catalogue import Event, decode
from eventstore.envelope import RecordedEvent, RecordedFrames, StreamWrite
from eventstore.errors import LogError
from eventstore.log import Log
from eventstore.reader import Reader
from gateway.exchange.attempt import service_tier
from gateway.exchange.decide import Price, Views, decide
from gateway.exchange.ids import REQUESTS, stream_of
from gateway.exchange.inputs import Interrupted, Payload, Seen
from gateway.exchange.render import FrameReplay, NotRenderable, render_again
from gateway.exchange.runs import leaves_open
from gateway.exchange.state import Exchange, fold
from gateway.sessions.state import Session
from gateway.sessions.state import fold as folded
from gateway.sessions.turn import abandoned
from gateway.tools.execute import unfinished

logger = logging.getLogger(__name__)

MARK = "open_from"
STARTED = "generation_started"


class LowWater:
    """The mark's file, `<data_dir>/open_from`. Written beside and renamed; not synced: an older mark serves too."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / MARK
        self._written = -1

    def read(self) -> int | None:
        """The mark, None where there is none that can be used."""
        try:
            text = self._path.read_text()
        except (OSError, UnicodeDecodeError):
            return None
        return int(text) if text.isascii() and text.isdecimal() else None

    def write(self, position: int) -> None:
        """Move the mark, unless the disk refuses."""
        if position == self._written:
            return
        try:
            self._replace(str(position))
        except OSError as error:
            logger.warning("the low-water mark stays where it was: %s", error)
        else:
            self._written = position

    def _replace(self, text: str) -> None:
        beside = self._path.with_suffix(".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        beside.replace(self._path)


def open_streams(reader: Reader, after: int) -> list[str]:
    """The request streams with events after a position and no terminal event, in the order they began."""
    found: dict[str, None] = {}
    for event in reader.events(after):
        if leaves_open(event):
            found[event.stream] = None
        elif event.stream.startswith(REQUESTS):
            found.pop(event.stream, None)
    return list(found)


async def interrupt(log: Log, reader: Reader, stream: str, price: Price, now_us: int) -> None:
    """End one open exchange, as found in the log."""
    recorded = reader.read_stream(stream)
    exchange = fold(Exchange(stream.removeprefix(REQUESTS)), _decoded(recorded))
    frames = {e.position: reader.read_frames(e.position, reader.head()) for e in recorded if e.type == STARTED}
    seen, payload = _what_came(recorded, frames, exchange)
    happened = Interrupted("restart", recorded[0].origin, seen, payload)
    events = [*unfinished(recorded), *decide(happened, exchange, Views(price, now_us))]
    write = StreamWrite(stream, recorded[-1].version, tuple(event.new() for event in events))
    await log.append(*_turn_of(reader, recorded[0], events), write)


async def broken_off(log: Log, exchange: Exchange, reason: str) -> Interrupted:
    """The same for an open exchange of this run, which nobody goes on with."""
    recorded, head = await log.read_stream(stream_of(exchange.request_id)), await log.head()
    frames = {e.position: await log.read_frames(e.position, head) for e in recorded if e.type == STARTED}
    seen, payload = _what_came(recorded, frames, exchange)
    return Interrupted(reason, log.origin, seen, payload)


def _turn_of(reader: Reader, received: RecordedEvent, events: Sequence[Event]) -> tuple[StreamWrite, ...]:
    """The end of the turn that the request was to a session, if it was one."""
    session_id = received.body.get("session_id")
    if session_id is None:
        return ()
    session = folded(Session(session_id), _decoded(reader.read_stream(session_id)))
    return abandoned(session, received.body["request_id"], events)


def _decoded(recorded: Iterable[RecordedEvent]) -> Iterable[Any]:
    return (decode(event) for event in recorded)


def _what_came(
    recorded: list[RecordedEvent], frames: dict[int, list[RecordedFrames]], exchange: Exchange
) -> tuple[Seen | None, Payload | None]:
    """What the attempt under way gave, and what the client was meant to get by then, from the frames in the log."""
    payload = _payload(recorded, frames)
    if exchange.phase != "generating":
        return None, payload if frames else None
    started = next(e for e in reversed(recorded) if e.type == STARTED)
    replay = FrameReplay(started.body["decoder"], exchange.request_id)
    rows = frames[started.position]
    for row in rows:
        try:
            replay.pieces(row)
        except LogError:
            raise
        except Exception:  # noqa: BLE001, S112  the frame that broke the answer, however: it counts, and keeps no server from starting
            continue
    answer, meta = replay.fold, replay.fold.meta
    seen = Seen(
        frames=replay.reader.count,
        frames_digest=replay.reader.digest,
        began=answer.began,
        text_length=answer.text_length(),
        duration_ms=rows[-1].offset_us / 1000 if rows else 0.0,
        finish_reason=answer.finish_reason,
        choices=answer.choices(),
        usage=meta.usage,
        usage_raw=meta.usage_raw,
        usage_estimated=meta.usage_estimated,
        cost_reported=meta.cost_reported,
        service_tier=service_tier(meta),
    )
    return seen, payload


def _payload(recorded: list[RecordedEvent], frames: dict[int, list[RecordedFrames]]) -> Payload | None:
    try:
        rendered = render_again(recorded, frames)
    except NotRenderable:
        return None
    return Payload(rendered.digest, len(rendered.body), bool(rendered.body))
