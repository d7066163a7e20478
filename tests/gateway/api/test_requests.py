"""One request, looked at afterwards: its state, its events, and its client's bytes again. On the whole server, since
the bytes must be those that a client really got."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.config import Settings
from gateway.server import Server
from tests.gateway.serving import new_id, serving
from tests.projections.stories import answered, received, rejected, started

PROMPT = 'the quick brown fox\nsaid "data: [DONE]", twice 🎉'


@asynccontextmanager
async def whole_server(data_dir: Path) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    server = Server(Settings(port=0, data_dir=data_dir, nats="off", durability="process"))
    await server.start()
    try:
        async with aiohttp.ClientSession() as client:
            yield server.url, client
    finally:
        await server.stop()


async def ask(client: aiohttp.ClientSession, url: str, **fields: Any) -> tuple[str, int, bytes]:
    """A chat completion: its id, status and raw bytes."""
    body = {"model": "demo/echo", "messages": [{"role": "user", "content": PROMPT}], **fields}
    async with client.post(url + "/v1/chat/completions", json=body) as answer:
        return answer.headers["x-request-id"], answer.status, await answer.read()


KINDS: list[dict[str, Any]] = [
    {"stream": True},
    {"stream": True, "stream_options": {"include_usage": True}},
    {},
    {"model": "demo/nothing"},
    {"model": "nobody/nothing"},
    {"messages": None},
]


async def test_a_client_can_read_its_bytes_again_and_everything_that_led_to_them(tmp_path: Path) -> None:
    async with whole_server(tmp_path) as (url, client):
        for fields in KINDS:
            request_id, status, body = await ask(client, url, **fields)
            async with client.get(f"{url}/v1/requests/{request_id}/stream") as again:
                assert (again.status, await again.read()) == (status, body)
                assert (again.content_type == "text/event-stream") == (fields.get("stream") is True)
            async with client.get(f"{url}/v1/requests/{request_id}") as shown:
                row = await shown.json()
                assert (row["id"], row["status"], "stale" in row) == (request_id, status, False)
            async with client.get(f"{url}/v1/requests/{request_id}/events") as shown:
                events = (await shown.json())["data"]
                assert {event["request_id"] for event in events} == {request_id}
                assert events[-1]["type"] == f"request_{row['state']}"


async def test_tokens_stand_between_the_events_in_the_order_of_the_log(tmp_path: Path) -> None:
    async with whole_server(tmp_path) as (url, client):
        request_id, _, _ = await ask(client, url, stream=True)
        async with client.get(f"{url}/v1/requests/{request_id}/events") as shown:
            events = (await shown.json())["data"]
    types = [event["type"] for event in events]
    first, last = types.index("token_generated"), len(types) - types[::-1].index("token_generated")
    assert types[:first] == ["request_received", "route_selected", "generation_started"]
    assert set(types[first:last]) == {"token_generated"}
    assert types[last:] == ["generation_completed", "request_completed"]
    assert "".join(event.get("text", "") for event in events) == PROMPT
    assert [event["frame"] for event in events[first:last]] == list(range(1, last - first + 1))


async def test_pages_of_events_join_to_the_whole(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        request_id = new_id()
        await served.add(*answered(request_id))
        path = f"/v1/requests/{request_id}/events"
        _, whole, _ = await served.get(path)
        assert (len(whole["data"]), "next" in whole) == (5, False)
        joined, after = [], ""
        while True:
            _, page, _ = await served.get(f"{path}?limit=2&after={after}")
            joined += page["data"]
            if "next" not in page:
                break
            after = page["next"]
        assert joined == whole["data"]


async def test_events_are_shown_exactly_as_they_are_recorded(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        request_id = new_id()
        await served.add(*answered(request_id))
        recorded = await served.log.read_stream(f"request-{request_id}")
        async with served.client.get(f"{served.url}/v1/requests/{request_id}/events") as answer:
            text = await answer.read()
        assert b",".join(event.data for event in recorded) in text


async def test_the_list_is_newest_first_and_goes_on_after_an_id(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ids = [new_id() for _ in range(5)]
        for request_id in ids:
            await served.add(*answered(request_id))
        _, body, _ = await served.get("/v1/requests?limit=2")
        assert [row["id"] for row in body["data"]] == [ids[4], ids[3]]
        _, body, _ = await served.get(f"/v1/requests?after={ids[3]}")
        assert [row["id"] for row in body["data"]] == [ids[2], ids[1], ids[0]]
        assert (await served.get("/v1/requests?after=nobody"))[0] == 400


async def test_a_running_request_has_a_state_and_no_last_byte_yet(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        request_id = new_id()
        await served.add(received(request_id), started(request_id))
        assert (await served.get(f"/v1/requests/{request_id}"))[1]["state"] == "running"
        status, body, headers = await served.get(f"/v1/requests/{request_id}/stream")
        assert (status, body["error"]["code"], headers["Retry-After"]) == (409, "conflict", "1")


async def test_what_was_not_retained_cannot_be_shown_and_says_why(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        request_id = new_id()
        await served.add(*answered(request_id, retention="none", body=None))
        status, body, _ = await served.get(f"/v1/requests/{request_id}/stream")
        assert (status, body["error"]["code"]) == (404, "not_renderable")
        assert "retained" in body["error"]["message"]


async def test_a_rejection_is_a_request_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        request_id = new_id()
        await served.add(rejected(request_id))
        status, body, _ = await served.get(f"/v1/requests/{request_id}/stream")
        assert (status, body["error"]["code"]) == (404, "model_not_found")
        assert (await served.get(f"/v1/requests/{request_id}"))[1]["state"] == "rejected"


@pytest.mark.parametrize("suffix", ["", "/events", "/stream"])
@pytest.mark.parametrize("name", ["nobody", "..%2f..%2fetc%2fpasswd", "%00", "x" * 500, "'%20OR%201=1--"])
async def test_an_unknown_id_is_404(tmp_path: Path, name: str, suffix: str) -> None:
    async with serving(tmp_path) as served:
        status, body, _ = await served.get(f"/v1/requests/{name}{suffix}")
        assert (status, body["error"]["code"]) == (404, "request_not_found")


async def test_a_report_that_lags_does_not_deny_a_request(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.get("/v1/requests")
        served.follower.held = True
        await served.add(*answered(request_id := new_id()))
        assert (await served.get(f"/v1/requests/{request_id}"))[0] == 503
        assert (await served.get("/v1/requests"))[1]["stale"] is True


async def test_a_list_of_some_requests_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ours, others = new_id(), new_id()
        await served.add(*answered(others), *answered(ours, session_id="s-1", key="key-1"), rejected(new_id()))
        for query in ("session_id=s-1", "key=key-1", "session_id=s-1&state=completed&provider=ollama"):
            _, body, _ = await served.get(f"/v1/requests?{query}")
            assert [row["id"] for row in body["data"]] == [ours]
        assert (await served.get("/v1/requests?state=running"))[1]["data"] == []
        assert [row["state"] for row in (await served.get("/v1/requests?state=rejected"))[1]["data"]] == ["rejected"]
        status, body, _ = await served.get("/v1/requests?state=broken")
        assert (status, body["error"]["param"]) == (400, "state")
