"""Reading back what a stream holds: nothing else tells what it has lost.

A damaged block file costs a nats-server one message, which its index goes on counting, or, where it has no index, all
that follows in that block; it says nothing of either. So each lane reads its stream from the first message to the
newest, once after every start and then every `EVERY_S`, a page at a time beside its work, and compares it with the
log. The headers are enough: the server checks every message's checksum when it reads it, and leaves out those that
fail.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from eventstore.jetstream import JetStream, Stored
from eventstore.relay_messages import FrameMessages, Key, of_origin

PAGE = 1_000
PAUSE_S = 0.02
EVERY_S = 6 * 3600.0

logger = logging.getLogger(__name__)


class Comparison(Protocol):
    """What a stream should hold, asked message by message in the stream's order."""

    def follows(self, origin: str, key: Key) -> bool:
        """Whether nothing is missing before this message. True for what is not ours to judge."""


class Gapless:
    """The ledger: of each of these origins every event, from its first."""

    def __init__(self, origins: Collection[str]) -> None:
        self._last = dict.fromkeys(origins, 0)

    def follows(self, origin: str, key: Key) -> bool:
        """As `Comparison`."""
        if origin not in self._last:
            return True
        before, self._last[origin] = self._last[origin], key[0]
        return key[0] <= before + 1


class AsComposed:
    """The frames: what `source` composes of the log, of these origins, after the position `after`; None: from the
    first message that is there on."""

    def __init__(self, source: FrameMessages, origins: Collection[str], after: int | None, until: int) -> None:
        self._source, self._origins, self._after, self._until = source, origins, after, until
        self._coming: deque[Key] = deque()

    def follows(self, origin: str, key: Key) -> bool:
        """As `Comparison`."""
        if origin not in self._origins:
            return True
        if self._after is None:
            self._after = key[0] - 1
            while (expected := self._expected()) is not None and expected < key:
                self._coming.popleft()
        expected = self._expected()
        if expected is None or key < expected:
            return True  # written since we began, or before our time
        self._coming.popleft()
        return expected == key

    def _expected(self) -> Key | None:
        """The place of the next message that there should be."""
        while not self._coming and self._after is not None and self._after < self._until:
            outgoing, self._after = self._source.read(self._after, self._until)
            self._coming.extend(message.key for message in outgoing)
        return self._coming[0] if self._coming else None


class Audit:
    """One reading of a stream, as far as it went when this was made: `newest` has each origin's newest sequence.

    Call `step` whenever `wait_s` has passed, until it is `over`; then `wait_s` is the time until the next audit.
    """

    def __init__(
        self,
        stream: str,
        newest: Mapping[str, int],
        key_of: Callable[[Mapping[str, str]], Key],
        comparison: Comparison,
    ) -> None:
        self._stream, self._newest, self._key_of, self._comparison = stream, newest, key_of, comparison
        self._end = max(newest.values(), default=0)
        self._read = 0
        self._seen: dict[str, int] = {}
        self._at = time.monotonic()
        self.over = False

    @property
    def wait_s(self) -> float:
        """Seconds until there is something to do."""
        return max(0.0, self._at - time.monotonic())

    async def step(self, js: JetStream) -> bool:
        """Read a page. Returns whether all is well so far; if it is not, the audit is over."""
        page = await js.read(self._stream, self._read + 1, PAGE)
        for stored in page:
            if await self._misses(js, stored):
                return self._finish(await self._overtaken(js), _origin(stored))
            self._read = self._seen[_origin(stored)] = stored.sequence
        if not page or self._read >= self._end:
            missing = [origin for origin, newest in self._newest.items() if self._seen.get(origin, 0) < newest]
            return self._finish(not missing, *missing)
        self._at = time.monotonic() + PAUSE_S
        return True

    async def _misses(self, js: JetStream, stored: Stored) -> bool:
        """Whether something is missing before this message; the leader's word counts, not a replica's that lags."""
        origin = _origin(stored)
        if self._comparison.follows(origin, self._key_of(stored.headers)):
            return False
        found = await js.next(self._stream, of_origin(origin), self._seen.get(origin, 0) + 1)
        return found is None or found.sequence >= stored.sequence

    async def _overtaken(self, js: JetStream) -> bool:
        """Whether what we were about to read was dropped for want of room meanwhile."""
        return 0 < self._read < (await js.state(self._stream)).first_sequence - 1

    def _finish(self, well: bool, *origins: str) -> bool:
        self.over = True
        self._at = time.monotonic() + EVERY_S
        if not well:
            logger.warning("%s has lost messages of %s", self._stream, ", ".join(origins))
        return well


def _origin(stored: Stored) -> str:
    return stored.subject.rpartition(".")[2]
