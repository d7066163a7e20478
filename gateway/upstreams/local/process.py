"""One worker process, seen from the server: requests go in, and each gets its own messages back."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

import orjson

from gateway import tethered
from gateway.upstreams.local.found import Place
from gateway.upstreams.upstream import UpstreamFailure

LINE_LIMIT = 256 << 20
"""Bytes of one message: the vectors of many texts are one."""
LINGER_S = 2.0
"""How long a worker that was hung up on gets to end."""
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from gateway.upstreams.local.worker import main; main()"
)
"""Begins the worker with the server's own module path, wherever it was started."""


class Refused(Exception):
    """The worker said no: `error` is `{message, status, code, param}`."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


class Inbox:
    """The messages that answer one request."""

    def __init__(self, number: int, lost: asyncio.Future[str]) -> None:
        self.number = number
        self._lost = lost
        self._messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def put(self, message: dict[str, Any] | None) -> None:
        """The next message; None: the worker is gone."""
        self._messages.put_nowait(message)

    async def take(self) -> list[dict[str, Any]]:
        """What there is, at least one message. Raises `UpstreamFailure` once the worker is gone, `Refused`."""
        taken = [await self._messages.get()]
        while not self._messages.empty() and taken[-1] is not None and "failed" not in taken[-1]:
            taken.append(self._messages.get_nowait())
        last = taken[-1]
        if (last is None or "failed" in last) and len(taken) > 1:
            self._messages.put_nowait(last)  # after what came before it
            taken.pop()
        messages = [message for message in taken if message is not None]
        if not messages:
            self._messages.put_nowait(None)
            raise UpstreamFailure("connection_lost", self._lost.result())
        if "failed" in messages[0]:
            raise Refused(messages[0]["failed"])
        return messages


class WorkerProcess:
    """A model in a process. `loaded` resolves to `{device, memory_bytes}`; `lost` to why it ended, in words."""

    def __init__(self, process: Process, model: str) -> None:
        self._process, self._model = process, model
        self._inboxes: dict[int, Inbox] = {}
        self._count = 0
        loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, engine: str, model: str, place: Place) -> WorkerProcess:
        """Begin one. It dies with this process, and in its own session, so that Ctrl-C reaches it through us alone."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", tethered.__file__, str(os.getpid()),
            sys.executable, "-P", "-c", BOOT, orjson.dumps(_module_path()).decode(),
            engine, place.name, "directory" if place.is_directory else "repository",
            stdin=PIPE, stdout=PIPE, limit=LINE_LIMIT, start_new_session=True,
        )  # fmt: skip
        return cls(process, model)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def requests(self) -> int:
        """How many it was given."""
        return self._count

    async def loaded(self) -> dict[str, Any]:
        """Wait for the model: `{device, memory_bytes}`. Raises `Refused`, `UpstreamFailure`."""
        message = await asyncio.shield(self._loaded)
        if "failed" in message:
            raise Refused(message["failed"])
        if "lost" in message:
            raise UpstreamFailure("connection_lost", message["lost"])
        loaded: dict[str, Any] = message["loaded"]
        return loaded

    def ask(self, request: dict[str, Any]) -> Inbox:
        """Give it a request; it takes them one after the other."""
        self._count += 1
        inbox = self._inboxes[self._count] = Inbox(self._count, self.lost)
        if self.lost.done():
            inbox.put(None)
        else:
            self._write({"id": self._count, **request})
        return inbox

    def drop(self, inbox: Inbox) -> None:
        """Want no more of a request: it stops at its next token, or never begins."""
        if self._inboxes.pop(inbox.number, None) is not None and not self.lost.done():
            self._write({"cancel": inbox.number})

    def kill(self) -> None:
        """End it now."""
        if self._process.returncode is None:
            self._process.kill()

    async def close(self) -> None:
        """Hang up, and see it off."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(LINGER_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
        await self._reading

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(message) + b"\n")

    async def _read(self) -> None:
        """Hand each message to its request, until the process ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if not line.endswith(b"\n"):
                break  # it died in the middle of a message
            self._heard(orjson.loads(line))
        self.lost.set_result(_why(self._model, await self._process.wait()))
        if not self._loaded.done():
            self._loaded.set_result({"lost": self.lost.result()})
        for inbox in self._inboxes.values():
            inbox.put(None)

    def _heard(self, message: dict[str, Any]) -> None:
        if "id" not in message:
            self._loaded.set_result(message)
        elif (inbox := self._inboxes.get(message["id"])) is not None:
            inbox.put(message)
            if not message.keys() & {"begun", "text"}:
                del self._inboxes[inbox.number]  # its last


def _module_path() -> list[str]:
    return [os.path.abspath(path) for path in sys.path]


def _why(model: str, code: int) -> str:
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return f"the process that ran {model} ended {how}; the next request loads the model again"
