"""Bodies that break off or cannot be read: refused and recorded, and no alarm in the server's own log."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from eventstore.envelope import RecordedEvent
from tests.gateway.raw import RawClient
from tests.gateway.scripted import ScriptedServer
from tests.gateway.whole import Gateway, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    data_dir = tmp_path_factory.mktemp("bodies") / "logs"
    async with ScriptedServer() as upstream, gateway(data_dir, upstream.base_url) as running:
        yield running


async def next_rejection(served: Gateway, after: int) -> RecordedEvent:
    async for head in served.server.log.follow(after):
        for row in await served.server.log.read(after, head - after, frames=False):
            if isinstance(row, RecordedEvent) and row.type == "request_rejected":
                return row
    raise EOFError


@pytest.mark.parametrize(
    "part",
    [b"content-length: 500\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"],
    ids=["length", "chunked"],
)
async def test_a_client_that_leaves_in_its_own_body(
    served: Gateway, part: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    before = await served.server.log.head()
    client = await RawClient.connect(served.url)
    await client.send(HEAD + part)
    client.leave()
    rejected = await next_rejection(served, before)
    assert (rejected.body["error"]["code"], rejected.body["fault_domain"]) == ("incomplete_body", "caller")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_a_compressed_body_is_not_even_unpacked(
    served: Gateway, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await RawClient.connect(served.url)
    await client.send(HEAD + f"content-encoding: {encoding}\r\ncontent-length: 5\r\n\r\n12345".encode())
    answer = await client.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (400, "unsupported_content_encoding")
    client.leave()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
