"""Print the ledger's newest events, and with --follow those that come."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from replay.given import event_types, whole
from replay.output import moment, printable
from replay.recorded import own_fields

HELP = "the newest events of all requests"
LOOK_EVERY_S = 0.2
WINDOW = 4_096
WIDTH = 60


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `tail` understands."""
    parser.add_argument(
        "--lines", "-n", type=whole, default=20, metavar="N", help="how many to begin with (default: 20)"
    )
    parser.add_argument("--follow", "-f", action="store_true", help="go on until interrupted")
    parser.add_argument("--types", type=event_types, metavar="TYPE,…", help="only these event types")


def run(options: argparse.Namespace) -> int:
    """Exit code 0."""
    types: frozenset[str] | None = options.types or None
    with Reader(options.data_dir) as reader:
        head = reader.head()
        for event in newest(reader, head, options.lines, types):
            _write(event, options.json)
        while options.follow:
            for row in reader.rows(head, frames=False):
                head = row.position
                if isinstance(row, RecordedEvent) and (types is None or row.type in types):
                    _write(row, options.json)
            sys.stdout.flush()
            time.sleep(LOOK_EVERY_S)
    return 0


def newest(reader: Reader, head: int, count: int, types: frozenset[str] | None) -> list[RecordedEvent]:
    """The last `count` ledger events up to `head`, oldest first."""
    found: list[RecordedEvent] = []
    for events in _windows(reader, head):
        found[:0] = [event for event in events if types is None or event.type in types]
        if len(found) >= count:
            break
    return found[-count:] if count else []


def _windows(reader: Reader, head: int) -> Iterator[list[RecordedEvent]]:
    while head > 0:
        after = max(0, head - WINDOW)
        yield [row for row in reader.rows(after, until=head, frames=False) if isinstance(row, RecordedEvent)]
        head = after


def _write(event: RecordedEvent, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(event.data + b"\n")
        return
    fields = "  ".join(f"{name}={printable(value)[:WIDTH]}" for name, value in own_fields(event).items())
    print(f"{event.position:>10}  {moment(event.at)}  {event.stream}  {event.type}  {fields}")
