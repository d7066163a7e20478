"""How an event becomes bytes: the envelope composed around its fields, the clock, and the chain of digests.

`data` is one flat JSON object whose first members are always these, in this order:
`{"type":"…","schema":1,"stream":"…","version":1,"origin":"…","oseq":1,"time":"2026-11-21T01:26:13.123456Z", …fields}`.
The digest of an origin's event is sha256(digest of its previous event + data); before its first there are no bytes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import orjson

from eventstore.envelope import NewEvent, RecordedEvent

PLAIN = 0
"""The codec of `data` as it is."""

_TYPES = (int, str, int, str, int, str, int, int, bytes, bytes)


@dataclass(slots=True)
class Chain:
    """The writing end of one origin: its last sequence number and digest, and the log's clock.

    `at` is a hybrid logical clock in microseconds since 1970 UTC: it follows the wall clock and never goes back.
    """

    origin: str
    oseq: int = 0
    digest: bytes = b""
    at: int = 0

    def copy(self) -> Chain:
        """A chain to continue from here, and to drop if the write fails."""
        return Chain(self.origin, self.oseq, self.digest, self.at)

    def link(self, event: NewEvent, stream: str, version: int, now: int) -> bytes:
        """The event's `data`; afterwards `oseq`, `at` and `digest` are this event's. `now` is microseconds."""
        self.oseq += 1
        self.at = max(now, self.at + 1)
        head = envelope(event.type, event.schema, stream, version, self.origin, self.oseq, self.at)
        fields = event.fields
        data = head + (b"," + fields[1:] if len(fields) > 2 else b"}")
        self.digest = chained(self.digest, data)
        return data


def chained(previous: bytes, data: bytes) -> bytes:
    """The digest of an event whose origin's previous event has the digest `previous` (empty before its first)."""
    return sha256(previous + data).digest()


def disagreement(row: RecordedEvent) -> str | None:
    """What in the row's columns is not what its `data` says, or None. The schema number stands in `data` alone."""
    if not well_typed(row):
        return "a column is not of the type that was written"
    if row.codec != PLAIN:
        return f"the codec {row.codec} is unknown"
    schema = schema_of(row)
    if schema is None:
        return "the type column and the data differ"
    head = envelope(row.type, schema, row.stream, row.version, row.origin, row.oseq, row.at)
    if not row.data.startswith(head) or row.data[len(head) : len(head) + 1] not in (b",", b"}"):
        return "the columns and the data differ"
    return None


def unsound(row: RecordedEvent, before: bytes | None) -> str | None:
    """What is not as it was written of a row alone, or None. `before` is the digest of its origin's event before it,
    None where that is not here: then the row's own digest proves nothing."""
    if what := disagreement(row):
        return what
    if row.oseq == 1:
        before = b""
    if before is None:
        return None
    sound = isinstance(before, bytes) and row.digest == chained(before, row.data)
    return None if sound else "the digest does not match the data and the digest before it"


class Chains:
    """Where the chains end of what was read so far, so that each next event can be compared with the one before it."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[int, bytes]] = {}

    def learn(self, event: RecordedEvent) -> None:
        """What comes next of its origin follows this event, which is taken as it is."""
        self._ends[event.origin] = event.oseq, event.digest

    def unsound(self, event: RecordedEvent) -> str | None:
        """What is not as it was written of the next event, or None. The first one seen of an origin is compared with
        itself alone, but for an origin's very first."""
        oseq, digest = self._ends.get(event.origin, (None, None))
        what = unsound(event, digest)
        if what is None and oseq is not None and event.oseq != oseq + 1:
            what = f"oseq {event.oseq} of {event.origin} follows {oseq}"
        if what is None:
            self.learn(event)
        return what


def schema_of(row: RecordedEvent) -> int | None:
    """The schema number that the data says, or None where it does not begin as an event of the row's type does."""
    lead = b'{"type":"%b","schema":' % row.type.encode()
    end = row.data.find(b",", len(lead))
    number = row.data[len(lead) : end]
    return int(number) if row.data.startswith(lead) and number.isdigit() else None


def well_typed(row: RecordedEvent) -> bool:
    """Whether every column is of its type: a flipped bit can make a text of a blob, or nothing of a number."""
    key = row.position, row.origin, row.oseq, row.stream, row.version, row.type
    return tuple(map(type, (*key, row.at, row.codec, row.data, row.digest))) == _TYPES


def envelope(type_: str, schema: int, stream: str, version: int, origin: str, oseq: int, at: int) -> bytes:
    """What an event's `data` begins with, up to the first of its type's fields; `at` is microseconds since 1970 UTC."""
    seconds, micros = divmod(at, 1_000_000)
    return (
        f'{{"type":"{type_}","schema":{schema},"stream":{quoted(stream)},"version":{version},'
        f'"origin":"{origin}","oseq":{oseq},"time":"{_second(seconds)}.{micros:06d}Z"'
    ).encode()


@lru_cache(maxsize=4096)
def quoted(stream: str) -> str:
    """The stream's name as a JSON string. Raises `TypeError` for a name that UTF-8 cannot say (lone surrogates)."""
    return orjson.dumps(stream).decode()


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
