"""Answers given again: one upstream call, one charge, and the log says from where each came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventstore.reader import Reader
from gateway.cache.answers import AnswerCache
from gateway.exchange.outlet import Outlet
from gateway.server import Server
from replay.verify import verified
from tests.cache.calls import CHAT, Answer, Caller, serving
from tests.crash.load import openai_body, openai_stream
from tests.gateway.scripted import Script, ScriptedServer

STREAMED = Script(openai_stream(words=20), content_type="text/event-stream")
WHOLE = Script.json(openai_body())
USE, REFRESH, OFF = ({"x-abstractcore-cache": mode} for mode in ("use", "refresh", "off"))


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


def told(answer: Answer) -> str | None:
    return answer.headers.get("x-abstractcore-cache")


def text(answer: Answer) -> str:
    """What the model said, streamed or not."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        said: str = answer.json["choices"][0]["message"]["content"]
        return said
    events = [line[6:] for line in answer.body.split(b"\n\n") if line.startswith(b"data: {")]
    deltas = [choice["delta"] for event in events for choice in orjson.loads(event)["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


async def types(served: Any, request_id: str) -> list[str]:
    return [event.type for event in await served.ended(request_id)]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
async def test_an_answer_is_given_again_in_the_form_that_is_asked(
    tmp_path: Path, upstream: ScriptedServer, first: bool, second: bool
) -> None:
    upstream.script(CHAT, STREAMED if first else WHOLE)
    async with serving(tmp_path, upstream) as (served, caller):
        old = await caller.ask(headers=USE, stream=first)
        new = await caller.ask(headers=USE, stream=second)
        assert (told(old), told(new)) == ("miss", "hit")
        assert text(new) == text(old) != ""
        assert new.request_id != old.request_id
        assert new.request_id.encode() in new.body, "its own id"
        assert len(upstream.requests) == 1
        assert await types(served, new.request_id) == ["request_received", "cache_hit", "request_completed"]
        hit, end = (await served.ended(new.request_id))[1:]
        assert (hit.body["source"], end.body["cost_usd"], end.body["attempts"]) == (old.request_id, 0, 0)
        assert (await served.end_of(old.request_id))["cost_usd"] > 0
        assert await caller.again(new.request_id) == new.body
        assert (await caller.get(f"/v1/requests/{new.request_id}/events")).status == 200
        usage = (await caller.get("/v1/usage")).json
        assert usage["total"]["attempts"] == 1, "one charge"
    assert verified(Reader(tmp_path / "logs"))["listed"] == []


async def test_it_is_off_unless_asked(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, WHOLE)
    async with serving(tmp_path, upstream) as (_, caller):
        assert [told(await caller.ask()) for _ in range(2)] == [None, None]
        assert len(upstream.requests) == 2


async def test_it_can_be_on_for_all(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, WHOLE)
    async with serving(tmp_path, upstream, "--cache") as (_, caller):
        assert [told(await caller.ask()) for _ in range(2)] == ["miss", "hit"]
        assert told(await caller.ask(headers=OFF)) is None
        assert len(upstream.requests) == 2


async def test_it_survives_a_restart(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, WHOLE)
    async with serving(tmp_path, upstream) as (_, caller):
        await caller.ask(headers=USE)
    async with serving(tmp_path, upstream) as (_, caller):
        assert told(await caller.ask(headers=USE)) == "hit"
    assert len(upstream.requests) == 1


async def test_a_refreshed_answer_stands_instead_of_the_old(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, WHOLE)
    async with serving(tmp_path, upstream) as (served, caller):
        await caller.ask(headers=USE)
        newer = await caller.ask(headers=REFRESH)
        hit = await caller.ask(headers=USE)
        assert (await served.ended(hit.request_id))[1].body["source"] == newer.request_id
        assert told(await caller.ask(headers={**USE, "x-abstractcore-cache-max-age": "0"})) == "miss"


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.5},
        {"messages": [{"role": "user", "content": "Tell me more."}]},
        {"model": "openai/gpt-4o"},
        {"seed": 1},
    ],
)
async def test_another_question_gets_another_answer(
    tmp_path: Path, upstream: ScriptedServer, fields: dict[str, Any]
) -> None:
    upstream.script(CHAT, WHOLE)
    async with serving(tmp_path, upstream) as (_, caller):
        await caller.ask(headers=USE)
        assert told(await caller.ask(headers=USE, **fields)) == "miss"


async def test_who_else_asks_makes_no_difference_to_the_words(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, WHOLE)
    async with serving(tmp_path, upstream) as (_, caller):
        await caller.ask(headers=USE, user="one", metadata={"a": "b"})
        assert told(await caller.ask(headers=USE, user="two")) == "hit"


async def test_what_failed_is_not_kept(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, Script.json({"error": {"message": "no"}}, status=500), WHOLE)
    async with serving(tmp_path, upstream) as (_, caller):
        assert (await caller.ask(headers=USE)).status >= 500
        assert told(await caller.ask(headers=USE)) == "miss"
        assert told(await caller.ask(headers=USE)) == "hit"


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"session_id": "session-of-mine"}, {}),
        ({}, {"x-abstractcore-retention": "none"}),
        ({"api_key": "sk-of-the-caller"}, {}),
    ],
)
async def test_what_is_not_kept(
    tmp_path: Path, upstream: ScriptedServer, fields: dict[str, Any], headers: dict[str, str]
) -> None:
    upstream.script(CHAT, WHOLE)
    async with serving(tmp_path, upstream) as (_, caller):
        for _ in range(2):
            answer = await caller.ask(headers={**USE, **headers}, **fields)
            assert (answer.status, told(answer)) == (200, None)
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("headers", [{"x-abstractcore-cache": "yes"}, {"x-abstractcore-cache-max-age": "-1"}])
async def test_a_wrong_header_is_refused(tmp_path: Path, upstream: ScriptedServer, headers: dict[str, str]) -> None:
    async with serving(tmp_path, upstream) as (served, caller):
        answer = await caller.ask(headers=headers)
        assert (answer.status, answer.json["error"]["param"]) == (400, next(iter(headers)))
        assert await types(served, answer.request_id) == ["request_received", "request_rejected"]


async def asked_at_once(caller: Caller, upstream: ScriptedServer) -> list[Answer]:
    """The same question eight times at once, of an upstream that takes its time."""
    upstream.script(CHAT, Script.json(openai_body(), delay_s=0.2))
    return await asyncio.gather(*(caller.ask(headers=USE) for _ in range(8)))


async def test_those_who_ask_at_once_share_one_call(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        answers = await asked_at_once(caller, upstream)
        assert sorted(str(told(answer)) for answer in answers) == ["hit"] * 7 + ["miss"]
        assert len(upstream.requests) == 1
        assert len({text(answer) for answer in answers}) == 1


class Heedless(AnswerCache):
    """Looks whether there is an answer, and not whether somebody is getting one."""

    async def _claimed(self, key: str, outlet: Outlet) -> asyncio.Event:
        over = asyncio.Event()
        self._asking.setdefault(key, over)
        return over

    def _over(self, key: str, over: asyncio.Event) -> None:
        self._asking.pop(key, None)


class HeedlessServer(Server):
    answers = Heedless


async def test_without_the_claim_each_would_call(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream, kind=HeedlessServer) as (_, caller):
        await asked_at_once(caller, upstream)
        assert len(upstream.requests) > 1


async def test_those_who_wait_ask_themselves_where_the_first_fails(tmp_path: Path, upstream: ScriptedServer) -> None:
    failing = Script.json({"error": {"message": "no"}}, status=500, delay_s=0.2)
    upstream.script(CHAT, failing, WHOLE)
    async with serving(tmp_path, upstream) as (_, caller):
        answers = await asyncio.gather(*(caller.ask(headers=USE) for _ in range(3)))
        assert sorted(answer.status >= 500 for answer in answers) == [False, False, True]
        assert len(upstream.requests) == 2
