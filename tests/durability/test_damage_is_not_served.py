"""A bit of the log turned over: whatever route leads to it, nobody is given what was not written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from eventstore import database, rows
from eventstore.envelope import RecordedEvent
from eventstore.sqlite import SQLiteLog
from gateway.api import requests
from gateway.api.events import Listener
from gateway.exchange import proven, recorded, render, sharing
from gateway.server import Server
from tests.cache.calls import CHAT, PRICED, Answer, Caller, serving
from tests.crash.load import openai_body, openai_stream
from tests.durability.flipped import flipped
from tests.gateway.scripted import Request, Script, ScriptedServer

KEYED = {"Idempotency-Key": "order-1"}
USE = {"x-abstractcore-cache": "use"}
INPUT = {"model": PRICED, "input": "Hop.", "stream": True}


class Trusting(Server):
    """The bug: what was recorded is believed."""

    class store(SQLiteLog):
        async def read_stream(self, stream: str, after: int = 0) -> list[RecordedEvent]:
            page = await self._fetch(rows.STREAM, {"stream": stream, "after": after, "limit": 1_000})
            return [RecordedEvent(*row) for row in page]


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> type[Server]:
    for module in (recorded, render, proven):
        monkeypatch.setattr(module, "check_bound", lambda *_: None)
    for module in (requests, sharing):
        monkeypatch.setattr(module, "check_bytes", lambda *_: None)
    return Trusting


@pytest.fixture(autouse=True)
def _the_damage_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start looks at the newest events alone."""
    monkeypatch.setattr(database, "TAIL_CHECKED", 1)


def answering(request: Request) -> Script:
    if request.json().get("stream"):
        return Script(openai_stream(words=20), content_type="text/event-stream")
    return Script.json(openai_body("The fox jumped."))


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script(CHAT, answering)
        yield server


def calls(upstream: ScriptedServer) -> list[Any]:
    """What was asked of the model."""
    return [request.json() for request in upstream.requests if request.method == "POST"]


async def asked(caller: Caller) -> dict[str, Answer]:
    """Answers of each kind, that can be asked for again."""
    return {
        "keyed": await caller.ask(headers=KEYED),
        "keyed_stream": await caller.ask(headers={"Idempotency-Key": "order-2"}, stream=True),
        "cached": await caller.ask(headers=USE, temperature=0),
        "response": await caller.post("/v1/responses", INPUT),
    }


async def given(caller: Caller, answers: dict[str, Answer]) -> dict[str, Answer]:
    """What the routes give of them."""
    keyed, response = answers["keyed"].request_id, answers["response"].request_id
    return {
        "stream": await caller.get(f"/v1/requests/{keyed}/stream"),
        "events": await caller.get(f"/v1/requests/{keyed}/events"),
        "keyed": await caller.ask(headers=KEYED),
        "keyed_stream": await caller.ask(headers={"Idempotency-Key": "order-2"}, stream=True),
        "cached": await caller.ask(headers=USE, temperature=0),
        "response": await caller.get(f"/v1/responses/resp_{response}"),
        "response_stream": await caller.get(f"/v1/responses/resp_{response}?stream=true"),
        "response_next": await caller.post("/v1/responses", {**INPUT, "previous_response_id": f"resp_{response}"}),
    }


async def after_flips(
    folder: Path, upstream: ScriptedServer, kind: type[Server], *flips: tuple[str, str, bytes, bytes]
) -> dict[str, Answer]:
    async with serving(folder, upstream) as (_, caller):
        answers = await asked(caller)
        assert {answer.status for answer in answers.values()} == {200}
        whole = await given(caller, answers)
        assert {answer.status for answer in whole.values()} == {200}
    for flip in flips:
        assert flipped(folder / "logs", *flip)
    made = len(calls(upstream))
    async with serving(folder, upstream, kind=kind) as (_, caller):
        found = await given(caller, answers)
    assert len(calls(upstream)) == made + 1  # the response that goes on from the damaged one, or the cache's
    return found


FRAMES = ("frames", "bytes", b"jumped", b"humped"), ("frames", "bytes", b"word7", b"word5")
ENDS = (
    ("ledger", "data", b'"tokens_output":3,', b'"tokens_output":1,'),
    ("ledger", "data", b'"tokens_output":20,', b'"tokens_output":10,'),
)
CASES = [pytest.param(FRAMES, id="frames"), pytest.param(ENDS, id="events")]


@pytest.mark.parametrize("flips", CASES)
async def test_what_is_damaged_is_given_by_no_route(folder: Path, upstream: ScriptedServer, flips: Any) -> None:
    found = await after_flips(folder, upstream, Server, *flips)
    cached = found.pop("cached")
    assert (cached.status, cached.headers["x-abstractcore-cache"]) == (200, "miss")
    assert b"jumped" in cached.body
    for route, answer in found.items():
        assert answer.status == 500, route
        assert answer.json["error"]["code"] == "log_damaged", route
        assert b"abstractcore-replay verify" in answer.body, route


@pytest.mark.parametrize("flips", CASES)
async def test_a_reader_that_believes_the_rows_gives_them(
    folder: Path, upstream: ScriptedServer, trusting: type[Server], flips: Any
) -> None:
    found = await after_flips(folder, upstream, trusting, *flips)
    assert {answer.status for answer in found.values()} == {200}
    if flips is FRAMES:
        assert b"humped" in found["keyed"].body
        assert found["keyed_stream"].body.count(b"word5") == 2


async def test_what_is_cached_in_place_of_the_damaged_is_found(folder: Path, upstream: ScriptedServer) -> None:
    """Its claims too may be what is damaged."""
    for flip in (FRAMES[0], ("ledger", "data", b'"kind":"cache"', b'"kind":"cachf"')):
        async with serving(folder, upstream) as (_, caller):
            await caller.ask(headers=USE, temperature=0)
        assert flipped(folder / "logs", *flip)
        made = len(calls(upstream))
        async with serving(folder, upstream) as (_, caller):
            found = [await caller.ask(headers=USE, temperature=0) for _ in range(2)]
            assert [answer.status for answer in found] == [200, 200]
            assert found[0].headers["x-abstractcore-cache"] == "miss"
        assert len(calls(upstream)) == made + (1 if flip is FRAMES[0] else 2)


async def test_what_was_refused_is_recorded_and_ends(folder: Path, upstream: ScriptedServer) -> None:
    async with serving(folder, upstream) as (_, caller):
        await caller.ask(headers=KEYED)
    assert flipped(folder / "logs", *FRAMES[0])
    async with serving(folder, upstream) as (served, caller):
        refused = await caller.ask(headers=KEYED)
        end = await served.end_of(refused.request_id)
        assert (end["type"], end["status"], end["error"]["code"]) == ("request_rejected", 500, "log_damaged")
        assert (await caller.ask(headers={"Idempotency-Key": "another"})).status == 200


async def talked(folder: Path, upstream: ScriptedServer, kind: type[Server]) -> tuple[Answer, Answer, Answer]:
    """A session's messages and its next turn, after what the model said in it has turned over."""
    async with serving(folder, upstream) as (_, caller):
        session = (await caller.post("/v1/sessions", {"model": PRICED})).json["id"]
        said = await caller.post(f"/v1/sessions/{session}/chat", {"messages": [{"role": "user", "content": "Pay 41."}]})
        assert said.status == 200
    assert flipped(folder / "logs", "ledger", "data", b"fox jumped", b"fox humped")
    async with serving(folder, upstream, kind=kind) as (_, caller):
        turn = {"messages": [{"role": "user", "content": "And then?"}]}
        return (
            await caller.get(f"/v1/sessions/{session}/messages"),
            await caller.post(f"/v1/sessions/{session}/chat", turn),
            await caller.post(f"/v1/sessions/{session}/chat", {**turn, "stream": True}),
        )


async def test_a_session_does_not_go_on_from_what_nobody_said(folder: Path, upstream: ScriptedServer) -> None:
    for answer in await talked(folder, upstream, Server):
        assert (answer.status, answer.json["error"]["code"]) == (500, "log_damaged")
    assert len(calls(upstream)) == 1


async def test_a_reader_that_believes_them_goes_on(
    folder: Path, upstream: ScriptedServer, trusting: type[Server]
) -> None:
    messages, *_ = await talked(folder, upstream, trusting)
    assert b"fox humped" in messages.body
    assert b"fox humped" in orjson.dumps(calls(upstream)[1])


async def test_messages_says_it_in_its_own_words(folder: Path, upstream: ScriptedServer) -> None:
    body = {"model": PRICED, "max_tokens": 9, "messages": [{"role": "user", "content": "Hop."}]}
    async with serving(folder, upstream) as (_, caller):
        assert (await caller.post("/v1/messages", body, KEYED)).status == 200
    assert flipped(folder / "logs", *FRAMES[0])
    async with serving(folder, upstream) as (_, caller):
        refused = await caller.post("/v1/messages", body, KEYED)
        assert (refused.status, refused.json["type"]) == (500, "error")
        assert "verify" in refused.json["error"]["message"]


async def heard(folder: Path, upstream: ScriptedServer, kind: type[Server]) -> bytes:
    """What somebody hears who wants the whole log, after an event in it has turned over."""
    async with serving(folder, upstream) as (_, caller):
        await caller.ask()
    assert flipped(folder / "logs", "ledger", "data", b"fox jumped", b"fox humped")
    async with (
        serving(folder, upstream, kind=kind) as (served, _),
        aiohttp.ClientSession() as client,
        client.get(f"{served.url}/v1/events/stream?after=0&content=1") as feed,
    ):
        found = b""
        while b"event: error" not in found and b"event: request_completed" not in found:
            found += await feed.content.readany()
        return found


async def test_the_feed_does_not_say_what_is_damaged(folder: Path, upstream: ScriptedServer) -> None:
    found = await heard(folder, upstream, Server)
    assert b"humped" not in found
    assert b"log_damaged" in found


async def test_a_feed_that_believes_the_rows_says_them(
    folder: Path, upstream: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Listener, "_check", lambda *_: None)
    assert b"humped" in await heard(folder, upstream, Server)
