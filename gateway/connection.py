"""A client's connection: how long it may take to say what it wants, and what it hears where that is no HTTP."""

from __future__ import annotations

import asyncio
import logging

import orjson
from aiohttp import web

from gateway.errors import openai_error_body

HEAD_S = 15.0
"""How long a new connection may take to send the head of its first request. Between requests the keep-alive timeout
ends it, whatever it has sent of the next head."""

logger = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """One of aiohttp's connections that waits for no one, and repeats and logs nothing of what it could not parse:
    a malformed header can hold a key."""

    __slots__ = ("_head_due",)

    head_s = HEAD_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_due = asyncio.get_running_loop().call_later(self.head_s, self._head_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_due.cancel()
        super().connection_lost(exc)

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
