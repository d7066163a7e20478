"""The WebSocket: several generations at once, cancelled, detached, resumed from any byte, and told what was wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.crash.load import openai_body, openai_stream
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, Gateway, chat, gateway
from tests.streams.sockets import Client, socket, sse

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = "".join(f" word{n}" for n in range(6))
STREAM = openai_stream(words=6)
HALF = STREAM[: STREAM.index(b" word3")]
FIRST = STREAM[: STREAM.index(b"\n\n", STREAM.index(b" word2")) + 2]
"""Up to the third word."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(upstream: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("socket") / "logs", upstream.base_url) as running:
        yield running


async def stream_of(served: Gateway, request_id: str) -> bytes:
    """The answer again, as the log has it."""
    url = f"{served.url}/v1/requests/{request_id}/stream"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.read()


def chunks(messages: list[dict[str, Any]]) -> bytes:
    """The chunks of token messages as the server-sent events that they came from."""
    return b"".join(b"data: %b\n\n" % json.dumps(m["chunk"], separators=(",", ":")).encode() for m in messages)


async def test_a_generation_is_accepted_told_and_done(served: Gateway, upstream: ScriptedServer) -> None:
    upstream.script(COMPATIBLE, sse(STREAM, split=50))
    async with socket(served.url) as client:
        await client.generate("a", chat())
        done = await client.until("done")
    accepted = client.heard[0]
    assert (accepted["type"], accepted["id"], accepted["request_id"]) == ("accepted", "a", done["request_id"])
    assert client.text("a") == WORDS
    recorded = await stream_of(served, done["request_id"])
    assert chunks(client.of("a", "token")) + b"data: [DONE]\n\n" == recorded
    assert done["after"] == len(recorded)
    first = (await served.ended(done["request_id"]))[0]
    assert first.body["endpoint"] == "/v1/stream"
    assert accepted["position"] >= first.position


async def test_several_generations_share_a_socket(served: Gateway, upstream: ScriptedServer) -> None:
    names = [f"g{n}" for n in range(12)]
    upstream.script(COMPATIBLE, lambda asked: sse(openai_stream(words=asked.json()["max_tokens"]), split=200))
    async with socket(served.url) as client:
        for words, name in enumerate(names):
            await client.generate(name, chat(max_tokens=words + 1))
        ends = [await client.until("done") for _ in names]
    assert {end["id"] for end in ends} == set(names)
    assert len({end["request_id"] for end in ends}) == len(names)
    for words, name in enumerate(names):
        assert client.text(name) == "".join(f" word{n}" for n in range(words + 1))


async def test_a_cancelled_generation_ends_its_call_and_no_other(served: Gateway, upstream: ScriptedServer) -> None:
    upstream.requests.clear()
    upstream.script(COMPATIBLE, sse(FIRST, hold=True), sse(STREAM))
    async with socket(served.url) as client:
        await client.generate("held", chat())
        await client.until("token", id="held")
        await client.say(type="cancel", id="held")
        error = await client.until("error", id="held")
        await client.generate("held", chat())  # the id is free again
        done = await client.until("done", id="held")
    assert error["error"]["code"] == "cancelled"
    await upstream.requests[0].left.wait()
    end = await served.end_of(error["request_id"])
    assert (end["type"], end["reason"]) == ("request_cancelled", "cancelled")
    assert (await served.end_of(done["request_id"]))["type"] == "request_completed"


async def test_what_a_client_leaves_is_cancelled_and_what_it_detached_goes_on(
    served: Gateway, upstream: ScriptedServer
) -> None:
    upstream.script(
        COMPATIBLE,
        lambda asked: sse(FIRST, hold=True) if asked.json()["max_tokens"] == 1 else sse(STREAM, split=40, pace_s=0.01),
    )
    async with socket(served.url) as client:
        await client.generate("left", chat(max_tokens=1))
        left = await client.until("accepted", id="left")
        await client.generate("kept", chat(max_tokens=2), detach=True)
        kept = await client.until("accepted", id="kept")
    end = await served.end_of(left["request_id"])
    assert (end["type"], end["reason"]) == ("request_cancelled", "client_left")
    assert (await served.end_of(kept["request_id"]))["type"] == "request_completed"
    async with socket(served.url) as client:
        await client.say(type="resume", request_id=kept["request_id"])
        await client.until("done")
    assert client.text(kept["request_id"]) == WORDS


async def test_a_socket_that_broke_resumes_with_exactly_the_bytes_that_are_missing(
    served: Gateway, upstream: ScriptedServer
) -> None:
    """From every place that the server named, while the answer is made and after."""
    upstream.script(COMPATIBLE, sse(STREAM, split=60, pace_s=0.005))
    async with socket(served.url) as first:
        await first.generate("a", chat(), detach=True)
        await first.until("token")
        token = await first.until("token")
    request_id, seen = token["request_id"], chunks(first.of("a", "token"))
    async with socket(served.url) as second:
        await second.say(type="resume", id="b", request_id=request_id, after=token["after"])
        await second.until("done")
    recorded = await stream_of(served, request_id)
    missing = chunks(second.of("b", "token"))
    assert token["after"] == len(seen)
    assert seen + missing + b"data: [DONE]\n\n" == recorded
    places = [0, *(message["after"] for message in first.of("a", "token") + second.of("b", "token")), len(recorded)]
    async with socket(served.url) as third:
        for after in places:
            await third.say(type="resume", id=str(after), request_id=request_id, after=after)
        for _ in places:
            await third.until("done")
    for after in places:
        assert (chunks(third.of(str(after), "token")) + b"data: [DONE]\n\n").endswith(recorded[after:])
        assert len(chunks(third.of(str(after), "token"))) == max(len(recorded) - after - 14, 0)


async def test_a_generation_that_fails_says_why(served: Gateway, upstream: ScriptedServer) -> None:
    upstream.script(COMPATIBLE, Script.json({"error": {"message": "no"}}, status=418), sse(HALF, cut=len(HALF)))
    async with socket(served.url) as client:
        await client.generate("refused", chat())
        refused = await client.until("error", id="refused")
        await client.generate("cut", chat())
        cut = await client.until("error", id="cut")
        await client.say(type="resume", id="again", request_id=cut["request_id"])
        again = await client.until("error", id="again")
    assert refused["error"]["message"]
    assert (cut["error"], client.text("cut")) == (again["error"], client.text("again"))
    assert (await served.end_of(refused["request_id"]))["type"] == "request_failed"


async def test_a_whole_answer_comes_with_its_end(served: Gateway, upstream: ScriptedServer) -> None:
    upstream.script(COMPATIBLE, Script.json(openai_body()))
    async with socket(served.url) as client:
        await client.generate("a", chat(stream=False))
        done = await client.until("done")
        await client.say(type="resume", id="b", request_id=done["request_id"])
        await client.until("done", id="b")
    assert done["answer"]["choices"][0]["message"]["content"] == "All of it."
    assert client.text("b") == "All of it."


SHARING = [{"x-abstractcore-cache": "use"}, {"idempotency-key": "k"}]


@pytest.mark.parametrize("headers", SHARING)
async def test_an_answer_that_is_another_s_is_resumed_too(
    served: Gateway, upstream: ScriptedServer, headers: dict[str, str]
) -> None:
    upstream.script(COMPATIBLE, Script.json(openai_body()))
    first, second = [await served.ask(chat(), **headers) for _ in range(2)]
    assert second.headers["x-abstractcore-source"] == first.request_id
    async with socket(served.url) as client:
        await client.say(type="resume", id="a", request_id=second.request_id)
        done = await client.until("done")
        await client.say(type="resume", id="b", request_id=second.request_id, after=client.of("a", "token")[0]["after"])
        await client.until("done", id="b")
    assert client.text("a") == "All of it."
    assert client.of("b", "token")[-1]["after"] <= done["after"]
    assert len(client.of("b", "token")) == len(client.of("a", "token")) - 1


async def test_what_waits_for_a_file_is_cancelled_at_once(tmp_path: Any, upstream: ScriptedServer) -> None:
    upstream.requests.clear()
    upstream.script("GET /slow.png", Script(hold=True))
    env = {"ABSTRACTCORE_FILE_URL_ALLOWLIST": upstream.base_url.removeprefix("http://")}
    part = {"type": "image_url", "image_url": {"url": f"{upstream.base_url}/slow.png"}}
    async with gateway(tmp_path / "logs", upstream.base_url, env=env) as fetching, socket(fetching.url) as client:
        await client.generate("a", chat(messages=[{"role": "user", "content": [part]}]))
        async with asyncio.timeout(PATIENCE_S):
            while not upstream.requests:
                await asyncio.sleep(0.01)
            await client.say(type="cancel", id="a")
            error = await client.until("error")
            await upstream.requests[0].left.wait()
        end = await fetching.end_of(error["request_id"])
    assert error["error"]["code"] == "cancelled"
    assert (end["type"], end["reason"]) == ("request_cancelled", "cancelled")


WRONG: list[tuple[str | bytes, str | None]] = [
    ("", "invalid_json"),
    ("{", "invalid_json"),
    (b"\xff\xfe", "invalid_json"),
    ("[]", "invalid_json"),
    ('{"type": "dance"}', "unknown_message"),
    ('{"type": ["generate"]}', "unknown_message"),
    ('{"type": "generate", "id": "x"}', "missing_required_parameter"),
    ('{"type": "generate", "id": "x", "request": {}, "more": 1}', "unknown_parameter"),
    ('{"type": "generate", "id": 7, "request": {}}', "invalid_type"),
    ('{"type": "cancel", "id": "nobody"}', "unknown_id"),
    ('{"type": "resume", "request_id": "nobody"}', "request_not_found"),
    ('{"type": "resume", "request_id": "r", "after": -1}', "invalid_value"),
    ('{"type": "subscribe", "types": ["no_such_event"]}', None),
    ('{"type": "subscribe", "after": "nonsense"}', "invalid_cursor"),
    ('{"type": "generate", "id": "x", "request": {"model": 7}}', "missing_required_parameter"),
    ('{"type": "generate", "id": "x", "request": {"model": "no-such/m", "messages": []}}', "invalid_value"),
    ("[" * 5000 + "]" * 5000, "invalid_json"),
]


async def test_wrong_messages_are_answered_and_the_socket_stays(served: Gateway, upstream: ScriptedServer) -> None:
    upstream.script(COMPATIBLE, sse(STREAM))
    async with socket(served.url) as client:
        for message, code in WRONG:
            if isinstance(message, bytes):
                await client.socket.send_bytes(message)
            else:
                await client.socket.send_str(message)
            error = await client.until("error")
            assert error["error"]["code"] == code, (message[:80], error)
        await client.generate("x", chat())
        await client.until("done")


async def test_an_id_is_one_thing_at_a_time(served: Gateway, upstream: ScriptedServer) -> None:
    upstream.script(COMPATIBLE, sse(FIRST, hold=True))
    async with socket(served.url) as client:
        await client.generate("a", chat())
        await client.until("token")
        await client.generate("a", chat())
        assert (await client.until("error"))["error"]["code"] == "duplicate_id"


async def test_a_place_that_the_server_never_named_is_an_error(served: Gateway, upstream: ScriptedServer) -> None:
    upstream.script(COMPATIBLE, sse(STREAM))
    async with socket(served.url) as client:
        await client.generate("a", chat())
        done = await client.until("done")
        for after in (3, done["after"] + 1, 10**6):
            await client.say(type="resume", id="b", request_id=done["request_id"], after=after)
            error = await client.until("error")
            assert error["error"]["code"] == "invalid_position"
    assert client.of("b", "token") == []


async def test_events_come_beside_tokens(served: Gateway, upstream: ScriptedServer) -> None:
    upstream.script(COMPATIBLE, sse(STREAM))
    async with socket(served.url) as client:
        await client.say(type="subscribe", id="feed", types=["request_received", "request_completed"], after="0")
        before = await client.until("event")
        await client.generate("a", chat())
        end = (await client.until("done"))["request_id"]
        while (event := await client.until("event"))["event"]["request_id"] != end:
            pass
        while event["event"]["type"] != "request_completed":
            event = await client.until("event")
        await client.say(type="cancel", id="feed")
        await client.until("done", id="feed")
        await client.say(type="subscribe", id="rest", types=["request_received"], after=before["cursor"])
        again = await client.until("event", id="rest")
    assert before["event"]["type"] == "request_received"
    assert again["event"]["request_id"] != before["event"]["request_id"]
    assert "messages" not in json.dumps(client.of("feed"))  # no content that was not asked for


async def test_other_origins_and_those_without_a_key_do_not_get_in(tmp_path: Any, upstream: ScriptedServer) -> None:
    env = {"ABSTRACTCORE_API_KEY": "sk-of-this-server-only"}
    key = {"Authorization": "Bearer sk-of-this-server-only"}
    async with gateway(tmp_path / "logs", upstream.base_url, env=env) as keyed, aiohttp.ClientSession() as session:
        url = keyed.url + "/v1/stream"
        assert await refused(session, url) == 401
        assert await refused(session, url, headers={**key, "Origin": "https://elsewhere.example"}) == 403
        assert await refused(session, url + "?access_token=sk-of-this-server-only") == 401
        async with session.post(keyed.url + "/v1/tickets", headers=key) as answer:
            ticket = (await answer.json())["ticket"]
        own = {"Origin": keyed.url}
        async with session.ws_connect(f"{url}?access_token={ticket}", headers=own) as opened:
            client = Client(opened)
            await client.say(type="cancel", id="x")
            assert (await client.hear())["error"]["code"] == "unknown_id"
        assert await refused(session, f"{url}?access_token={ticket}", headers=own) == 401


async def refused(session: aiohttp.ClientSession, url: str, **options: Any) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await session.ws_connect(url, **options)
    return error.value.status


async def test_no_upgrade_is_no_stream(served: Gateway) -> None:
    async with aiohttp.ClientSession() as session, session.get(served.url + "/v1/stream") as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "upgrade_required"


async def test_a_server_that_stops_says_goodbye(tmp_path: Any, upstream: ScriptedServer) -> None:
    upstream.script(COMPATIBLE, sse(FIRST, hold=True))
    args = ("--drain-timeout", "0")
    async with aiohttp.ClientSession() as session:
        async with gateway(tmp_path / "logs", upstream.base_url, *args) as ending:
            opened = await session.ws_connect(ending.url + "/v1/stream")
            client = Client(opened)
            await client.generate("a", chat())
            await client.until("token")
        error = await client.until("error")
        assert error["error"]["code"] == "interrupted"
        goodbye = await opened.receive()
        assert (goodbye.type, goodbye.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.GOING_AWAY)
