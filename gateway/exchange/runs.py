"""What storage asks, which does not know what events mean: which of them open and close a run of frames, and which
leave their stream to be gone on with. Pure."""

from __future__ import annotations

from eventstore.catalogue.request import TERMINAL
from eventstore.envelope import RecordedEvent
from eventstore.errors import LogCorrupt
from eventstore.frames import FrameReader
from eventstore.verify import RunClosed, RunOpened
from gateway.exchange.ids import REQUESTS

GENERATION_ENDS = frozenset({"generation_completed", "generation_failed"})


def run_of(event: RecordedEvent) -> RunOpened | RunClosed | None:
    """A generation is a run of frames: opened when it starts, bound when it ends. So is a call beside it, which has no
    frames unless it wins: then its generation starts."""
    if event.type in ("generation_started", "hedge_started"):
        return RunOpened((event.stream, event.body["attempt"]))
    if event.type in GENERATION_ENDS:
        body = event.body
        return RunClosed((event.stream, body["attempt"]), body["frames"], body["frames_digest"])
    return None


def check_bound(reader: FrameReader, end: RecordedEvent) -> None:
    """Raises `LogCorrupt` where the rows that were read are not those that the end of their generation binds."""
    if (reader.count, reader.digest) != (end.body["frames"], end.body["frames_digest"]):
        raise LogCorrupt(end.position, "the frames of this generation are not those that its end binds")


def leaves_open(event: RecordedEvent) -> bool:
    """Whether the event belongs to an exchange and does not end it."""
    return event.stream.startswith(REQUESTS) and event.type not in TERMINAL
