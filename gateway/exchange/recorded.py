"""What a request said and what came of it, read back from its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventstore.envelope import RecordedEvent
from eventstore.log import Log
from eventstore.parts import join


async def whole_body(log: Log, skeleton: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a `request_received`, its blobs joined in. Raises `KeyError` or `LogCorrupt` for a blob."""
    known: dict[bytes, bytes] = {}
    while True:  # a part of a blob can be a blob
        missing: set[bytes] = set()

        def fetch(digest: bytes, missing: set[bytes] = missing) -> bytes:
            if digest not in known:
                missing.add(digest)
            return known.get(digest, b"null")

        whole = join(skeleton, fetch)
        if not missing:
            return whole
        for digest in missing:
            known[digest] = await log.read_blob(digest)


def answer_message(events: Sequence[RecordedEvent]) -> dict[str, Any] | None:
    """The message of the first choice of the last whole answer among a request's events, as it was folded."""
    for event in reversed(events):
        if event.type == "generation_completed" and (choices := event.body.get("choices")):
            message: dict[str, Any] = choices[0]["message"]
            return message
    return None
