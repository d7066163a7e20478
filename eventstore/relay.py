"""The relay: everything that the log records, into JetStream, whatever happens to the server there.

The log is the truth and JetStream a copy that may be lost at any time, so nothing here ever holds up an append. The
relay reads the log by position, beside the process that writes it, in two lanes (`relay_lane`): the ledger into the
stream LEDGER, the frames into TOKENS. It makes a new connection whenever one ends, for ever; the one thing that
stops it is proof that somebody else publishes under this log's identity (`fenced`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from eventstore.errors import LogError
from eventstore.head import Head
from eventstore.incarnations import Incarnations
from eventstore.ingest import PulledEvent, Taken
from eventstore.ingest_pull import Outcome, Pull
from eventstore.jetstream import JetStream, JetStreamError
from eventstore.reader import Reader
from eventstore.relay_frames import FrameLane
from eventstore.relay_lane import CHECK_S, Fenced, Lane
from eventstore.relay_ledger import LedgerLane
from eventstore.relay_messages import FrameMessages, OpenRun
from eventstore.verify import RunOf

logger = logging.getLogger(__name__)

RETRY_FIRST_S = 0.1
RETRY_MOST_S = 5.0

Servers = Callable[[], Awaitable[Sequence[str]]]
"""The URLs to try, credentials included; awaited before every connection, so it may wait for a server to come up."""
Take = Callable[[Sequence[PulledEvent]], Awaitable[Taken]]
"""Stores what is new of these and chains (`SQLiteLog.ingest`)."""


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """How far the relay is. Positions are of the log; `lag_events` counts rows of both lanes not yet in JetStream.

    `state`: down (no connection), catching_up, live, full (a stream has no room: see `last_error`), fenced (stopped
    for good). `foreign` counts earlier origins of which the server holds something that this log does not.
    `failed_runs` counts runs of frames that could not be composed. `pulled` counts events of earlier incarnations that
    this log lacked and took back (None: not compared yet, or not all of them are back), `gone` runs among them whose
    frames JetStream no longer has; `refused` says what was there and not taken, and why. While they come, `coming` is
    true.
    """

    state: Literal["down", "catching_up", "live", "full", "fenced"]
    ledger_position: int
    tokens_position: int
    head: int
    lag_events: int
    foreign: int
    failed_runs: int
    last_error: str | None
    pulled: int | None = None
    coming: bool = False
    gone: int = 0
    refused: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the status line between processes."""
        return asdict(self)


class Relay:
    """One relay for one log. `reader` is its own. Make it inside the event loop, await `run`, tell it `advance`.

    `types` are the ledger's event types, `origin` the current incarnation (default: the newest in the log),
    `frames_type` the event type of a frame; `open_run` composes the frames of a run. `changed` is called after every
    change of `status` and must be cheap. `take` takes back events that the log lacks, a piece at a time (None: leave
    them where they are), and `run_of` says which of them open and close runs. Every `check_s` seconds what the server
    holds is compared with what it should hold; `retry_s` is the first pause before another connection.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        origin: str | None = None,
        types: Iterable[str],
        frames_type: str,
        open_run: OpenRun,
        servers: Servers,
        changed: Callable[[], None] = lambda: None,
        take: Take | None = None,
        run_of: RunOf = lambda event: None,
        connect: Callable[[Sequence[str]], Awaitable[JetStream]] = JetStream.connect,
        check_s: float = CHECK_S,
        retry_s: float = RETRY_FIRST_S,
    ) -> None:
        self._connect, self._retry_s = connect, retry_s
        self._reader, self._take, self._run_of = reader, take, run_of
        self._incarnations = Incarnations(reader.path)
        self._origin = origin or self._incarnations.current()
        self._pulled, self._compared, self._coming = 0, False, False
        self._outcome = Outcome()
        self._head = Head(reader.head())
        self._servers = servers
        self._changed = changed
        self._moved = asyncio.Event()
        self._fenced: str | None = None
        self._frames = FrameMessages(reader, frames_type, open_run)
        self._ledger_lane = LedgerLane(reader, self._incarnations, self._head, types, self._origin, self._notice)
        self._frame_lane = FrameLane(
            reader, self._frames, self._incarnations, self._head, frames_type, self._origin, self._notice
        )  # fmt: skip
        for lane in (self._ledger_lane, self._frame_lane):
            lane.check_s = check_s
        self._lanes: tuple[Lane, ...] = (self._ledger_lane, self._frame_lane)

    def advance(self, head: int) -> None:
        """The log has grown to this position."""
        self._head.advance(head)

    @property
    def status(self) -> RelayStatus:
        """How far it is now."""
        ledger, tokens = (lane.position for lane in self._lanes)
        states = {lane.state for lane in self._lanes}
        worst: Literal["down", "full", "catching_up", "live"] = next(
            state for state in ("down", "full", "catching_up", "live") if state in states
        )
        return RelayStatus(
            state="fenced" if self._fenced else worst,
            ledger_position=ledger,
            tokens_position=tokens,
            head=self._head.position,
            lag_events=max(0, self._head.position - min(ledger, tokens)),
            foreign=len(self._ledger_lane.foreign),
            failed_runs=self._frames.failed_runs,
            last_error=self._fenced or next((lane.error for lane in self._lanes if lane.error), None),
            pulled=self._pulled if self._compared else None,
            coming=self._coming,
            gone=self._outcome.gone,
            refused=sorted(self._outcome.refused.values()),
        )

    async def run(self) -> None:
        """Relay until cancelled, or fenced."""
        pause = self._retry_s
        while True:
            try:
                js = await self._connect(await self._servers())
                try:
                    await self._pull(js)
                    await self._over(js)
                finally:
                    pause = self._next_pause(pause)
                    await js.close()
            except Fenced as e:
                self._fence(str(e))
                return
            except (JetStreamError, LogError, sqlite3.Error) as e:
                self._lost(str(e))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, RETRY_MOST_S)

    async def flush(self, timeout_s: float) -> bool:
        """Wait until both lanes have reached the head, at most `timeout_s`. Returns whether they have."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.status.lag_events and not self._fenced:
                    await self._moved.wait()
        except TimeoutError:
            return False
        return not self._fenced

    def close(self) -> None:
        """Let go of the log's file; `run` must have ended."""
        self._incarnations.close()

    async def _pull(self, js: JetStream) -> None:
        """Take back what JetStream holds of earlier incarnations and this log lacks, before anything else is done."""
        if self._take is None:
            return
        pull = Pull(self._reader, self._incarnations, self._origin, self._run_of)
        if ends := await pull.ends(js):
            self._coming = True
            self._notice()
            try:
                async for piece in pull.pieces(js, ends):
                    taken = await self._take(piece)
                    pull.outcome.refused.update(taken.refused)
                    self._pulled += taken.events
                    self._head.advance(taken.last)
            finally:
                self._coming = False
                self._notice()
        for refused in pull.outcome.refused.values():
            logger.warning("JetStream holds history of this node that was not taken: %s", refused)
        if pull.outcome.gone:
            logger.warning("JetStream no longer has the frames of %d answers that came back", pull.outcome.gone)
        self._compared = True
        self._outcome.refused = pull.outcome.refused
        self._outcome.gone += pull.outcome.gone
        self._frame_lane.refused = pull.outcome.refused.keys()
        self._notice()

    async def _over(self, js: JetStream) -> None:
        """Both lanes over this connection, until it ends or one of them cannot go on."""
        lanes = [asyncio.create_task(lane.run(js)) for lane in self._lanes]
        closed = asyncio.create_task(js.closed())
        try:
            await asyncio.wait([*lanes, closed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*lanes, closed):
                task.cancel()
            ended = await asyncio.gather(*lanes, closed, return_exceptions=True)
        failures = [e for e in ended if isinstance(e, Exception)]
        raise next(
            (e for e in failures if isinstance(e, Fenced)),
            failures[0] if failures else JetStreamError("the connection ended"),
        )

    def _next_pause(self, pause: float) -> float:
        """A connection that worked starts the waiting over; one that did not must not be retried in a hot loop."""
        return self._retry_s if any(lane.state in {"live", "full"} for lane in self._lanes) else pause

    def _lost(self, error: str) -> None:
        if all(lane.state != "down" for lane in self._lanes):
            logger.warning("the relay lost JetStream: %s", error)
        for lane in self._lanes:
            lane.lost(error)

    def _fence(self, error: str) -> None:
        logger.error("the relay stopped: %s", error)
        self._fenced = error
        self._notice()

    def _notice(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
        self._changed()
