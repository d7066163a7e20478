"""Calls by the hot path's client, and what comes of them."""

from __future__ import annotations

import asyncio

from gateway.upstreams.http1 import Pool
from gateway.upstreams.upstream import UpstreamFailure
from tests.gateway.upstreams.http1.raw_server import PATIENCE_S


async def ask(pool: Pool, url: str, body: bytes = b"{}") -> tuple[int, bytes]:
    """A whole call: status and body. Raises `UpstreamFailure`."""
    async with asyncio.timeout(PATIENCE_S):
        answer = await pool.post(url, {"x": "y"}, body)
        try:
            parts = []
            while part := await answer.read():
                parts.append(part)
        finally:
            await answer.close()
    return answer.status, b"".join(parts)


async def outcome(pool: Pool, url: str, body: bytes = b"{}") -> bytes | str:
    """The body of a whole call's answer, or the kind of its failure."""
    try:
        return (await ask(pool, url, body))[1]
    except UpstreamFailure as failed:
        return failed.kind
