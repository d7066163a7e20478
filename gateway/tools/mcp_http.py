"""What an MCP server may answer over HTTP, and how long it may take to say goodbye, which the library does not bound:
of answers, it bounds the events of a stream alone. Hooks of its client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

from gateway.tools.mcp_stdio import LONGEST_MESSAGE

STREAM = "text/event-stream"
GOODBYE_S = 2.0
"""How long a server may take to end a session: its client waits meanwhile, to end or to connect again."""


async def hurried(request: httpx2.Request) -> None:
    """Wait for the end of a session, but not for long."""
    if request.method == "DELETE":
        request.extensions["timeout"] = httpx2.Timeout(GOODBYE_S).as_dict()


async def bounded(response: httpx2.Response) -> None:
    """Let nobody read more of an answer than a message has, or unpack one: a little can become a lot. It
    runs before anything is read."""
    packed = response.headers.get("content-encoding", "identity").lower() != "identity"
    most = 0 if packed else None if response.headers.get("content-type", "").startswith(STREAM) else LONGEST_MESSAGE
    if most is not None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = Bounded(response.stream, most)


class Bounded(httpx2.AsyncByteStream):
    """A body of at most so many bytes. Raises `httpx2.StreamError` for more."""

    def __init__(self, body: httpx2.AsyncByteStream, most: int) -> None:
        self._body, self._left = body, most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            self._left -= len(chunk)
            if self._left < 0:
                raise httpx2.StreamError("The answer is too long, or packed.")
            yield chunk

    async def aclose(self) -> None:
        await self._body.aclose()
