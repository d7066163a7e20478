"""The failure matrix: each fault, by each policy, gives exactly these attempts, events, costs and bytes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from replay.cli import run as replay
from tests.clients.front import PLACES, Front, front, saying
from tests.gateway.scripted import Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIRST, SECOND = "openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5"
BODY: dict[str, Any] = {"model": FIRST, "messages": [{"role": "user", "content": "hi"}]}
CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
    b'"delta":{"content":"half"},"finish_reason":null}]}\n\n'
)
GOOD = saying("openai", "from the first")
OTHER = saying("anthropic", "from the second")


def refusing(status: int, **headers: str) -> Script:
    error = {"error": {"message": "no", "type": "server_error", "code": None}}
    return Script.json(error, status=status, headers=headers)


def ending(reason: str) -> Script:
    choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": reason}
    return Script.json({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})


@dataclass(frozen=True)
class Fault:
    """What the first provider does, and what may be done about it: `passes`: again; `elsewhere`: at another one."""

    script: Script
    kind: str
    status: int
    passes: bool = True
    elsewhere: bool = True


FAULTS = {
    "cut before the head": Fault(Script(cut=-1), "connection_lost", 502),
    "401": Fault(refusing(401), "upstream_error", 401, passes=False),
    "400": Fault(refusing(400), "upstream_error", 400, passes=False, elsewhere=False),
    "429": Fault(refusing(429, **{"retry-after": "0"}), "upstream_error", 429),
    "500": Fault(refusing(500), "upstream_error", 500),
    "529": Fault(refusing(529), "upstream_error", 529),
    "hang": Fault(replace(GOOD, delay_s=30), "first_byte_timeout", 504),
    "no room for it": Fault(ending("insufficient_system_resource"), "upstream_error", 503),
    "malformed": Fault(Script(b"<html>"), "bad_response", 502),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    args = ("--nats", "off", "--circuit", "off", "--first-byte-timeout", "2")  # enough for all but the one that hangs
    async with front(tmp_path_factory.mktemp("failures"), args=args) as started:
        yield started


async def asked(server: Front, **fields: Any) -> tuple[int, bytes, list[dict[str, Any]]]:
    """Status and bytes of the answer, and the request's events."""
    return await asked_at(server, "chat/completions", {**BODY, **fields})


async def asked_at(
    server: Front, path: str, sent: dict[str, Any], **headers: str
) -> tuple[int, bytes, list[dict[str, Any]]]:
    """The same in another protocol. The answer can be read again as it was."""
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(f"{server.url}/{path}", json=sent) as answer:
            body, request_id = await answer.read(), answer.headers["x-request-id"]
        async with session.get(f"{server.url}/requests/{request_id}/events") as answer:
            events = (await answer.json())["data"]
        async with session.get(f"{server.url}/requests/{request_id}/stream") as answer:
            assert await answer.read() == body
    return answer.status, body, [event for event in events if event["type"] != "token_generated"]


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events][3:]


@pytest.mark.parametrize("name", FAULTS)
async def test_without_a_policy_the_error_is_the_clients(server: Front, name: str) -> None:
    fault = FAULTS[name]
    server.answer("openai", fault.script)
    _, body, events = await asked(server)
    assert types(events) == ["generation_failed", "request_failed"]
    assert (events[3]["kind"], events[4]["status"]) == (fault.kind, fault.status)
    assert b"error" in body


@pytest.mark.parametrize("name", FAULTS)
async def test_a_retry_takes_what_passes(server: Front, name: str) -> None:
    fault = FAULTS[name]
    server.answer("openai", fault.script, GOOD)
    before = len(server.asked("openai"))
    _, body, events = await asked(server, retries=1)
    if not fault.passes:
        assert types(events) == ["generation_failed", "request_failed"]
        assert len(server.asked("openai")) == before + 1
        return
    assert types(events) == [
        "generation_failed", "retry_attempted", "generation_started", "generation_completed", "request_completed",
    ]  # fmt: skip
    assert b"from the first" in body
    first, second = server.asked("openai")[before:]
    assert first.body == second.body
    assert b"retries" not in second.body
    assert events[-1]["attempts"] == 2
    assert events[-1]["cost_usd"] == events[-2]["cost_usd"] > 0  # the failed one cost nothing


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fallback_takes_what_is_no_fault_of_the_request(server: Front, name: str) -> None:
    fault = FAULTS[name]
    server.answer("openai", fault.script)
    server.answer("anthropic", OTHER)
    _, body, events = await asked(server, fallback=[SECOND], max_tokens=9)
    if not fault.elsewhere:
        assert types(events) == ["generation_failed", "request_failed"]
        return
    assert types(events) == [
        "generation_failed", "fallback_selected", "generation_started", "generation_completed", "request_completed",
    ]  # fmt: skip
    assert b"from the second" in body
    assert [events[i]["provider"] for i in (3, 4, 5, 6, 7)] == ["openai", *["anthropic"] * 4]
    assert events[4]["inputs"]["kind"] == fault.kind
    assert events[-1]["cost_usd"] == events[-2]["cost_usd"] > 0


async def test_the_model_that_answered_instead_is_named_to_the_client(server: Front) -> None:
    server.answer("openai", refusing(500), GOOD)
    server.answer("anthropic", OTHER)
    async with aiohttp.ClientSession() as session:
        for policy, named in (({"fallback": [SECOND], "max_tokens": 9}, SECOND), ({}, None)):
            async with session.post(f"{server.url}/chat/completions", json={**BODY, **policy}) as answer:
                assert (answer.status, answer.headers.get("x-abstractcore-fallback")) == (200, named)


async def test_what_the_first_would_have_left_out_is_not_said_of_the_next(server: Front) -> None:
    """Anthropic has no seed; who answers instead has one."""
    error = {"type": "error", "error": {"type": "api_error", "message": "no"}}
    server.answer("anthropic", Script.json(error, status=500))
    server.answer("openai", GOOD)
    sent = {**BODY, "model": SECOND, "fallback": [FIRST], "seed": 7, "max_tokens": 9}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/chat/completions", json=sent) as answer,
    ):
        assert (answer.status, answer.headers["x-abstractcore-model"]) == (200, FIRST)
        assert "x-abstractcore-ignored" not in answer.headers


async def test_what_is_tried_in_vain_is_said_to_be_exhausted(server: Front) -> None:
    server.answer("openai", refusing(500))
    server.answer("anthropic", refusing(529))
    _, _, events = await asked(server, retries=1, fallback=[SECOND], max_tokens=9)
    assert types(events) == [
        "generation_failed", "retry_attempted", "generation_started",
        "generation_failed", "fallback_selected", "generation_started",
        "generation_failed", "retry_attempted", "generation_started",
        "generation_failed", "retry_exhausted", "request_failed",
    ]  # fmt: skip
    assert events[-1]["attempts"] == 4
    assert events[-2]["reason"] == "529"


async def test_models_that_cannot_take_it_are_skipped_and_named(server: Front) -> None:
    server.answer("openai", refusing(500))
    server.answer("anthropic", OTHER)
    _, _, events = await asked(server, fallback=["nobody/x", SECOND], max_tokens=9)
    fallen = next(event for event in events if event["type"] == "fallback_selected")
    assert (fallen["skipped"], fallen["provider"]) == ({"nobody/x": "model_not_found"}, "anthropic")


async def test_a_prompt_that_is_too_long_for_one_goes_to_the_next(server: Front) -> None:
    """Anthropic has a sentence for it and no code."""
    message = "prompt is too long: 208310 tokens > 200000 maximum"
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    server.answer("anthropic", Script.json(error, status=400))
    server.answer("openai", GOOD)
    _, body, events = await asked(server, model=SECOND, fallback=[FIRST], max_tokens=9)
    assert types(events)[:2] == ["generation_failed", "fallback_selected"]
    assert events[3]["code"] == "context_length_exceeded"
    assert b"from the first" in body


async def test_the_callers_key_is_for_the_provider_that_it_named(server: Front) -> None:
    server.answer("openai", refusing(401))
    server.answer("anthropic", OTHER)
    await asked(server, fallback=[SECOND], api_key="sk-callers-own", max_tokens=9)
    assert server.asked("openai")[-1].headers["authorization"] == "Bearer sk-callers-own"
    assert server.asked("anthropic")[-1].headers["x-api-key"] == "sk-anthropic"


async def test_after_the_first_byte_there_is_no_fallback(server: Front) -> None:
    server.answer("openai", Script(CHUNK, content_type="text/event-stream", framing="close"))
    server.answer("anthropic", OTHER)
    before = len(server.asked("anthropic"))
    _, body, events = await asked(server, retries=3, fallback=[SECOND], stream=True)
    assert types(events) == ["generation_failed", "request_failed"]
    assert b"half" in body
    assert b'"error"' in body
    assert b"[DONE]" not in body
    assert len(server.asked("anthropic")) == before


async def test_a_stream_that_broke_before_its_first_byte_goes_on_elsewhere(server: Front) -> None:
    server.answer("openai", Script(b"", content_type="text/event-stream", framing="close"))
    server.play("anthropic")
    _, body, events = await asked(server, fallback=[SECOND], stream=True, max_tokens=9)
    assert types(events)[:3] == ["generation_failed", "fallback_selected", "generation_started"]
    assert body.endswith(b"data: [DONE]\n\n")
    assert b'"error"' not in body


async def test_the_deadline_ends_it_all(server: Front) -> None:
    server.answer("openai", refusing(500))
    _, _, events = await asked(server, retries=10, deadline_s=1)
    assert events[-1]["type"] == "request_failed"
    assert 1 <= events[-1]["attempts"] < 10
    assert all(event["inputs"]["deadline_s"] == 1 for event in events if event["type"] == "retry_attempted")


async def test_the_deadline_ends_an_answer_that_has_begun_and_nothing_follows_it(server: Front) -> None:
    server.answer("openai", Script(CHUNK, content_type="text/event-stream", hold=True))
    before = len(server.asked("anthropic"))
    _, body, events = await asked(server, stream=True, fallback=[SECOND], deadline_s=2)
    assert types(events) == ["generation_failed", "request_failed"]
    assert events[3]["kind"] == "total_timeout"
    assert b"half" in body
    assert b'"error"' in body
    assert b"[DONE]" not in body
    assert len(server.asked("anthropic")) == before


@pytest.mark.parametrize("fields", [{"retries": "2"}, {"fallback": [""]}, {"deadline_s": 0}])
async def test_a_policy_that_is_none_is_refused(server: Front, fields: dict[str, Any]) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/chat/completions", json={**BODY, **fields}) as answer,
    ):
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, next(iter(fields)))


async def test_every_answer_renders_again(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out


async def test_a_provider_that_is_not_there(tmp_path_factory: pytest.TempPathFactory) -> None:
    """And a policy that is the server's."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        env = {PLACES["openai"].setting: f"http://127.0.0.1:{taken.getsockname()[1]}/v1"}
        args = ("--nats", "off", "--fallback", SECOND)
        async with front(tmp_path_factory.mktemp("refused"), args=args, env=env) as server:
            server.answer("anthropic", OTHER)
            _, body, events = await asked(server, max_tokens=9)
    assert b"from the second" in body
    assert (events[3]["kind"], events[4]["type"]) == ("connect_failed", "fallback_selected")
