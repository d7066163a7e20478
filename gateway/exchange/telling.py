"""What a client is told instead of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.exchange.calls import BROKEN
from gateway.exchange.failures import error_value
from gateway.exchange.render import JSON_HEADERS, dialect
from gateway.exchange.running import Running

STOPPING = {"message": "The server is stopping.", "type": "server_error", "param": None, "code": "stopping"}


def error_body(running: Running, status: int, error: Mapping[str, Any]) -> bytes:
    """An error instead of an answer, in its client's protocol."""
    submission = running.submission
    return dialect(submission.wire, submission.renderer).error_answer(status, error, submission.request_id)


async def tell_broken(running: Running) -> None:
    """Nobody may take what its client has for the whole."""
    if running.outlet.began:
        await running.outlet.abort()
        return
    status, error = error_value(BROKEN)
    running.outlet.answer(status, JSON_HEADERS, error_body(running, status, error))
