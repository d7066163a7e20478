"""What was configured while the server ran stands in the log alone: a drop would take it from the next start. What
still counts of it is said again before, as a start says again what lies in the archive."""

from __future__ import annotations

from eventstore.catalogue import decode
from eventstore.catalogue.control import ProviderConfigured
from eventstore.catalogue.tool import ToolRegistered
from eventstore.envelope import NewEvent, RecordedEvent, StreamWrite
from eventstore.errors import WrongExpectedVersion
from eventstore.log import Log
from eventstore.reader import Reader
from gateway.provider_settings import STREAM as PROVIDERS
from gateway.tools.registry import STREAM as TOOLS

NAMED = {PROVIDERS: (ProviderConfigured.type, "provider"), TOOLS: (ToolRegistered.type, "tool_name")}
"""By stream: the event that may stand, and the field by which a later one takes its place."""


async def say_again(log: Log, reader: Reader, through: int) -> None:
    """Record what stands of these streams, and would be lost with the events up to a position. Raises `LogError`."""
    for stream in NAMED:
        while True:
            found = reader.read_stream(stream)
            lost = _lost(stream, found, through)
            if not lost:
                break
            try:
                await log.append(StreamWrite(stream, found[-1].version, lost))
            except WrongExpectedVersion:  # changed meanwhile
                continue
            break


def _lost(stream: str, found: list[RecordedEvent], through: int) -> tuple[NewEvent, ...]:
    stands, name = NAMED[stream]
    latest = {event.body[name]: event for event in found}
    return tuple(decode(event).new() for event in latest.values() if event.type == stands and event.position <= through)
