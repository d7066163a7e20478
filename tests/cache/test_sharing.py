"""One upstream call, one charge: Idempotency-Keys, the cache, and the same request many times at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from gateway.server import Server
from replay.cli import run as replay
from replay.verify import verified
from tests.cache.calls import CHAT, Answer, serving
from tests.crash.load import openai_body, openai_stream
from tests.gateway.scripted import Request, Script, ScriptedServer

KEYED = {"Idempotency-Key": "order-1"}
USE = {"x-abstractcore-cache": "use"}


def answering(request: Request) -> Script:
    """Another text at each call, so that a second call would be seen."""
    if request.json().get("stream"):
        return Script(openai_stream(words=20), content_type="text/event-stream", split=300, pace_s=0.002)
    return Script.json(openai_body(f"Answer {id(request)}."), delay_s=0.05)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script(CHAT, answering)
        yield server


async def test_a_retry_gets_the_very_bytes_of_the_first(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (served, caller):
        first = await caller.ask(headers=KEYED)
        retry = await caller.ask(headers=KEYED)
        assert (first.status, retry.status) == (200, 200)
        assert retry.body == first.body
        assert retry.headers["idempotent-replayed"] == "true"
        assert retry.headers["x-abstractcore-source"] == first.request_id != retry.request_id
        assert len(upstream.requests) == 1
        end = await served.end_of(retry.request_id)
        assert (end["type"], end["cost_usd"], end["attempts"]) == ("request_completed", 0, 0)
        assert await caller.again(retry.request_id) == retry.body
        usage = (await caller.get("/v1/usage")).json
        assert (usage["total"]["requests"], usage["total"]["attempts"]) == (1, 1)
    assert_sound(tmp_path)


@pytest.mark.parametrize("headers", [KEYED, USE], ids=["key", "cache"])
async def test_what_was_dropped_from_the_archive_is_asked_for_anew(
    tmp_path: Path, upstream: ScriptedServer, headers: dict[str, str]
) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        await caller.ask(headers=headers)
    here = ["--data-dir", str(tmp_path / "logs")]
    for command in (["archive", "--keep-days", "0"], ["rebuild"], ["archive", "--drop-before", str(1 << 60)]):
        assert await asyncio.to_thread(replay, [*command, *here], {}) == 0
    async with serving(tmp_path, upstream) as (_, caller):
        again = [await caller.ask(headers=headers) for _ in range(2)]
        assert [answer.status for answer in again] == [200, 200]
        assert again[0].json["choices"] == again[1].json["choices"]
    assert len(upstream.requests) == 2
    assert_sound(tmp_path)


async def test_the_same_key_with_another_body_is_refused(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        await caller.ask(headers=KEYED)
        other = await caller.ask(headers=KEYED, temperature=1)
        assert (other.status, other.json["error"]["code"]) == (422, "idempotency_key_reused")
        for wrong in (
            {"Idempotency-Key": " "},
            {"Idempotency-Key": "x" * 256},
            {**KEYED, "x-abstractcore-retention": "none"},
        ):
            assert (await caller.ask(headers=wrong)).status == 400
        assert len(upstream.requests) == 1


async def test_retries_of_a_running_stream_follow_it(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        first = await caller.begin(headers=KEYED, stream=True)
        await first.until(b"word1")
        retries = [await caller.begin(headers=KEYED, stream=True) for _ in range(5)]
        await asyncio.gather(first.rest(), *(retry.rest() for retry in retries))
        assert {retry.body for retry in retries} == {first.body}
        assert len(upstream.requests) == 1
        assert [await caller.again(retry.request_id) for retry in retries] == [first.body] * 5
    assert_sound(tmp_path)


async def test_an_answer_with_a_key_goes_on_when_its_client_leaves(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (served, caller):
        first = await caller.begin(headers=KEYED, stream=True)
        first.leave()
        retry = await caller.begin(headers=KEYED, stream=True)
        await retry.rest()
        assert b"word19" in retry.body
        assert (await served.end_of(first.request_id))["type"] == "request_completed"
        assert len(upstream.requests) == 1
    assert_sound(tmp_path)


async def test_a_failed_request_holds_no_key(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, Script.json({"error": {"message": "no"}}, status=500), answering)
    async with serving(tmp_path, upstream) as (_, caller):
        assert (await caller.ask(headers=KEYED)).status == 500
        assert (await caller.ask(headers=KEYED)).status == 200
        assert (await caller.ask(headers=KEYED)).headers["idempotent-replayed"] == "true"
        assert len(upstream.requests) == 2


async def test_a_key_of_a_failed_request_is_free_for_another(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, Script.json({"error": {"message": "no"}}, status=500), answering)
    async with serving(tmp_path, upstream) as (_, caller):
        assert (await caller.ask(headers=KEYED)).status == 500
        assert (await caller.ask(headers=KEYED, temperature=1)).status == 200
        assert (await caller.ask(headers=KEYED, temperature=1)).headers["idempotent-replayed"] == "true"
        assert (await caller.ask(headers=KEYED)).status == 422
        assert len(upstream.requests) == 2


async def test_a_key_survives_a_restart(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        first = await caller.ask(headers=KEYED)
    async with serving(tmp_path, upstream) as (_, caller):
        assert (await caller.ask(headers=KEYED)).body == first.body
    assert len(upstream.requests) == 1
    assert_sound(tmp_path)


async def at_once(
    tmp_path: Path, upstream: ScriptedServer, kind: type[Server], headers: dict[str, str], *args: str
) -> list[Answer]:
    async with serving(tmp_path, upstream, *args, kind=kind) as (_, caller):
        return await asyncio.gather(*(caller.ask(headers=headers) for _ in range(12)))


async def test_many_at_once_with_one_key_make_one_call(tmp_path: Path, upstream: ScriptedServer) -> None:
    answers = await at_once(tmp_path, upstream, Server, KEYED)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert len(upstream.requests) == 1
    assert_sound(tmp_path)


async def test_a_replay_is_no_miss_of_the_cache(tmp_path: Path, upstream: ScriptedServer) -> None:
    """Though it was about to be one when another was faster."""
    answers = await at_once(tmp_path, upstream, Server, KEYED, "--cache")
    told = [(one.headers.get("idempotent-replayed"), one.headers.get("x-abstractcore-cache")) for one in answers]
    assert told.count(("true", None)) == 11
    assert told.count((None, "miss")) == 1
    assert len(upstream.requests) == 1


async def test_identical_requests_at_once_share_a_call(tmp_path: Path, upstream: ScriptedServer) -> None:
    answers = await at_once(tmp_path, upstream, Server, USE)
    assert len({answer.json["choices"][0]["message"]["content"] for answer in answers}) == 1
    assert len({answer.json["id"] for answer in answers}) == 12
    assert sorted(answer.headers["x-abstractcore-cache"] for answer in answers) == ["miss"] + ["shared"] * 11
    assert len(upstream.requests) == 1
    assert_sound(tmp_path)


class Claimless(SQLiteLog):
    """The twin: does not mind at which version a claim finds its stream."""

    def append(self, *writes: StreamWrite, **how: Any) -> Any:
        return super().append(*map(_anywhere, writes), **how)


def _anywhere(write: StreamWrite) -> StreamWrite:
    claims = write.stream.startswith(("idempotency-", "cache-"))
    return StreamWrite(write.stream, ANY_VERSION, write.events) if claims else write


class Careless(Server):
    store = Claimless


@pytest.mark.parametrize("headers", [KEYED, USE], ids=["key", "cache"])
async def test_a_claim_that_is_not_atomic_is_noticed(
    tmp_path: Path, upstream: ScriptedServer, headers: dict[str, str]
) -> None:
    await at_once(tmp_path, upstream, Careless, headers)
    assert len(upstream.requests) > 1


async def test_a_hit_is_the_old_answer_under_its_own_name(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (served, caller):
        first = await caller.ask(headers=USE)
        hit = await caller.ask(headers=USE, user="somebody else")
        assert (first.headers["x-abstractcore-cache"], hit.headers["x-abstractcore-cache"]) == ("miss", "hit")
        assert hit.json["choices"] == first.json["choices"]
        assert hit.json["id"] != first.json["id"]
        events = await served.ended(hit.request_id)
        assert [event.type for event in events] == ["request_received", "cache_hit", "request_completed"]
        assert events[1].body["source"] == first.request_id
        assert events[1].body["saved_usd"] > 0 == events[2].body["cost_usd"]
        assert await caller.again(hit.request_id) == hit.body
        assert len(upstream.requests) == 1
    assert_sound(tmp_path)


async def test_a_key_stands_for_no_answer_of_the_cache(tmp_path: Path, upstream: ScriptedServer) -> None:
    """It would stand for a call, and there was none."""
    async with serving(tmp_path, upstream, "--cache") as (_, caller):
        first = await caller.ask()
        given = [await caller.ask(headers=KEYED) for _ in range(2)]
        assert [answer.headers["x-abstractcore-cache"] for answer in given] == ["hit", "hit"]
        assert all(answer.json["choices"] == first.json["choices"] for answer in given)
        renewed = [await caller.ask(headers={**KEYED, "x-abstractcore-cache": "refresh"}) for _ in range(2)]
        assert renewed[0].body == renewed[1].body
        assert len(upstream.requests) == 2
    assert_sound(tmp_path)


async def test_a_stream_and_a_whole_answer_are_the_same_entry(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        streamed = await caller.ask(headers=USE, stream=True)
        whole = await caller.ask(headers=USE)
        again = await caller.ask(headers=USE, stream=True, stream_options={"include_usage": True})
        assert [a.headers["x-abstractcore-cache"] for a in (streamed, whole, again)] == ["miss", "hit", "hit"]
        assert whole.json["choices"][0]["message"]["content"].endswith("word19")
        assert b"word19" in again.body
        assert b'"usage"' in again.body
        assert await caller.again(again.request_id) == again.body
        assert len(upstream.requests) == 1
    assert_sound(tmp_path)


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({"x-abstractcore-cache": "off"}, {}),
        ({"x-abstractcore-cache": "refresh"}, {}),
        ({**USE, "x-abstractcore-cache-max-age": "0"}, {}),
        ({**USE, "x-abstractcore-retention": "none"}, {}),
        (USE, {"max_tokens": 5}),
        ({}, {"temperature": 0.7}),
    ],
)
async def test_what_is_not_asked_for_is_not_given(
    tmp_path: Path, upstream: ScriptedServer, headers: dict[str, str], fields: dict[str, Any]
) -> None:
    async with serving(tmp_path, upstream, "--cache") as (_, caller):
        await caller.ask()
        assert (await caller.ask()).headers["x-abstractcore-cache"] == "hit"
        other = await caller.ask(headers=headers, **fields)
        assert other.status == 200
        assert len(upstream.requests) == 2


async def test_nothing_is_cached_unasked(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        await caller.ask()
        assert "x-abstractcore-cache" not in (await caller.ask()).headers
        assert len(upstream.requests) == 2
        for wrong in ({"x-abstractcore-cache": "yes"}, {**USE, "x-abstractcore-cache-max-age": "soon"}):
            assert (await caller.ask(headers=wrong)).status == 400


def assert_sound(tmp_path: Path) -> None:
    with Reader(tmp_path / "logs") as reader:
        assert verified(reader)["listed"] == []
