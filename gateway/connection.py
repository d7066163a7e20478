"""A client's connection: how long it may take to say what it wants, and to take what it is told; and what it hears
where that is no HTTP."""

from __future__ import annotations

import asyncio
import logging

import orjson
from aiohttp import web

from gateway.errors import openai_error_body

HEAD_S = 15.0
"""How long a new connection may take to send the head of its first request. Between requests the keep-alive timeout
ends it, whatever it has sent of the next head."""
STALLED_S = 30.0
"""After how many seconds in which it takes nothing of an answer a client has left."""

logger = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """One of aiohttp's connections that waits for no one, and repeats and logs nothing of what it could not parse:
    a malformed header can hold a key."""

    __slots__ = ("_head_due", "_look_due")

    head_s = HEAD_S
    stalled_s = STALLED_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_due = asyncio.get_running_loop().call_later(self.head_s, self._head_late)
        self._look_due: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_due.cancel()
        self._look_no_more()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client has more than asyncio's high-water mark before it: whether it takes any is looked at from now."""
        super().pause_writing()
        self._look_later()

    def resume_writing(self) -> None:
        self._look_no_more()
        super().resume_writing()

    def _look_later(self) -> None:
        before = self._left_over()
        self._look_due = asyncio.get_running_loop().call_later(self.stalled_s, self._look, before)

    def _look_no_more(self) -> None:
        if self._look_due is not None:
            self._look_due.cancel()
            self._look_due = None

    def _look(self, before: int | None) -> None:
        left = self._left_over()
        if self.transport is not None and before is not None and left is not None and left >= before:
            logger.debug("a client took nothing of its answer in %g s", self.stalled_s)
            self.transport.abort()
        else:
            self._look_later()

    def _left_over(self) -> int | None:
        """Bytes of an answer that the client has not taken; None while a handler still writes, which knows better."""
        if self.transport is None or self._current_request is not None:
            return None
        return self.transport.get_write_buffer_size()

    def _head_late(self) -> None:
        if not self._request_count:
            logger.debug("a connection sent no request in %g s", self.head_s)
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that are no HTTP request (400), or to a failure that no handler foresaw (500)."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer that has begun cannot become an error")
        logger.info("answering %d: %s", status, type(exc).__name__)
        response = web.Response(body=orjson.dumps(openai_error_body(_told(status))), content_type="application/json")
        response.set_status(status)
        response.force_close()
        return response


def _told(status: int) -> dict[str, str]:
    if status < 500:
        return {
            "message": "This is not a well-formed HTTP request.",
            "type": "invalid_request_error",
            "code": "malformed_request",
        }
    return {"message": "The server failed on this request.", "type": "server_error"}
