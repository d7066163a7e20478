"""Print the ledger's newest events, and with --follow those that come."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from eventstore.envelope import Recorded, RecordedEvent
from eventstore.reader import Reader
from replay.backwards import backwards, until_damage
from replay.given import event_types, whole
from replay.output import moment, printable
from replay.recorded import own_fields

HELP = "the newest events of all requests"
LOOK_EVERY_S = 0.2
WIDTH = 60


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `tail` understands."""
    parser.add_argument(
        "--lines", "-n", type=whole, default=20, metavar="N", help="how many to begin with (default: 20)"
    )
    parser.add_argument("--follow", "-f", action="store_true", help="go on until interrupted")
    parser.add_argument("--types", type=event_types, metavar="TYPE,…", help="only these event types")


def run(options: argparse.Namespace) -> int:
    """Exit code 0. Raises `LogCorrupt` where fewer than asked for can be read; those are shown."""
    types: frozenset[str] | None = options.types or None

    def show(found: list[RecordedEvent]) -> None:
        for event in reversed(found):
            _write(event, options.json)

    with Reader(options.data_dir) as reader:
        head = reader.head()
        until_damage(islice(_wanted(backwards(reader, head), types), options.lines), show)
        while options.follow:
            for row in reader.rows(head, frames=False):
                head = row.position
                for event in _wanted([row], types):
                    _write(event, options.json)
            sys.stdout.flush()
            time.sleep(LOOK_EVERY_S)
    return 0


def _wanted(rows: Iterable[Recorded], types: frozenset[str] | None) -> Iterator[RecordedEvent]:
    return (row for row in rows if isinstance(row, RecordedEvent) and (types is None or row.type in types))


def _write(event: RecordedEvent, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(event.data + b"\n")
        return
    fields = "  ".join(f"{name}={printable(value)[:WIDTH]}" for name, value in own_fields(event).items())
    print(f"{event.position:>10}  {moment(event.at)}  {event.stream}  {event.type}  {fields}")
