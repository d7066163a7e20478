"""What must hold once NATS is well again: LEDGER and TOKENS are the log, once, in order, to the byte."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nats
import nats.errors
from nats.js.errors import NotFoundError

from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from eventstore.relay_messages import DIGEST, FRAME, OSEQ, POSITION, WHOLE, Compose, OpenRun

HEALS_WITHIN_S = 60.0


@dataclass(frozen=True)
class Said:
    """One message, as it should be or as it is: `key` is its place among its origin's messages."""

    subject: str
    key: tuple[int, int]
    digest: str
    payload: bytes
    whole: int = 0

    @property
    def origin(self) -> str:
        return self.subject.rpartition(".")[2]

    def is_of(self, expected: Said) -> bool:
        """Whether this is that message, or its stub."""
        if not self.whole:
            return self == expected
        named = (self.subject, self.key, self.digest) == (expected.subject, expected.key, expected.digest)
        return named and self.whole == len(expected.payload)


def compared(name: str, expected: Iterable[Said], stored: Iterable[Said]) -> list[str]:
    """What a stream lacks, has twice, has out of order or has otherwise, one sentence for each origin."""
    wanted, found = _by_origin(expected), _by_origin(stored)
    return [
        f"{name} has {len(has)} of {origin}, the log {len(wants)}"
        for origin in sorted(wanted.keys() | found.keys())
        if len(wants := wanted.get(origin, [])) != len(has := found.get(origin, []))
        or not all(one.is_of(other) for one, other in zip(has, wants, strict=True))
    ]


def _by_origin(messages: Iterable[Said]) -> dict[str, list[Said]]:
    found: dict[str, list[Said]] = {}
    for message in messages:
        found.setdefault(message.origin, []).append(message)
    return found


def ledger_of(data_dir: Path) -> list[Said]:
    """What LEDGER should hold of this log."""
    with Reader(data_dir) as reader:
        return [
            Said(f"abstractcore.events.{row.type}.{row.origin}", (row.oseq, 0), row.digest.hex(), row.data)
            for row in reader.rows(frames=False)
            if isinstance(row, RecordedEvent)
        ]


def tokens_of(data_dir: Path, event_type: str, open_run: OpenRun) -> list[Said]:
    """What TOKENS should hold of this log: every frame of it."""
    found: list[Said] = []
    events: dict[int, RecordedEvent] = {}
    runs: dict[int, Compose] = {}
    with Reader(data_dir) as reader:
        for row in reader.rows():
            if isinstance(row, RecordedEvent):
                events[row.position] = row
                continue
            opening = events[row.generation]
            compose = runs.setdefault(row.generation, open_run(opening))
            subject = f"abstractcore.events.{event_type}.{opening.origin}"
            found += [Said(subject, (row.position, row.frame + n), "", data) for n, data in enumerate(compose(row))]
    return found


async def stored(url: str, stream: str, patience_s: float = 0.5) -> list[Said]:
    """Everything that a stream gives to a consumer, in its order; empty where there is no stream. What does not come
    within `patience_s` of the last is missing."""
    client = await nats.connect(url, allow_reconnect=False)
    found: list[Said] = []
    try:
        js = client.jetstream()
        left = (await js.stream_info(stream)).state.messages
        reading = await js.subscribe("abstractcore.events.>", stream=stream, ordered_consumer=True)
        while left:
            message = await reading.next_msg(timeout=patience_s)
            found.append(said(message.subject, message.headers or {}, message.data))
            left = message.metadata.num_pending
    except (NotFoundError, nats.errors.TimeoutError):
        pass  # what does not come is missing
    finally:
        await client.close()
    return found


def said(subject: str, headers: Mapping[str, str], payload: bytes) -> Said:
    """What a stored message says."""
    key = (int(headers[OSEQ]), 0) if OSEQ in headers else (int(headers[POSITION]), int(headers[FRAME]))
    return Said(subject, key, headers.get(DIGEST, ""), payload, int(headers.get(WHOLE, 0)))


@dataclass(frozen=True)
class Copy:
    """A log and the server that should hold all of it. `frames_type` and `open_run` are what its relay was given."""

    data_dir: Path
    frames_type: str
    open_run: OpenRun

    async def faults(self, url: str) -> list[str]:
        """Everything that is not as it should be there; a server that cannot be asked is one, too."""
        try:
            ledger, tokens = await stored(url, "LEDGER"), await stored(url, "TOKENS")
        except (nats.errors.Error, OSError) as error:
            return [f"it cannot be read: {type(error).__name__}"]
        expected = tokens_of(self.data_dir, self.frames_type, self.open_run)
        return compared("LEDGER", ledger_of(self.data_dir), ledger) + compared("TOKENS", expected, tokens)

    async def healed(self, url: Callable[[], str], within_s: float = HEALS_WITHIN_S) -> list[str]:
        """The faults that are left when there are none left, or when patience is."""
        deadline = time.monotonic() + within_s
        while (found := await self.faults(url())) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        return found
