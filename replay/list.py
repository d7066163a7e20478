"""List requests, the newest first, from the log alone."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from eventstore.catalogue.request import TERMINAL
from eventstore.catalogue.values import Usd
from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from replay.given import whole
from replay.output import moment, printable, write_json

HELP = "the newest requests, one a line"
FIRST_WINDOW, LARGEST_WINDOW = 4_096, 65_536
"""Positions read in the first step backwards; each further step takes twice as many, up to what fits into memory."""
SHOWN = ("provider", "model", "status", "attempts", "duration_ms", "cost_usd")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `list` understands."""
    parser.add_argument("--limit", type=whole, default=20, metavar="N", help="how many (default: 20)")


def run(options: argparse.Namespace) -> int:
    """Exit code 0."""
    with Reader(options.data_dir) as reader:
        found = newest(reader, options.limit)
        if options.json:
            write_json({"data": found, "position": reader.head()})
        else:
            for request in found:
                print(_line(request))
    return 0


def newest(reader: Reader, limit: int) -> list[dict[str, Any]]:
    """`{request_id, state, time, model, …}` of the newest requests; cost and status where they have ended."""
    found: list[dict[str, Any]] = []
    ends: dict[str, RecordedEvent] = {}
    for event in _backwards(reader):
        if len(found) >= limit:
            break
        if event.type in TERMINAL:
            ends.setdefault(event.stream, event)
        if event.version == 1 and event.stream.startswith("request-"):
            found.append(_told(event, ends.pop(event.stream, None)))
    return found


def _backwards(reader: Reader) -> Iterator[RecordedEvent]:
    until, window = reader.head(), FIRST_WINDOW
    while until > 0:
        after = max(0, until - window)
        rows = [row for row in reader.rows(after, until=until, frames=False) if isinstance(row, RecordedEvent)]
        yield from reversed(rows)
        until, window = after, min(window * 2, LARGEST_WINDOW)


def _told(first: RecordedEvent, end: RecordedEvent | None) -> dict[str, Any]:
    said = first.body if end is None else {**first.body, **end.body}
    if said.get("cost_usd") is not None:
        said = {**said, "cost_usd": Usd.parse(said["cost_usd"])}
    return {
        "request_id": first.body["request_id"],
        "state": "open" if end is None else end.type.removeprefix("request_"),
        "time": first.body["time"],
        "at": first.at,
        **{name: said[name] for name in SHOWN if name in said},
    }


def _line(request: dict[str, Any]) -> str:
    rest = "  ".join(f"{name}={printable(request[name])}" for name in SHOWN if name in request)
    return f"{request['request_id']}  {moment(request['at'])}  {request['state']:<11}  {rest}"
