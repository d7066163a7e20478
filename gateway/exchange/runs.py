"""Which events open and close a run of frames, for storage, which does not know what events mean. Pure."""

from __future__ import annotations

from eventstore.envelope import RecordedEvent
from eventstore.verify import RunClosed, RunOpened

GENERATION_ENDS = frozenset({"generation_completed", "generation_failed"})


def run_of(event: RecordedEvent) -> RunOpened | RunClosed | None:
    """A generation is a run of frames: opened when it starts, bound when it ends."""
    if event.type == "generation_started":
        return RunOpened((event.stream, event.body["attempt"]))
    if event.type in GENERATION_ENDS:
        body = event.body
        return RunClosed((event.stream, body["attempt"]), body["frames"], body["frames_digest"])
    return None
