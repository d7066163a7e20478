"""Render every finished answer again and compare it with what was recorded of it: the request side of `verify`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from eventstore.catalogue.request import TERMINAL
from eventstore.envelope import RecordedEvent
from eventstore.errors import LogError
from eventstore.reader import Reader
from eventstore.verify import Finding
from gateway.exchange.ids import REQUESTS
from gateway.exchange.render import NotRenderable, Rendered
from gateway.exchange.shared import copy_of
from gateway.wire.values import WireError
from replay.recorded import SourceGone, recorded_request


@dataclass(slots=True)
class Requests:
    """What was found about requests: how many began, were rendered again, cannot be (their content was not retained, or
    was another's that was dropped since), and have no end yet, by stream."""

    seen: int = 0
    rendered: int = 0
    unretained: int = 0
    dropped: int = 0
    open: dict[str, int] = field(default_factory=dict)

    def add(self, others: Requests) -> None:
        """Count what was found about other requests, too."""
        self.seen += others.seen
        self.rendered += others.rendered
        self.unretained += others.unretained
        self.dropped += others.dropped
        self.open |= others.open


Mine = Callable[[str], bool]
"""Whether a stream is one of those to look at."""


def check_requests(reader: Reader, until: int, requests: Requests, unsound: Collection[str] = ()) -> Iterator[Finding]:
    """Every request up to a position: one terminal event, the last of its stream, with the digest of the answer that
    its events give now. Counts into `requests` as it goes. `unsound` streams are left out: they are not as written."""
    for _, finding in findings_of(reader, until, requests, lambda stream: stream not in unsound):
        yield finding


def findings_of(reader: Reader, until: int, requests: Requests, mine: Mine) -> Iterator[tuple[int, Finding]]:
    """As `check_requests`, of the streams that are `mine`: each finding behind the position of its request's end."""
    for event in reader.events(until=until):
        if not event.stream.startswith(REQUESTS) or not mine(event.stream):
            continue
        if event.version == 1:
            requests.seen += 1
            requests.open[event.stream] = event.position
        if event.type in TERMINAL and requests.open.pop(event.stream, None) is not None:
            for finding in _ended(reader, event, requests):
                yield event.position, finding


def _ended(reader: Reader, end: RecordedEvent, requests: Requests) -> Iterator[Finding]:
    events = reader.read_stream(end.stream)
    after = [event for event in events if event.version > end.version]
    for event in after:
        yield Finding(event.position, f"{event.type} follows {end.type} on {end.stream}")
    digest = end.body.get("payload_digest")
    if digest is None:
        return
    if events[0].body.get("retention") == "none":
        requests.unretained += 1
        return
    rendered = _rendered(reader, events[: len(events) - len(after)])
    if rendered is None:
        requests.dropped += 1
        return
    requests.rendered += 1
    if isinstance(rendered, str):
        yield Finding(end.position, f"{end.stream} cannot be rendered again: {rendered}")
    elif rendered.digest != digest:
        length = end.body.get("payload_length")
        yield Finding(
            end.position, f"{end.stream} renders to {len(rendered.body)} other bytes than the {length} recorded"
        )


def _rendered(reader: Reader, events: Sequence[RecordedEvent]) -> Rendered | str | None:
    """What is wrong, where it cannot be; None where its source was dropped. What is behind a drop has no gap, so that a
    source which is not there was before it; a copy lies beside its own request."""
    try:
        return recorded_request(reader, events).rendered()
    except SourceGone as error:
        dropped = reader.dropped() and copy_of(events) is None
        return None if dropped else f"{type(error).__name__}: {error}"
    except (NotRenderable, LogError, WireError) as error:
        return f"{type(error).__name__}: {error}"
