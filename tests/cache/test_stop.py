"""Answers that end on purpose: somebody asked, or they had cost what they may. The log has the very frame."""

from __future__ import annotations

import asyncio
import base64
import io
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from eventstore.reader import Reader
from gateway.exchange.attempt import Attempt
from gateway.exchange.run import Exchanges
from gateway.exchange.running import Running
from gateway.exchange.submit import MOST_CAP
from gateway.server import Server
from replay.verify import verified
from tests.cache.calls import CHAT, PRICED, serving
from tests.crash.load import openai_body, openai_stream
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import PATIENCE_S, Gateway

WORDS = openai_stream(words=400, usage=False).split(b"\n\n")
ENDLESS = b"\n\n".join(WORDS[:401]) + b"\n\n"
"""It never says that it is done, however much of it comes at once."""


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


def held(words: int) -> Script:
    """So many words, and then silence."""
    body = b"\n\n".join(WORDS[: words + 1]) + b"\n\n"
    return Script(body, content_type="text/event-stream", hold=True)


async def test_a_picture_does_not_cost_what_its_bytes_would_as_text(tmp_path: Path, upstream: ScriptedServer) -> None:
    """A megabyte of base64 as text would have 350,000 tokens; a usual picture has a thousand."""
    noise = io.BytesIO()
    Image.frombytes("RGB", (600, 600), random.Random(1).randbytes(600 * 600 * 3)).save(noise, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(noise.getvalue()).decode()}"
    picture = {"type": "image_url", "image_url": {"url": url}}
    upstream.script(CHAT, held(5))
    async with serving(tmp_path, upstream) as (served, caller):
        messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]
        answer = await caller.begin(stream=True, messages=messages, max_cost_usd=0.001)
        await answer.until(b"word4")
        await caller.stop(answer.request_id)
        await answer.rest()
        assert 900 < (await served.generation(answer.request_id))["tokens_input"] < 1_500


async def test_a_stopped_answer_ends_at_a_frame_and_says_why(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, held(5))
    async with serving(tmp_path, upstream) as (served, caller):
        answer = await caller.begin(stream=True)
        await answer.until(b"word4")
        told = await caller.stop(answer.request_id, "seen enough")
        rest = await answer.rest()
        assert told["state"] == "cancelled"
        assert told["reason"] == "seen enough"
        assert b"seen enough" in rest
        assert answer.whole
        end = await served.end_of(answer.request_id)
        assert (end["type"], end["reason"], end["began"]) == ("request_cancelled", "seen enough", True)
        assert end["cost_usd"] > 0, "what came until then was used"
        generation = await served.generation(answer.request_id)
        assert generation["choices"][0]["message"]["content"].endswith("word4")
        assert generation["frames"] == 6
        assert await caller.again(answer.request_id) == answer.body
    assert_sound(tmp_path)


async def test_a_whole_answer_that_is_stopped_is_an_error(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, Script.json(openai_body(), delay_s=30))
    async with serving(tmp_path, upstream) as (served, caller):
        asking = asyncio.create_task(caller.ask())
        request_id = await running(served)
        assert (await caller.stop(request_id))["reason"] == "stopped"
        answer = await asking
        assert (answer.status, answer.json["error"]["code"]) == (499, "stopped")
        assert (await served.end_of(request_id))["cost_usd"] == 0
        again = await caller.post(f"/v1/requests/{request_id}/stop", {})
        assert again.status == 409
        assert (await caller.post("/v1/requests/none/stop", {})).status == 404
    assert_sound(tmp_path)


async def test_an_answer_ends_when_it_has_cost_what_it_may(tmp_path: Path, upstream: ScriptedServer) -> None:
    await capped(tmp_path, upstream, Server)


EARLY = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}}\n\n'
CALLS = b"\n\n".join(
    b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}}]})
    for call in [{"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]
    + [{"function": {"arguments": f" word{number}"}} for number in range(400)]
)


@pytest.mark.parametrize(
    "body",
    [EARLY + ENDLESS, ENDLESS.replace(b'"content": " word', b'"reasoning": " word'), CALLS + b"\n\n"],
    ids=["a count was sent before the answer", "thoughts", "calls"],
)
async def test_whatever_comes_is_counted(tmp_path: Path, upstream: ScriptedServer, body: bytes) -> None:
    upstream.script(CHAT, Script(body, content_type="text/event-stream", split=400, hold=True))
    async with serving(tmp_path, upstream) as (served, caller), asyncio.timeout(PATIENCE_S):
        answer = await caller.begin(stream=True, max_cost_usd=0.0001)
        await answer.rest()
        assert (await served.end_of(answer.request_id))["reason"] == "cost_cap"
    assert_sound(tmp_path)


async def capped(tmp_path: Path, upstream: ScriptedServer, kind: type[Server]) -> None:
    upstream.script(CHAT, Script(ENDLESS, content_type="text/event-stream", split=400, hold=True))
    async with serving(tmp_path, upstream, kind=kind) as (served, caller):
        answer = await caller.begin(stream=True, max_cost_usd=0.0001)
        await answer.rest()
        end = await served.end_of(answer.request_id)
        assert end["reason"] == "cost_cap"
        assert b'"cost_cap"' in answer.body
        assert end["cost_usd"] > 0.0001, "the upstream holds the answer open: nothing else ends it"
        assert "max_cost_usd" not in upstream.requests[0].json()
        assert await caller.again(answer.request_id) == answer.body
    assert_sound(tmp_path)


async def test_so_where_thoughts_and_words_come_at_once(tmp_path: Path, upstream: ScriptedServer) -> None:
    words = ENDLESS[: len(ENDLESS) // 4].rpartition(b"\n\n")[0] + b"\n\n"
    thoughts = words.replace(b'"content": " word', b'"reasoning": " word')
    upstream.script(CHAT, Script(thoughts + words, content_type="text/event-stream", hold=True))
    async with serving(tmp_path, upstream) as (served, caller):
        answer = await caller.begin(stream=True, max_cost_usd=0.0001)
        await answer.rest()
        assert (await served.end_of(answer.request_id))["reason"] == "cost_cap"
        assert await caller.again(answer.request_id) == answer.body
    assert_sound(tmp_path)


async def test_a_cap_that_cannot_be_held_is_refused_before_any_call(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with serving(tmp_path, upstream) as (_, caller):
        unpriced = await caller.ask(model="openai/nobody-knows-its-price", max_cost_usd=1)
        assert (unpriced.status, unpriced.json["error"]["code"]) == (400, "no_price")
        elsewhere = await caller.ask(base_url=f"{upstream.base_url}/v1", max_cost_usd=1)  # at a price of its own
        assert (elsewhere.status, elsewhere.json["error"]["code"]) == (400, "no_price")
        little = await caller.ask(headers={"x-abstractcore-max-cost-usd": "0.0000001"})
        assert (little.status, little.json["error"]["code"]) == (402, "cost_cap")
        for wrong in ("much", "-1", "nan", "1e400"):
            refused = await caller.ask(headers={"x-abstractcore-max-cost-usd": wrong})
            assert (refused.status, refused.json["error"]["param"]) == (400, "max_cost_usd")
        for inner, outer in ((1, "0.0000001"), (0.0000001, "1")):
            capped = await caller.ask(max_cost_usd=inner, headers={"x-abstractcore-max-cost-usd": outer})
            assert capped.status == 402, "a proxy's cap is none if the body can raise it"
        for wrong_value in (True, -1, MOST_CAP + 1):
            refused = await caller.ask(max_cost_usd=wrong_value)
            assert (refused.status, refused.json["error"]["param"]) == (400, "max_cost_usd")
        assert upstream.requests == []


async def test_a_whole_answer_ends_when_it_has_cost_what_it_may(tmp_path: Path, upstream: ScriptedServer) -> None:
    """It is streamed to the server: else nobody could know before its end."""
    upstream.script(CHAT, Script(ENDLESS, content_type="text/event-stream", split=400, hold=True))
    async with serving(tmp_path, upstream) as (served, caller):
        answer = await caller.ask(max_cost_usd=0.0001)
        assert (answer.status, answer.json["error"]["code"]) == (402, "cost_cap")
        end = await served.end_of(answer.request_id)
        assert (end["reason"], end["began"]) == ("cost_cap", False)
        assert end["cost_usd"] > 0.0001
        assert await caller.again(answer.request_id) == answer.body
    assert_sound(tmp_path)


async def test_a_whole_answer_under_its_cap_is_whole(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, Script(openai_stream(words=3), content_type="text/event-stream"))
    async with serving(tmp_path, upstream) as (served, caller):
        answer = await caller.ask(max_cost_usd=1)
        assert answer.json["choices"][0]["message"]["content"] == " word0 word1 word2"
        assert answer.json["choices"][0]["finish_reason"] == "stop"
        assert answer.json["usage"]["total_tokens"] == 10
        assert (await served.end_of(answer.request_id))["cost_usd"] > 0
        assert await caller.again(answer.request_id) == answer.body
    assert_sound(tmp_path)


async def test_attempts_share_one_cap(tmp_path: Path, upstream: ScriptedServer) -> None:
    """An answer that is no JSON has cost what the request may: it is not asked for again."""
    usage = {"prompt_tokens": 7, "completion_tokens": 400, "total_tokens": 407}
    reply = Script(openai_stream(words=3, usage=False).replace(b"[DONE]", orjson.dumps({"choices": [], "usage": usage}))
                   + b"data: [DONE]\n\n", content_type="text/event-stream")  # fmt: skip
    upstream.script(CHAT, reply)
    model = {"prompt": "Who?", "response_model": {"name": {"type": "string"}}}
    async with serving(tmp_path, upstream) as (served, caller):
        answer = await caller.post("/v1/generate/structured", {"model": PRICED, "max_cost_usd": 0.0001, **model})
        assert (answer.status, answer.json["error"]["code"]) == (402, "cost_cap")
        assert len(upstream.requests) == 1
        assert (await served.end_of(answer.request_id))["reason"] == "cost_cap"
    assert_sound(tmp_path)


LONG = [{"role": "user", "content": "word " * 4000}]
"""A prompt of about 0.00075 USD."""
SHORT = Script(openai_stream(words=5, usage=False), content_type="text/event-stream")
CUT = replace(SHORT, cut=len(SHORT.body) - 20, framing="close")


RETRIED = {"retries": 1, "continuation": "resume", "messages": LONG}


@pytest.mark.parametrize(
    ("path", "first", "more"),
    [
        ("chat/completions", CUT, RETRIED),
        ("chat/completions", CUT, {**RETRIED, "stream": True}),
        ("generate/structured", SHORT, {"messages": LONG, "response_model": {"name": {"type": "string"}}}),
    ],
    ids=["retry", "streamed", "correction"],
)
async def test_nobody_is_called_whose_prompt_costs_more_than_is_left(
    tmp_path: Path, upstream: ScriptedServer, path: str, first: Script, more: dict[str, Any]
) -> None:
    upstream.script(CHAT, first, SHORT)
    async with serving(tmp_path, upstream) as (served, caller):
        answer = await caller.post(f"/v1/{path}", {"model": PRICED, "max_cost_usd": 0.0008, **more})
        end = await served.end_of(answer.request_id)
        assert (end["type"], end["reason"], b'"cost_cap"' in answer.body) == ("request_cancelled", "cost_cap", True)
        assert len(upstream.requests) == 1
        assert 0.0007 < end["cost_usd"] <= 0.0008
        assert await caller.again(answer.request_id) == answer.body
    assert_sound(tmp_path)


@pytest.mark.parametrize(("most", "calls"), [(0.0008, 1), (0.002, 2)])
async def test_no_second_call_is_made_beside_a_slow_one_where_both_prompts_cost_too_much(
    tmp_path: Path, upstream: ScriptedServer, most: float, calls: int
) -> None:
    slow = replace(SHORT, once=lambda: len(upstream.requests) == 2 or calls == 1, delay_s=0.3)
    upstream.script(CHAT, slow, SHORT)
    async with serving(tmp_path, upstream) as (served, caller):
        answer = await caller.ask(messages=LONG, max_cost_usd=most, hedge={"after_ms": 50, "model": PRICED})
        assert (answer.status, len(upstream.requests)) == (200, calls)
        assert (await served.end_of(answer.request_id))["cost_usd"] <= most
    assert_sound(tmp_path)


BUSY = Script.json({"error": {"message": "busy"}}, status=503)
BROKEN = Script(b"\n\n".join(WORDS[:301]) + b"\n\n", content_type="text/event-stream", framing="close")
"""It costs about 0.0003 USD."""


@pytest.mark.parametrize(
    ("first", "left", "skipped"),
    [
        (BUSY, "openai-compatible/m", "no_price"),
        (BUSY, "openai/o1-pro", "cost_cap"),
        (BUSY, "openai/gpt-4-turbo", None),
        (BROKEN, "openai/gpt-4-turbo", "cost_cap"),  # more than is left
    ],
)
async def test_a_cap_holds_for_those_that_are_fallen_back_on(
    tmp_path: Path, upstream: ScriptedServer, first: Script, left: str, skipped: str | None
) -> None:
    upstream.script(CHAT, first, Script(openai_stream(words=3), content_type="text/event-stream"))
    async with serving(tmp_path, upstream) as (served, caller):
        answer = await caller.ask(max_cost_usd=0.0005, fallback=[left, "openai/gpt-4.1-nano"])
        events = await served.ended(answer.request_id)
        fallen = next(event.body for event in events if event.type == "fallback_selected")
        assert fallen.get("skipped") == (None if skipped is None else {left: skipped})
        assert (answer.status, len(upstream.requests)) == (200, 2)
        assert fallen["model"] == ("gpt-4.1-nano" if skipped else "gpt-4-turbo")
        assert 0 < events[-1].body["cost_usd"] <= 0.0005
    assert_sound(tmp_path)


async def test_a_later_attempt_ends_at_what_the_first_has_left(tmp_path: Path, upstream: ScriptedServer) -> None:
    upstream.script(CHAT, BROKEN, Script(ENDLESS, content_type="text/event-stream", split=400, hold=True))
    async with serving(tmp_path, upstream) as (served, caller), asyncio.timeout(PATIENCE_S):
        answer = await caller.ask(max_cost_usd=0.0005, fallback=["openai/gpt-4.1-nano"])
        assert (answer.status, answer.json["error"]["code"], len(upstream.requests)) == (402, "cost_cap", 2)
        assert (await served.end_of(answer.request_id))["cost_usd"] > 0.0005, "neither has cost that alone"
    assert_sound(tmp_path)


async def running(served: Gateway) -> str:
    """The id of the request whose upstream is called now."""
    while True:
        for one in served.server.exchanges.open:
            if one.waiting and one.exchange.version:
                return one.submission.request_id
        await asyncio.sleep(0.01)


def assert_sound(tmp_path: Path) -> None:
    with Reader(tmp_path / "logs") as reader:
        assert verified(reader)["listed"] == []


class Uncounted(Exchanges):
    """The twin: forgets what an answer may cost."""

    def _begun(self, running: Running, *call: Any) -> Attempt:
        running.submission = replace(running.submission, most_cost=None)
        return super()._begun(running, *call)


class Careless(Server):
    runs = Uncounted


async def test_a_cap_that_nobody_holds_is_noticed(tmp_path: Path, upstream: ScriptedServer) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await capped(tmp_path, upstream, Careless)
