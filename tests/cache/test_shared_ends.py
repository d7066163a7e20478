"""However an answer ends that several requests have, each of them is told, and each can be rendered again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eventstore.reader import Reader
from eventstore.sqlite import wall_clock_us
from gateway.api.unattended import Unattended
from gateway.auth import ANONYMOUS
from gateway.edge import new_id
from gateway.exchange.claims import UNASKED, places
from gateway.exchange.run import Exchanges
from gateway.exchange.sharing import Sharing
from gateway.exchange.submit import Caller as Asker
from gateway.exchange.submit import submit
from gateway.server import Server
from gateway.wire import dialects
from replay.verify import verified
from tests.cache.calls import CHAT, PRICED, Answer, Caller, Coming, serving
from tests.crash.load import openai_body, openai_stream
from tests.gateway.scripted import Request, Script, ScriptedServer
from tests.gateway.whole import chat

PATH = "/v1/chat/completions"
KEYED = {"Idempotency-Key": "order-1"}
USE = {"x-abstractcore-cache": "use"}
BODY = openai_stream(words=20)
HALF = BODY[: BODY.index(b"word9")]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script(CHAT, Script(HALF, content_type="text/event-stream", hold=True))
        yield server


async def two(caller: Caller, headers: dict[str, str]) -> tuple[Coming, Coming]:
    """One that calls, and one that is given its answer; both have heard something."""
    first = await caller.begin(headers=headers, stream=True)
    await first.until(b"word1")
    second = await caller.begin(headers=headers, stream=True)
    await second.until(b"word1")
    return first, second


@pytest.mark.parametrize("headers", [KEYED, USE], ids=["key", "cache"])
async def test_an_answer_that_is_stopped_ends_for_all(
    tmp_path: Path, upstream: ScriptedServer, headers: dict[str, str]
) -> None:
    async with serving(tmp_path, upstream) as (served, caller):
        first, second = await two(caller, headers)
        ended = await caller.stop(first.request_id, "enough")
        await asyncio.gather(first.rest(), second.rest())
        end = await served.end_of(second.request_id)
        assert (end["type"], end["reason"], end["cost_usd"]) == ("request_cancelled", "enough", 0)
        assert ended["cost_usd"] > 0, "only the first is charged"
        assert all(b"enough" in answer.body for answer in (first, second))
        assert [await caller.again(one.request_id) for one in (first, second)] == [first.body, second.body]
        assert len(upstream.requests) == 1
    assert_sound(tmp_path)


@pytest.mark.parametrize(("mine", "calls"), [({}, 2), ({"max_cost_usd": 0.0001}, 1), ({"max_cost_usd": 5}, 2)])
async def test_a_cap_ends_no_answer_of_somebody_who_set_another(
    tmp_path: Path, upstream: ScriptedServer, mine: dict[str, Any], calls: int
) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        first = await caller.begin(headers=USE, stream=True, max_cost_usd=0.0001)
        await first.until(b"word1")
        second = await caller.begin(headers=USE, stream=True, **mine)
        await second.until(b"word1")
        assert len(upstream.requests) == calls
        for one in (first, second)[:calls]:
            await caller.stop(one.request_id)


async def test_who_is_given_an_answer_cannot_stop_it(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        first, second = await two(caller, KEYED)
        refused = await caller.post(f"/v1/requests/{second.request_id}/stop", {})
        assert (refused.status, refused.json["error"]["code"]) == (409, "answer_shared")
        assert first.request_id in refused.json["error"]["message"]
        await caller.stop(first.request_id)
        await asyncio.gather(first.rest(), second.rest())
    assert_sound(tmp_path)


async def test_a_start_after_a_crash_need_not_read_the_whole_log(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (served, caller):
        first, second = await two(caller, KEYED)
        began = {one.submission.request_id: one.position for one in served.server.exchanges.open}
        assert 0 < began[first.request_id] < began[second.request_id], "what the low-water mark is made from"
        await caller.stop(first.request_id)
        await asyncio.gather(first.rest(), second.rest())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"model": PRICED, "input": "Tell me.", "background": True}),
        ("/v1/generate/multi", {"models": [PRICED, PRICED], "prompt": "Tell me."}),
    ],
)
async def test_a_key_that_would_not_hold_is_refused(
    tmp_path: Path, upstream: ScriptedServer, path: str, body: dict[str, Any]
) -> None:
    async with serving(tmp_path, upstream) as (served, caller):
        refused = await caller.post(path, body, KEYED)
        assert (refused.status, refused.json["error"]["param"]) == (400, "Idempotency-Key")
        assert (await served.end_of(refused.request_id))["type"] == "request_rejected"
        assert not [asked for asked in upstream.requests if asked.method == "POST"]


def assert_sound(tmp_path: Path) -> None:
    with Reader(tmp_path / "logs") as reader:
        assert verified(reader)["listed"] == []


async def test_the_answer_of_a_model_that_stood_in_is_not_kept(tmp_path: Path, upstream: ScriptedServer) -> None:
    sick = [Script.json({"error": {"message": "no"}}, status=500)]

    def answers(asked: Request) -> Script:
        model = asked.json()["model"]
        return sick.pop() if sick and model == "gpt-4o-mini" else Script.json(openai_body(f"I am {model}"))

    upstream.script(CHAT, answers)
    async with serving(tmp_path, upstream) as (_, caller):
        got = [await caller.ask(headers=USE, fallback=["openai/gpt-4o"]) for _ in range(3)]
        said = [one.json["choices"][0]["message"]["content"] for one in got]
        assert said == ["I am gpt-4o", "I am gpt-4o-mini", "I am gpt-4o-mini"]
        assert [one.headers["x-abstractcore-cache"] for one in got] == ["miss", "miss", "hit"]
    assert_sound(tmp_path)


class Unforeseen(Exchanges):
    """The deliberate bug: what follows an attempt cannot be judged."""

    def _judged(self, *attempt: Any) -> Any:
        raise RuntimeError("nobody foresaw this")


class Breaking(Server):
    runs = Unforeseen


def is_error(got: object) -> bool:
    """What a client gets whose answer had not begun."""
    return isinstance(got, Answer) and got.status in (500, 503)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_source_that_fails_in_a_way_that_nobody_foresaw_keeps_nobody_waiting(
    tmp_path: Path, upstream: ScriptedServer, stream: bool
) -> None:
    streamed = Script(BODY, content_type="text/event-stream", pace_s=0.02, split=600)
    whole = streamed if stream else Script.json(openai_body())
    async with serving(tmp_path, upstream, kind=Breaking) as (served, caller):
        exchanges = served.server.exchanges
        upstream.script(CHAT, replace(whole, once=lambda: len(exchanges.open) == 2))
        first = asyncio.create_task(caller.ask(headers=KEYED, stream=stream))
        while not upstream.requests:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(caller.ask(headers=KEYED, stream=stream))
        got = await asyncio.gather(first, second, return_exceptions=True)
        listed = (await caller.get("/v1/requests")).json["data"]
        assert len(listed) == 2
        for one in listed:
            end = await served.end_of(one["id"])
            assert end["type"] == "request_interrupted"
            assert end["reason"] in ("internal_error", "source_ended")
        assert len(upstream.requests) == 1
        if stream:
            assert all(isinstance(one, aiohttp.ClientPayloadError) or is_error(one) for one in got), (
                "no answer that could pass for whole"
            )
        else:
            assert sorted(one.status for one in got if isinstance(one, Answer)) == [500, 503]
        assert not exchanges.open
    assert_sound(tmp_path)


class Torn(Unattended):
    """A client towards whom our own code fails."""

    async def release(self, data: bytes) -> None:
        raise RuntimeError("nobody foresaw this")

    async def abort(self) -> None:
        self.aborted = True

    began = True
    aborted = False


async def test_who_is_given_an_answer_has_its_end_whatever_fails(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, Script(BODY, content_type="text/event-stream"))
    async with serving(tmp_path, upstream) as (served, caller):
        first = await caller.ask(headers=KEYED, stream=True)
        server, outlet, body = served.server, Torn(), chat(PRICED, stream=True)
        asker = Asker(new_id(wall_clock_us()), PATH, ANONYMOUS, None, {})
        asked = submit(asker, body, json.dumps(body).encode(), server.desk.rules, dialects.CHAT, body)
        where = places(asked, {"idempotency-key": "order-1"}, UNASKED, PATH)
        await Sharing(server.exchanges, server.log, wall_clock_us, time.monotonic).run(asked, outlet, where)
        _, attached, *_ = await served.ended(asked.request_id)
        assert attached.body["source"] == first.request_id
        end = await served.end_of(asked.request_id)
        assert (end["type"], end["reason"]) == ("request_interrupted", "internal_error")
        assert outlet.aborted
    assert_sound(tmp_path)


async def test_an_error_is_no_second_answer_of_a_client_that_was_pinged(
    tmp_path: Path, upstream: ScriptedServer
) -> None:
    """Its stream had begun while the error was being recorded that the first client got as an answer."""
    answered: list[int] = []

    class Pinged(Torn):
        def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            answered.append(status)

    async with serving(tmp_path, upstream) as (served, caller):
        server, outlet, body = served.server, Pinged(), chat(PRICED, stream=True)
        fails = Script.json({"error": {"message": "no"}}, status=500)
        upstream.script(CHAT, replace(fails, once=lambda: len(server.exchanges.open) == 2))
        first = asyncio.create_task(caller.post(PATH, body, KEYED))
        while not upstream.requests:
            await asyncio.sleep(0.01)
        asker = Asker(new_id(wall_clock_us()), PATH, ANONYMOUS, None, {})
        asked = submit(asker, body, json.dumps(body).encode(), server.desk.rules, dialects.CHAT, body)
        where = places(asked, {"idempotency-key": "order-1"}, UNASKED, PATH)
        await Sharing(server.exchanges, server.log, wall_clock_us, time.monotonic).run(asked, outlet, where)
        assert ((await first).status, answered, outlet.aborted) == (500, [], True)
        assert (await served.end_of(asked.request_id))["type"] == "request_failed"
    assert_sound(tmp_path)


async def test_a_refresh_that_fails_leaves_what_was_there(tmp_path: Path, upstream: ScriptedServer) -> None:
    fails = Script.json({"error": {"message": "no"}}, status=418)
    upstream.script(CHAT, Script.json(openai_body()), fails, fails)
    async with serving(tmp_path, upstream) as (_, caller):
        first = await caller.ask(headers=USE)
        for _ in range(2):
            failed = await caller.ask(headers={"x-abstractcore-cache": "refresh"})
            assert failed.status == 418
        again = await caller.ask(headers=USE)
        assert (again.status, again.headers["x-abstractcore-cache"]) == (200, "hit")
        assert again.headers["x-abstractcore-source"] == first.request_id
    assert_sound(tmp_path)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("headers", [KEYED, USE], ids=["key", "cache"])
async def test_all_who_fail_together_hear_when_to_try_again(
    tmp_path: Path, upstream: ScriptedServer, headers: dict[str, str], stream: bool
) -> None:
    said = {"retry-after": "7", "x-ratelimit-limit-requests": "60"}
    async with serving(tmp_path, upstream) as (served, caller):
        exchanges = served.server.exchanges
        busy = Script.json({"error": {"message": "Slower."}}, status=429, headers=said)
        upstream.script(CHAT, replace(busy, once=lambda: len(exchanges.open) == 2))
        first = asyncio.create_task(caller.ask(headers=headers, stream=stream))
        while not upstream.requests:
            await asyncio.sleep(0.01)
        answers = [await caller.ask(headers=headers, stream=stream), await first]
        assert len(upstream.requests) == 1
        for answer in answers:
            assert answer.status == 429
            assert answer.headers.items() >= said.items()
            assert (await served.end_of(answer.request_id))["headers"] == said
    assert_sound(tmp_path)
