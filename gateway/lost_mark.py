"""Where a start looks for what is open when the low-water mark is lost: found from the ends of streams, without reading
the log. It takes two look-ups for each request there ever was; the mark takes none."""

from __future__ import annotations

from eventstore.catalogue.group import GroupSettled
from eventstore.catalogue.request import TERMINAL
from eventstore.catalogue.tool import ToolCompleted, ToolFailed, ToolStarted
from eventstore.reader import Reader
from gateway.api.groups import GROUPS
from gateway.exchange.ids import REQUESTS
from gateway.tools.execute import PREFIX as TOOLS

ALL = -1


def open_from(reader: Reader) -> int:
    """A position before the first event of every exchange, group and run of a tool that is open; the head where none
    is."""
    firsts = (
        reader.first_unended(REQUESTS, TERMINAL),
        reader.first_unended(GROUPS, (GroupSettled.type,)),
        _first_run(reader),
    )
    return min((first - 1 for first in firsts if first is not None), default=reader.head())


def _first_run(reader: Reader) -> int | None:
    """All runs of a tool share its stream, so that its last event does not tell which are open."""
    begun: dict[tuple[str, int | None], int] = {}
    for stream in reader.streams(TOOLS, ALL):
        for event in reader.read_stream(stream):
            if event.type == ToolStarted.type:
                begun[event.body["call_id"], event.body.get("attempt")] = event.position
            elif event.type in (ToolCompleted.type, ToolFailed.type):
                begun.pop((event.body["call_id"], event.body.get("attempt")), None)
    return min(begun.values(), default=None)
