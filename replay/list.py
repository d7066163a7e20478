"""List requests, the newest first, from the log alone."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from eventstore.catalogue.request import TERMINAL
from eventstore.catalogue.values import Usd
from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from gateway.exchange.ids import REQUESTS
from replay.backwards import backwards, until_damage
from replay.given import whole
from replay.output import moment, printable, write_json

HELP = "the newest requests, one a line"
SHOWN = ("model_requested", "provider", "model", "status", "attempts", "duration_ms", "cost_usd")
"""Named as `GET /v1/requests` names them: `model` is of the provider that answered."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `list` understands."""
    parser.add_argument("--limit", type=whole, default=20, metavar="N", help="how many (default: 20)")


def run(options: argparse.Namespace) -> int:
    """Exit code 0. Raises `LogCorrupt` where fewer than asked for can be read; those are shown."""
    with Reader(options.data_dir) as reader:
        head = reader.head()

        def show(found: list[dict[str, Any]]) -> None:
            if options.json:
                write_json({"data": found, "position": head})
            else:
                for request in found:
                    print(_line(request))

        until_damage(newest(reader, head, options.limit), show)
    return 0


def newest(reader: Reader, head: int, limit: int) -> Iterator[dict[str, Any]]:
    """`{request_id, state, time, model_requested, …}` of the newest requests; cost and status where they have ended."""
    ends: dict[str, RecordedEvent] = {}
    for event in backwards(reader, head) if limit else ():
        if event.type in TERMINAL:
            ends.setdefault(event.stream, event)
        if event.version == 1 and event.stream.startswith(REQUESTS):
            yield _told(event, ends.pop(event.stream, None))
            limit -= 1
            if not limit:
                return


def _told(first: RecordedEvent, end: RecordedEvent | None) -> dict[str, Any]:
    asked, ended = first.body, {} if end is None else end.body
    said = {"model_requested": asked.get("model"), **ended}
    if said.get("cost_usd") is not None:
        said["cost_usd"] = Usd.parse(said["cost_usd"])
    return {
        "request_id": asked["request_id"],
        "state": "open" if end is None else end.type.removeprefix("request_"),
        "time": asked["time"],
        "at": first.at,
        **{name: said[name] for name in SHOWN if name in said},
    }


def _line(request: dict[str, Any]) -> str:
    rest = "  ".join(f"{name}={printable(request[name])}" for name in SHOWN if name in request)
    return f"{request['request_id']}  {moment(request['at'])}  {request['state']:<11}  {rest}"
