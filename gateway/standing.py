"""What was configured while the server ran stands in the log alone, as the last word on each name in a stream. A drop
would take it from the next start: what still counts of it is said again before, as a start says again what lies in the
archive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from eventstore.catalogue import decode
from eventstore.catalogue.control import ProviderConfigured
from eventstore.catalogue.event import Event
from eventstore.catalogue.tool import ToolRegistered
from eventstore.envelope import RecordedEvent, StreamWrite
from eventstore.errors import WrongExpectedVersion
from eventstore.log import Log
from eventstore.reader import Reader

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Standing(Generic[E]):
    """Of a stream the events that may stand, and the field by which a later event takes the place of one."""

    stream: str
    kind: type[E]
    field: str

    def latest(self, recorded: Iterable[RecordedEvent]) -> dict[str, tuple[int, E]]:
        """By name what stands of these events, and the position where the log says so."""
        last = {each.body[self.field]: each for each in recorded}
        words = {name: (each.position, decode(each)) for name, each in last.items()}
        return {name: (position, event) for name, (position, event) in words.items() if isinstance(event, self.kind)}


PROVIDERS = Standing("providers", ProviderConfigured, "provider")
TOOLS = Standing("tools", ToolRegistered, "tool_name")


async def say_again(log: Log, reader: Reader, through: int) -> None:
    """Record what stands, and would be lost with the events up to a position. Raises `LogError`."""
    await _say_again(PROVIDERS, log, reader, through)
    await _say_again(TOOLS, log, reader, through)


async def _say_again(standing: Standing[E], log: Log, reader: Reader, through: int) -> None:
    while True:
        found = reader.read_stream(standing.stream)
        lost = tuple(event.new() for position, event in standing.latest(found).values() if position <= through)
        if not lost:
            return
        try:
            await log.append(StreamWrite(standing.stream, found[-1].version, lost))
        except WrongExpectedVersion:  # changed meanwhile
            continue
        return
