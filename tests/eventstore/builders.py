"""Small appends for the log's tests: `thing_happened`, and runs between `run_opened` and `run_closed`."""

from __future__ import annotations

import orjson

from eventstore.envelope import Appended, NewEvent, RecordedEvent, StreamWrite
from eventstore.frames import FrameRun
from eventstore.log import Log
from eventstore.verify import RunClosed, RunOpened


def happened(**fields: object) -> NewEvent:
    return NewEvent("thing_happened", 1, orjson.dumps(fields))


def write(stream: str, expected: int, *events: NewEvent) -> StreamWrite:
    return StreamWrite(stream, expected, events or (happened(),))


async def record_run(log: Log, stream: str, *frames: bytes) -> Appended:
    """One stream of three: its opening event, the frames a row each, and the event that binds them."""
    opened = await log.append(write(stream, 0, NewEvent("run_opened", 1, b"{}")))
    run = FrameRun(opened.last)
    for frame in frames:
        await log.append(frames=run.pack([frame], offset_us=run.count)[0])
    closing = orjson.dumps({"frames": run.count, "frames_digest": run.digest})
    return await log.append(write(stream, 1, NewEvent("run_closed", 1, closing)))


def run_of(event: RecordedEvent) -> RunOpened | RunClosed | None:
    if event.type == "run_opened":
        return RunOpened(event.stream)
    if event.type == "run_closed":
        return RunClosed(event.stream, event.body["frames"], event.body["frames_digest"])
    return None
