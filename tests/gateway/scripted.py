"""An upstream on a real socket that plays scripts: whole or cut, in any pieces, late, with any status; and remembers.

    async with ScriptedServer() as upstream:
        upstream.script("POST /v1/messages", Script.file("anthropic/text.sse"), Script(b"{}", status=529))
        ...                             # call upstream.base_url
        upstream.requests[0].json()     # what it was asked
        upstream.requests[0].sent       # how many bytes of the answer it gave

It is HTTP/1.1 written by hand, because a client library's server would neither cut nor split where it is told to.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

SCRIPTS = Path(__file__).parent / "scripts"
CONTENT_TYPES = {".sse": "text/event-stream", ".ndjson": "application/x-ndjson", ".json": "application/json"}


@dataclass(frozen=True)
class Script:
    """One answer.

    `split`: the body is written in pieces of so many bytes, each sent on its own; None writes it at once.
    `cut`: the connection breaks after so many bytes of the body; with 0 right after the head, with -1 before it.
    `framing`: how the end of the body is told: `chunked` and `length` make a cut visible, `close` does not.
    `hold`: after the body the answer stays open until the client leaves.
    `delay_s`: before the head; `pace_s`: between the pieces.
    `once`: the head waits until this holds.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    split: int | None = None
    cut: int | None = None
    framing: str = "chunked"
    hold: bool = False
    delay_s: float = 0.0
    pace_s: float = 0.0
    once: Callable[[], bool] = lambda: True

    @classmethod
    def file(cls, name: str, **changes: Any) -> Script:
        """An answer in the format of a family, `<family>/<case>.<sse|ndjson|json>`."""
        path = SCRIPTS / name
        return replace(cls(path.read_bytes(), content_type=CONTENT_TYPES[path.suffix]), **changes)

    @classmethod
    def json(cls, value: Any, **changes: Any) -> Script:
        """A value as JSON."""
        return replace(cls(json.dumps(value).encode()), **changes)

    def pieces(self) -> Iterator[bytes]:
        """The body as it is written, up to the cut."""
        body = self.body if self.cut is None else self.body[: max(self.cut, 0)]
        size = self.split or len(body) or 1
        return (body[at : at + size] for at in range(0, len(body), size))


@dataclass
class Request:
    """What a client sent, and how far it was answered. `sent` counts bytes of the body; `left` is set when the client
    closed the connection while its answer was held or being written."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    script: Script
    sent: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def json(self) -> Any:
        """The body as a value."""
        return json.loads(self.body)


Answer = Script | Callable[[Request], Script]
_NOTHING = Script.json({"error": {"type": "not_found_error", "message": "the script has no such route"}}, status=404)


class ScriptedServer:
    """Listens on a free loopback port. Each route plays its scripts in order and repeats the last one."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.base_url = ""
        self._routes: dict[str, list[Answer]] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def script(self, route: str, *answers: Answer) -> None:
        """What `METHOD /path` answers from now on: a script, or a function from the request to one."""
        self._routes[route] = list(answers)

    async def __aenter__(self) -> ScriptedServer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client is gone; `left` says so where an answer was under way
        except asyncio.CancelledError:
            pass  # the server closes
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection goes on."""
        request = await self._read(reader)
        script = request.script
        await asyncio.sleep(script.delay_s)
        while not script.once():
            await asyncio.sleep(0.005)
        if script.cut is not None and script.cut < 0:
            return False
        try:
            await _Writing(request, script, reader, writer).run()
        except ConnectionError:
            request.left.set()
            raise
        return script.cut is None and script.framing != "close" and not script.hold

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        url = urlsplit(target)
        request = Request(method, url.path, parse_qs(url.query), headers, body, _NOTHING)
        request.script = self._next(request)
        self.requests.append(request)
        return request

    def _next(self, request: Request) -> Script:
        answers = self._routes.get(f"{request.method} {request.path}")
        if not answers:
            return _NOTHING
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer if isinstance(answer, Script) else answer(request)


class _Writing:
    """One answer on its way."""

    def __init__(
        self, request: Request, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._request, self._script, self._reader, self._writer = request, script, reader, writer

    async def run(self) -> None:
        script = self._script
        self._writer.write(self._head())
        await self._writer.drain()
        for piece in script.pieces():
            await self._piece(piece)
        if script.hold:
            await self._until_left()
        elif script.cut is None and script.framing == "chunked":
            self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        if script.cut is not None or script.framing == "close":
            await self._close()

    def _head(self) -> bytes:
        script = self._script
        framing = {
            "chunked": {"transfer-encoding": "chunked"},
            "length": {"content-length": str(len(script.body))},
            "close": {"connection": "close"},
        }[script.framing]
        headers = {"content-type": script.content_type, **framing, **script.headers}
        lines = [f"HTTP/1.1 {script.status} Scripted", *(f"{k}: {v}" for k, v in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def _piece(self, piece: bytes) -> None:
        chunked = self._script.framing == "chunked"
        self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        await self._writer.drain()
        self._request.sent += len(piece)
        await asyncio.sleep(self._script.pace_s)

    async def _until_left(self) -> None:
        try:
            await self._reader.read(1)
        except ConnectionError:
            pass  # a reset says the same as an end
        self._request.left.set()

    async def _close(self) -> None:
        """What was written arrives, then the connection ends: an abort could take it away."""
        self._writer.close()
        await self._writer.wait_closed()
