"""How a tool on this machine asks a running server to do what only the owner of the log may do.

A Unix socket in the data directory, mode 0600. One JSON object on a line in, one JSON object on a line out, then the
server closes:

    {"command": "rebuild", "projection": "usage"}  ->  {"ok": true, …}  or  {"ok": false, "error": "what is wrong"}
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

FILE = "control.sock"
LINE_LIMIT = 65_536
"""Bytes of one request."""
REQUEST_WITHIN_S = 10.0
SHORT_PATH = 100
"""A Unix socket's path may have 104 bytes on macOS and 108 on Linux."""

Handler = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Does one request; what it returns is the answer, without `ok`. Raises `ControlError` to refuse."""


class ControlError(Exception):
    """The request was refused or could not be done; the message is for the person who asked."""


class NotRunning(Exception):
    """No server listens on this data directory's socket."""


class ControlServer:
    """Answers on `<data_dir>/control.sock`. Its owner holds the lock of the data directory, so an old socket file there
    is nobody's, and is replaced."""

    def __init__(self, data_dir: Path, handle: Handler) -> None:
        self._path = data_dir / FILE
        self._handle = handle
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises `OSError`."""
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _address(self._path) as address:
            listening.bind(address)
        self._path.chmod(0o600)  # before it listens: nobody gets in earlier
        self._server = await asyncio.start_unix_server(self._answer, sock=listening, limit=LINE_LIMIT)

    async def stop(self) -> None:
        """Listen no more, and take the socket away."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_WITHIN_S):
                line = await reader.readline()
            writer.write(orjson.dumps(await self._done(line), option=orjson.OPT_APPEND_NEWLINE))
            await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass  # the asker left, said nothing, or never ended its line
        finally:
            writer.close()

    async def _done(self, line: bytes) -> Mapping[str, Any]:
        try:
            request = orjson.loads(line)
        except orjson.JSONDecodeError:
            return {"ok": False, "error": "the request is not JSON"}
        if not isinstance(request, dict):
            return {"ok": False, "error": "the request is not a JSON object"}
        try:
            return {"ok": True, **await self._handle(request)}
        except ControlError as error:
            return {"ok": False, "error": str(error)}


def ask(data_dir: Path, request: Mapping[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
    """The running server's answer, without `ok`. Blocks. Raises `NotRunning`, `ControlError`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with _address(data_dir / FILE) as address:
                connection.connect(address)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunning(f"no server is running on {data_dir}") from error
        try:
            connection.sendall(orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE))
            line = connection.makefile("rb").readline()  # of a long archive it says much
        except OSError as error:
            raise ControlError(f"the server did not answer: {error}") from error
    return _understood(line)


def _understood(line: bytes) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise ControlError("the server ended before it answered")
    answer: dict[str, Any] = orjson.loads(line)
    if not answer.pop("ok"):
        raise ControlError(answer["error"])
    return answer


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """The socket's path, by way of an open directory where it is too long for the system."""
    if len(os.fsencode(path)) <= SHORT_PATH or not Path("/proc/self/fd").exists():
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
