"""The gateway's side of the follower: start it, tell it the head, hear how far it has come, start it again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from eventstore.errors import LogError
from eventstore.ingest import PulledEvent, Taken
from gateway.config import Settings
from gateway.control import ControlError
from gateway.follower.channel import Channel
from gateway.follower.taking import answer, understood

logger = logging.getLogger(__name__)

NOTIFY_S = 0.01
"""Least time between two messages about the head."""
RESTART_FIRST_S = 0.2
RESTART_MOST_S = 10.0
STEADY_S = 30.0
"""A child that lived this long starts the waiting between restarts over."""
LINGER_S = 3.0
"""The time that a child has to end after the channel is closed; then it is killed."""
PIECE_S = 60.0
"""How long each piece of history that comes back may take."""

Take = Callable[[Sequence[PulledEvent]], Awaitable[Taken]]

State = Literal["starting", "running", "restarting", "stopped"]


async def _nothing(pulled: Sequence[PulledEvent]) -> Taken:
    return Taken()


class Follower:
    """The second process and its supervisor, for one event loop. Start it after the log has recorded its start.

    `origin` is the log's incarnation. `take` stores events of earlier ones that the child found in JetStream."""

    def __init__(self, settings: Settings, origin: str | None = None, take: Take = _nothing) -> None:
        self._take = take
        self._taking: set[asyncio.Task[None]] = set()
        self._pieces = 0
        self._task = {
            "data_dir": str(settings.data_dir.absolute()),
            "nats": settings.nats,
            "log_level": settings.log_level,
            "origin": origin,
        }
        self._head = 0
        self._rebuilds = 0
        self._channel: Channel | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._notifying: asyncio.TimerHandle | None = None
        self._notified = 0.0
        self._changed = asyncio.Event()
        self._stopping = False
        self._state: State = "starting"
        self._restarts = 0
        self._error: str | None = None
        self._said: dict[str, Any] = {"projections": {}, "projecting": {}, "scrub": {}, "relay": {}, "nats": {}}

    @property
    def status(self) -> dict[str, Any]:
        """What the child said last (see `channel.py`; kept while it is being started again), and `follower`:
        `{state, restarts, error}`, where the error is of the last child's end."""
        return {
            **self._said,
            "follower": {"state": self._state, "restarts": self._restarts, "error": self._error},
        }

    @property
    def relays(self) -> bool:
        """Whether there is to be a NATS at all."""
        return self._task["nats"] != "off"

    async def start(self) -> None:
        """Start the child and keep one running; a child that cannot start is tried again, and does not raise."""
        self._supervisor = asyncio.create_task(self._supervise())

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Let the child bring relay and projections to the head, at most `timeout_s`, and end it and its children."""
        self._stopping = True
        if self._supervisor is None:
            return
        if self._channel:
            self._channel.post({"stop": timeout_s, "head": self._head})
        else:
            self._supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            try:
                async with asyncio.timeout(timeout_s + LINGER_S):
                    await self._supervisor
            except TimeoutError:
                logger.warning("the follower did not stop in time")
        self._supervisor = None
        self._become("stopped", None)

    def notify(self, head: int) -> None:
        """The log has grown to here. Cheap: for the commit hook."""
        self._head = head
        if self._notifying is None:
            wait = self._notified + NOTIFY_S - time.monotonic()
            if wait <= 0:
                self._send_head()
            else:
                self._notifying = asyncio.get_running_loop().call_later(wait, self._send_head)

    async def wait_for(self, projection: str, position: int, timeout: float) -> bool:  # noqa: ASYNC109 - an answer, not an error
        """Wait until this projection has folded the log up to `position`. Returns whether it has, in `timeout` s."""
        try:
            async with asyncio.timeout(timeout):
                while self._position(projection) < position:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def compared(self, timeout_s: float | None) -> bool:
        """Wait until the log has been compared with what JetStream has of this node's past, and all that was missing is
        back; at most `timeout_s` where nothing comes. Returns whether it is so; at once without NATS."""
        if not self.relays:
            return False
        now, coming = asyncio.get_running_loop().time, None
        try:
            async with asyncio.timeout(timeout_s) as patience:
                while self._said["relay"].get("pulled") is None:
                    if timeout_s is not None and coming != self._coming:
                        coming = self._coming
                        patience.reschedule(now() + (timeout_s if coming is None else PIECE_S))
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def rebuild(self, projection: object) -> dict[str, Any]:
        """Have this projection made anew, up to the head of now. Returns its status then. Raises `ControlError`."""
        if not isinstance(projection, str) or projection not in self._said["projections"]:
            raise ControlError(f"there is no projection {projection}")
        if self._channel is None:
            raise ControlError("the follower is not running")
        self._rebuilds += 1
        number, head, life = self._rebuilds, self._head, self._restarts
        self._channel.post({"rebuild": projection, "number": number})
        while not self._is_rebuilt(projection, number, head):
            await self._changed.wait()
            if self._restarts != life or self._state == "stopped":
                raise ControlError("the follower ended while it worked")
        found: dict[str, Any] = self._said["projections"][projection]
        return found

    async def nats_line(self, patience_s: float = 3.0) -> str:
        """For people: how to see the events on NATS live, or why that is not possible (yet)."""
        try:
            async with asyncio.timeout(patience_s):
                while self._said["nats"].get("state") in (None, "starting"):
                    await self._changed.wait()
        except TimeoutError:
            pass
        said = self._said["nats"]
        if warning := said.get("warning"):
            logger.warning("%s", warning)
        return said.get("subscribe") or said.get("url") or said.get("error") or said.get("state") or "starting"

    @property
    def _coming(self) -> int | None:
        """While history comes back, how many pieces of it have come; None while none does."""
        return self._pieces if self._state == "running" and self._said["relay"].get("coming") else None

    def _is_rebuilt(self, projection: str, number: int, head: int) -> bool:
        state = self._said["projections"][projection]
        began = self._said["projecting"].get("rebuilt", {}).get(projection, 0) >= number
        return began and (state["position"] >= head or state["halted"] is not None)

    def _position(self, projection: str) -> int:
        return int(self._said["projections"].get(projection, {}).get("position", -1))

    def _send_head(self) -> None:
        self._notifying = None
        self._notified = time.monotonic()
        if self._channel:
            self._channel.post({"head": self._head})

    async def _supervise(self) -> None:
        pause = RESTART_FIRST_S
        try:
            while True:
                began = time.monotonic()
                await self._live()
                if self._stopping:
                    return
                self._restarts += 1
                if time.monotonic() - began > STEADY_S:
                    pause = RESTART_FIRST_S
                await asyncio.sleep(pause)
                pause = min(pause * 2, RESTART_MOST_S)
        finally:
            await self._end()

    async def _live(self) -> None:
        """One child, from its start to its end."""
        try:
            self._process, self._channel = await self._spawn()
        except OSError as e:
            self._become("restarting", f"the follower cannot be started: {e}")
            return
        await self._channel.send({**self._task, "head": self._head})
        while (message := await self._channel.receive()) is not None:
            if "take" in message:
                self._begin_taking(self._channel, message)
                continue
            self._said = message
            self._become("running", None)
        await self._end()
        if not self._stopping:
            self._become("restarting", f"the follower ended ({self._process.returncode})")

    def _begin_taking(self, channel: Channel, message: dict[str, Any]) -> None:
        task = asyncio.create_task(self._take_in(channel, message))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        self._pieces += 1
        self._wake()

    async def _take_in(self, channel: Channel, message: dict[str, Any]) -> None:
        """Have a piece stored. Where the log fails, the server ends, and there is nothing to answer. Anything else
        is a refusal: the relay waits for an answer, and goes on without that history."""
        try:
            taken = await self._take(understood(message))
        except LogError as error:
            logger.warning("history that came back was not stored: %s", error)
            return
        except Exception:
            logger.exception("history that came back could not be taken in")
            origins = {event[0] for event in message["take"]}
            taken = Taken(refused={each: f"history of {each} could not be taken in" for each in origins})
        channel.post(answer(message, taken))

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, Channel]:
        """The child gets nothing of our environment (it holds keys) but where Python finds its modules; and a session
        of its own, so that Ctrl-C reaches it through us alone."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "gateway.follower", str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                env={"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},  # noqa: ASYNC240  no disk is read
                start_new_session=True,
            )  # fmt: skip
        return process, await Channel.over(ours)

    async def _end(self) -> None:
        """Hang up, and see the child off."""
        if self._channel:
            self._channel.close()
            self._channel = None
        if self._process is None or self._process.returncode is not None:
            return
        try:
            async with asyncio.timeout(LINGER_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _become(self, state: State, error: str | None) -> None:
        if error:
            logger.warning("%s", error)
        self._state, self._error = state, error
        self._wake()

    def _wake(self) -> None:
        """Let all look again who wait for something."""
        self._changed.set()
        self._changed = asyncio.Event()
