"""What was recorded long ago is compared with its digests before anybody is given it: nothing past a damage is served.

The log compares events as it reads a stream; here are the frames of a request, and the bytes of its answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from eventstore.catalogue.request import TERMINAL
from eventstore.envelope import RecordedEvent
from eventstore.errors import LogCorrupt
from eventstore.frames import FrameReader
from eventstore.log import Log
from gateway.errors import damaged
from gateway.exchange.runs import GENERATION_ENDS, check_bound

WINDOW = 512
"""Positions read at a time, so that a long answer is never in memory as a whole."""

logger = logging.getLogger(__name__)


async def prove(log: Log, events: Sequence[RecordedEvent]) -> None:
    """Read the frames of a request that has ended, before the first of them is shown. One that runs is not held up: its
    reader compares as it goes. Raises `LogCorrupt`."""
    if not events or events[-1].type not in TERMINAL:
        return
    ends = {event.body["attempt"]: event for event in events if event.type in GENERATION_ENDS}
    for event in events:
        if event.type == "generation_started" and (end := ends.get(event.body["attempt"])):
            await _prove_run(log, event.position, end)


async def _prove_run(log: Log, generation: int, end: RecordedEvent) -> None:
    reader, after = FrameReader(), generation
    while after < end.position:
        until = min(end.position, after + WINDOW)
        for row in await log.read_frames(generation, until, after):
            reader.skip(row)
        after = until
    check_bound(reader, end)


def check_bytes(digest: str, end: RecordedEvent) -> None:
    """Raises `LogCorrupt` where an answer that was rendered again has not the digest that its end says."""
    if end.body.get("payload_digest") not in (None, digest):
        raise LogCorrupt(end.position, "the answer renders to other bytes than were recorded")


@contextmanager
def for_a_caller() -> Iterator[None]:
    """What is read in this block is for somebody who asked: damage is `LogDamaged`."""
    try:
        yield
    except LogCorrupt as error:
        logger.error("nothing is served from where the log is damaged: %s", error)
        raise damaged() from error
