"""The follower's own side: read the log beside the gateway, relay it, project it, keep the NATS server alive.

It decides nothing and writes nothing into the log. It may lag, be killed and be started again at any time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eventstore.catalogue import REGISTRY
from eventstore.catalogue.token import TokenGenerated
from eventstore.catalogue.values import dumps
from eventstore.envelope import RecordedEvent, RecordedFrames
from eventstore.head import Head
from eventstore.reader import Reader
from eventstore.relay import Relay
from gateway.exchange.runs import run_of
from gateway.exchange.tokens import TokenComposer
from gateway.follower.channel import Channel
from gateway.follower.projecting import Projecting
from gateway.follower.scrub import Scrub
from gateway.follower.stuck import Stuck
from gateway.follower.taking import Handover
from gateway.nats_server import NatsServer, subscribe_line

logger = logging.getLogger(__name__)

QUIET_S = 0.1
"""Least time between two status messages that nobody waits for."""
MIND_S = 1.0
"""Time between two looks at whether the server still stores what it is given."""
ORPHAN_S = 1.5
"""When the gateway is gone: the time left to end in order."""


def open_run(opening: RecordedEvent) -> Callable[[RecordedFrames], list[bytes]]:
    """Composes the `token_generated` objects of the generation that this event opened."""
    composer = TokenComposer(opening)
    return lambda row: [dumps(token) for token in composer.compose(row)]


class Process:
    """Everything that runs in the follower. `task` is the gateway's first message."""

    def __init__(self, channel: Channel, task: dict[str, Any]) -> None:
        self._channel = channel
        self._nats_setting: str = task["nats"]
        self._data_dir = Path(task["data_dir"])
        self._head = Head(task["head"])
        self._origin: str | None = task.get("origin")
        self._handover = Handover(channel)
        self._dirty, self._urgent = asyncio.Event(), asyncio.Event()
        self._reader = Reader(self._data_dir)
        self._projecting = Projecting(self._data_dir, self._head, self._tell_now)
        self._scrub = Scrub(self._data_dir, self._tell)
        self._nats = NatsServer(self._data_dir, self._tell) if self._nats_setting == "embedded" else None
        self._relay = None if self._nats_setting == "off" else self._make_relay()
        self._demands: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until the gateway says stop, or is gone."""
        work: list[Coroutine[Any, Any, None]] = [self._projecting.run(), self._report(), self._scrub.run()]
        if self._nats:
            work.append(self._nats.run())
        if self._relay:
            work.append(self._relay.run())
        if self._nats and self._relay:
            work.append(mind(self._nats, self._relay, Stuck()))
        tasks = [asyncio.create_task(_reported(job)) for job in work]
        try:
            await self._listen()
        finally:
            ending = [*tasks, *self._demands]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            await self._close()

    async def _listen(self) -> None:
        while (message := await self._channel.receive()) is not None:
            if "head" in message:
                self._head.advance(message["head"])
                if self._relay:
                    self._relay.advance(message["head"])
            if "rebuild" in message:
                demand = asyncio.create_task(self._projecting.rebuild(message["rebuild"], message["number"]))
                self._demands.add(demand)
                demand.add_done_callback(self._demands.discard)
            if "taken" in message:
                self._handover.answered(message)
            if "stop" in message:
                await self._flush(message["stop"])
                return
        logger.warning("the gateway is gone: stopping")
        asyncio.get_running_loop().call_later(ORPHAN_S, os._exit, 1)

    async def _flush(self, timeout_s: float) -> None:
        waits = [self._projecting.flush(timeout_s)]
        if self._relay:
            waits.append(self._relay.flush(timeout_s))
        await asyncio.gather(*waits)
        await self._channel.send(self._status())

    async def _close(self) -> None:
        if self._nats:
            await self._nats.stop()
        await self._projecting.close()
        if self._relay:
            self._relay.close()
        self._reader.close()

    def _make_relay(self) -> Relay:
        return Relay(
            self._reader,
            origin=self._origin,
            take=self._handover.take,
            run_of=run_of,
            types=REGISTRY.keys() - {TokenGenerated.type},
            frames_type=TokenGenerated.type,
            open_run=open_run,
            servers=self._servers,
            changed=self._tell,
        )

    async def _servers(self) -> Sequence[str]:
        return [await self._nats.address()] if self._nats else self._nats_setting.split(",")

    def _tell(self) -> None:
        self._dirty.set()

    def _tell_now(self) -> None:
        self._urgent.set()
        self._dirty.set()

    async def _report(self) -> None:
        """Send the status after every change: at once when a projection moved, since queries wait for that."""
        while True:
            await self._dirty.wait()
            try:
                async with asyncio.timeout(QUIET_S):
                    await self._urgent.wait()
            except TimeoutError:
                pass
            self._dirty.clear()
            self._urgent.clear()
            await self._channel.send(self._status())

    def _status(self) -> dict[str, Any]:
        return {
            "projections": self._projecting.status,
            "projecting": {"error": self._projecting.error, "rebuilt": self._projecting.rebuilt},
            "scrub": self._scrub.status,
            "relay": self._relay.status.as_json() if self._relay else {"state": "off"},
            "nats": self._nats_status(),
        }

    def _nats_status(self) -> dict[str, Any]:
        if self._nats is None:
            if self._nats_setting == "off":
                return {"state": "off"}
            return {"state": "external", "url": ",".join(map(_without_userinfo, self._nats_setting.split(",")))}
        url, token_file = self._nats.url, self._nats.files.token_file
        return {
            "state": self._nats.state,
            "url": url,
            "token_file": str(token_file),
            "subscribe": subscribe_line(url, token_file) if url else None,
            "warning": self._nats.warning,
            "error": self._nats.error,
        }


async def mind(server: NatsServer, relay: Relay, stuck: Stuck) -> None:
    """Replace the server whenever it runs and stores nothing, for ever."""
    while True:
        await asyncio.sleep(MIND_S)
        if stuck(time.monotonic(), server.state == "running", relay.status):
            logger.warning("nats-server runs, but stores nothing: it is replaced")
            server.replace()


async def _reported(job: Coroutine[Any, Any, None]) -> None:
    """A job that fails takes the process down: the gateway starts another, and health shows it."""
    try:
        await job
    except Exception:
        logger.exception("the follower cannot go on")
        os._exit(1)


def _without_userinfo(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
