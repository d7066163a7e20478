"""Bytes that are no UTF-8, wherever a client can put them: refused or recorded as what they are not, never a 500."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.crash.load import openai_body
from tests.gateway.raw import RawClient
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, Gateway, chat, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, Script.json(openai_body()))
        async with gateway(tmp_path_factory.mktemp("bytes") / "logs", upstream.base_url) as running:
            yield running


async def test_a_header_that_is_only_recorded(served: Gateway) -> None:
    answer = await served.ask(chat(), user_agent="caf\xe9/1.0")
    assert answer.status == 200
    received = (await served.ended(answer.request_id))[0].body
    assert received["headers"]["user-agent"] == "caf\ufffd/1.0"


MEANING = [
    "idempotency-key",
    "x-abstractcore-cache",
    "x-abstractcore-max-cost-usd",
    "x-abstractcore-retention",
    "x-abstractcore-session-id",
    "x-abstractcore-tags",
]


@pytest.mark.parametrize("header", MEANING)
async def test_a_header_that_means_something(served: Gateway, header: str) -> None:
    answer = await served.ask(chat(), **{header: "a=\xff"})
    assert answer.status == 400
    assert (await served.end_of(answer.request_id))["type"] == "request_rejected"


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/requests/%ff",
        b"/v1/requests/%ed%a0%80/events",
        b"/v1/requests/x/stream?limit=%ff",
        b"/v1/requests?after=%ed%a0%80",
        b"/v1/models/%ff",
        b"/v1/models?provider=%ff&type=%ff",
        b"/v1/usage?group_by=%ff",
        b"/v1/usage?since=%ff",
        b"/v1/usage?after=%ed%a0%80",
        b"/v1/usage?min_position=%ff",
        b"/v1/events/stream?types=%ed%a0%80",
        b"/v1/events/stream?after=%ff",
        b"/v1/%ff",
        b"/%ed%a0%80?access_token=%ff",
        b"/v1/\xff",
        b"/v1/requests/\xff",
        b"/v1/requests/a%00b",
        b"/v1/requests/%0d%0aset-cookie:x",
    ],
)
async def test_a_path_or_a_query(served: Gateway, target: bytes) -> None:
    client = await RawClient.connect(served.url)
    await client.send(b"GET " + target + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
    answer = await client.answer()
    client.leave()
    assert 200 <= answer.status < 500, answer.body
    assert "set-cookie" not in answer.headers
    if answer.status >= 400:
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
