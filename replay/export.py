"""Print the ledger's events as JSON lines: of one request, or of a range of positions; each line is the event as it was
recorded. Tokens are in `show REQUEST-ID --json`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from replay.given import whole
from replay.recorded import read_request, sound_events

HELP = "the ledger's events as JSON lines, of one request or of a range"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `export` understands."""
    parser.add_argument("request_id", nargs="?", metavar="ID", help="only this request's events")
    parser.add_argument("--after", type=whole, default=0, metavar="POSITION", help="begin behind this position")
    parser.add_argument("--until", type=whole, metavar="POSITION", help="end with this position (default: the head)")


def run(options: argparse.Namespace) -> int:
    """Exit code 0. Raises `ReplayError` where there is no such request, `LogCorrupt` at the first event that is not
    what was written."""
    with Reader(options.data_dir, proving=True) as reader:
        for event in _events(reader, options):
            sys.stdout.buffer.write(event.data + b"\n")
    return 0


def _events(reader: Reader, options: argparse.Namespace) -> Iterator[RecordedEvent]:
    until = reader.head() if options.until is None else options.until
    if options.request_id is not None:
        events = read_request(reader, options.request_id).events
        yield from (event for event in events if options.after < event.position <= until)
        return
    yield from sound_events(reader, options.after, until)
