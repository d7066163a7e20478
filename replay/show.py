"""Show one request: its events as they were recorded, or with --as-sent the very bytes that its client got."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from eventstore.envelope import RecordedFrames
from eventstore.parts import join
from eventstore.reader import Reader
from gateway.exchange.proven import check_bytes
from gateway.exchange.render import NotRenderable
from gateway.exchange.tokens import TokenComposer
from replay.output import moment, printable
from replay.recorded import RecordedRequest, ReplayError, own_fields, read_request

HELP = "one request: its events, or the bytes that its client got"
WIDTH = 160
"""Characters of a value, unless --full."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `show` understands."""
    parser.add_argument("request_id", metavar="REQUEST-ID", help="the x-request-id of its answer")
    parser.add_argument("--as-sent", action="store_true", help="write the answer's bytes, and nothing else")
    parser.add_argument("--full", action="store_true", help="do not shorten long values")


def run(options: argparse.Namespace) -> int:
    """Exit code 0. Raises `ReplayError` where there is no such request, or its answer was not retained, `LogCorrupt`
    where the log has something else than was written."""
    with Reader(options.data_dir, proving=True) as reader:
        request = read_request(reader, options.request_id)
        request.prove()
        if options.as_sent:
            sys.stdout.buffer.write(as_sent(request))
        elif options.json:
            sys.stdout.buffer.writelines(line + b"\n" for line in flat(request))
        else:
            for text in told(request, reader, None if options.full else WIDTH):
                print(text)
    return 0


def as_sent(request: RecordedRequest) -> bytes:
    """The answer's bytes. Raises `ReplayError` where they cannot be rendered again, `LogCorrupt` where they are others
    than were sent."""
    try:
        rendered = request.rendered()
    except NotRenderable as error:
        raise ReplayError(str(error)) from error
    check_bytes(rendered.digest, request.events[-1])
    return rendered.body


def flat(request: RecordedRequest) -> Iterator[bytes]:
    """The flat event objects of both lanes, in order: the ledger's exactly as recorded, the frames' as composed."""
    for event in request.events:
        yield event.data
        rows = request.frames.get(event.position, ())
        if rows:
            composer = TokenComposer(event)
            yield from (orjson.dumps(token) for row in rows for token in composer.compose(row))


def told(request: RecordedRequest, reader: Reader, width: int | None) -> Iterator[str]:
    """Lines for people: when, what, and the event's own fields below."""
    began = request.events[0].at
    yield f"{request.events[0].stream}  {request.state}  {moment(began)} UTC"
    for event in request.events:
        yield f"\n+{(event.at - began) / 1000:.1f} ms  {event.type}  (position {event.position})"
        fields = own_fields(event)
        if isinstance(fields.get("body"), dict):
            fields["body"] = join(fields["body"], reader.read_blob)
        yield from (f"    {name}: {_shortened(value, width)}" for name, value in fields.items())
        if event.position in request.frames:
            yield f"    frames: {_summary(request.frames[event.position])}"


def _shortened(value: Any, width: int | None) -> str:
    text = printable(value)
    if width is None or len(text) <= width:
        return text
    return f"{text[:width]}… ({len(text)} characters)"


def _summary(rows: Sequence[RecordedFrames]) -> str:
    if not rows:
        return "none"
    count = sum(row.count for row in rows)
    return f"{count} in {len(rows)} rows, {rows[0].offset_us / 1000:.1f} to {rows[-1].offset_us / 1000:.1f} ms"
