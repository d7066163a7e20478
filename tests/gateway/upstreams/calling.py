"""Calling an upstream as the exchange does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from gateway.upstreams.http import HttpClient, read_error_body
from gateway.upstreams.upstream import Provider, Upstream
from gateway.wire.values import Fold, UpstreamError
from tests.gateway.wire.reading import fold, read


@asynccontextmanager
async def http_client() -> AsyncIterator[HttpClient]:
    """The client of the hot path, closed at the end."""
    client = HttpClient("test")
    try:
        yield client
    finally:
        await client.close()


def provider(family: str, base_url: str) -> Provider:
    """A provider of the family, there."""
    return Provider(name=family, family=family, base_url=base_url)


async def answer(
    upstream: Upstream, base_url: str, body: Mapping[str, Any], api_key: str | None = None
) -> tuple[Fold, bool]:
    """The whole answer, and whether its decoder called it complete. Raises `UpstreamFailure`, `WireError`."""
    where = provider(upstream.family, base_url)
    call = upstream.encode(where, body["model"], body)
    opened = await upstream.open(where, call, api_key)
    try:
        assert opened.status == 200
        decoder = upstream.decoder(call.streamed)
        parts = []
        while part := await opened.read():
            parts.append(part)
        return fold(read(upstream.framer(call.streamed), decoder, parts)), decoder.complete
    finally:
        await opened.close()


async def refusal(upstream: Upstream, base_url: str, body: Mapping[str, Any]) -> UpstreamError:
    """What a non-2xx answer means."""
    where = provider(upstream.family, base_url)
    opened = await upstream.open(where, upstream.encode(where, body["model"], body), None)
    try:
        return upstream.error(opened.status, opened.headers, await read_error_body(opened))
    finally:
        await opened.close()
