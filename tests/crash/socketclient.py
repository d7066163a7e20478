"""A client of the WebSocket that keeps what it was told as the answer that it is a piece of."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson

from tests.crash.asks import SOCKET
from tests.gateway.raw import Received

DONE = b"data: [DONE]\n\n"


class SocketClient:
    """One socket, one generation. `received` has its tokens as the server-sent events that they stand for."""

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._session, self._socket = session, socket
        self.received = Received()

    @classmethod
    async def connect(cls, url: str) -> SocketClient:
        """Raises `ConnectionError` where nobody answers as a WebSocket would."""
        session = aiohttp.ClientSession()
        try:
            return cls(session, await session.ws_connect(url + SOCKET, max_msg_size=0))
        except aiohttp.ClientError as error:
            await session.close()
            raise ConnectionError(str(error)) from error

    async def send(self, asked: Any) -> None:
        """Ask for a generation: a chat completions body."""
        await self._socket.send_str(orjson.dumps({"type": "generate", "id": "a", "request": asked}).decode())

    async def answer(self) -> Received:
        """What comes until the generation has ended, or the socket is closed."""
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT or self._heard(orjson.loads(message.data)):
                break
        return self.received

    async def close(self) -> None:
        """Close the socket now."""
        await self._session.close()

    def _heard(self, said: dict[str, Any]) -> bool:
        """Whether that was the last message."""
        got = self.received
        if said["type"] == "accepted":
            got.status, got.headers = 200, {"x-request-id": said["request_id"]}
        elif said["type"] == "token":
            got.body += b"data: %b\n\n" % orjson.dumps(said["chunk"])
        elif said["type"] == "done":
            got.body, got.whole = got.body + DONE, True
        return got.whole or said["type"] == "error"
