"""A server's key goes to its own provider only, and is cut out of whatever that provider repeats, in any order of
callers."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange.plan import Plan
from gateway.exchange.run import Exchanges
from gateway.server import Server
from tests.gateway.scripted import Request, Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, chat, gateway

OURS = "sk-ours-canary-0123456789"
THEIRS = "sk-theirs-canary-0123456789"


def repeating(request: Request) -> Script:
    """An upstream that says the credential it was sent."""
    said = f"You are {request.headers.get('authorization', 'nobody')}."
    chunk = {"choices": [{"index": 0, "delta": {"content": said}, "finish_reason": "stop"}]}
    return Script(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), content_type="text/event-stream")


async def test_a_key_is_cut_out_after_calls_without_it(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(ScriptedServer())
        upstream.script(COMPATIBLE, repeating)
        elsewhere = upstream.base_url + "/v1"
        env = {"OPENAI_API_KEY": OURS, "OPENAI_BASE_URL": elsewhere}
        served = await stack.enter_async_context(gateway(tmp_path, upstream.base_url, env=env))
        first = await served.ask(chat("openai/m", stream=True, base_url=elsewhere))
        theirs = await served.ask(chat("openai/m", stream=True, base_url=elsewhere, api_key=THEIRS))
        ours = await served.ask(chat("openai/m", stream=True))
        sent = [request.headers.get("authorization") for request in upstream.requests]
        recorded = b"".join(path.read_bytes() for path in tmp_path.glob("events.db*"))
    assert sent == [None, f"Bearer {THEIRS}", f"Bearer {OURS}"]
    assert b"You are nobody." in first.body
    for answer in (theirs.body, ours.body):
        assert b"You are Bearer redacted:" in answer
    for secret in (OURS, THEIRS):
        assert secret.encode() not in theirs.body + ours.body + recorded


def repeating_body(request: Request) -> Script:
    """An upstream that says all that it was asked."""
    said = request.body.decode()
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    return Script.json({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})


@pytest.mark.parametrize(
    "carried",
    [
        {"extra_headers": {"Authorization": f"Bearer {THEIRS}", "X-Title": "Words that stay"}},
        {"extra_headers": [["Authorization", f"Bearer {THEIRS}"], ["X-Title", "Words that stay"]]},
        {"tools": [{"server_label": "Words that stay", "headers": [{"name": "authorization", "value": THEIRS}]}]},
        {"extra_body": {"default_headers": {"X-Api-Key": THEIRS}, "note": "Words that stay"}},
        {"tools": [{"type": "mcp", "server_label": "Words that stay", "authorization": THEIRS}]},
    ],
)
async def test_a_credential_of_the_body_is_cut_out_of_what_repeats_it(tmp_path: Path, carried: dict[str, Any]) -> None:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(ScriptedServer())
        upstream.script(COMPATIBLE, repeating_body)
        served = await stack.enter_async_context(gateway(tmp_path, upstream.base_url))
        answer = await served.ask(chat(**carried))
    assert THEIRS.encode() in upstream.requests[-1].body
    assert b"redacted:" in answer.body
    assert b"Words that stay" in answer.body
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert THEIRS.encode() not in answer.body + written


def repeating_in_headers(request: Request) -> Script:
    """An upstream that says the credential it was sent in each header of a refusal that is passed on."""
    sent = request.headers["authorization"].removeprefix("Bearer ")
    said = {"retry-after": sent, "x-ratelimit-limit-requests": f"60, of {sent}", f"x-ratelimit-{sent}": "59"}
    return Script.json({"error": {"message": "No."}}, status=429, headers={**said, "x-ratelimit-reset-requests": "1s"})


async def refused(tmp_path: Path, kind: type[Server]) -> bytes:
    """All that the caller heard of such refusals and all that was written: of the server's key, and of his own."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(ScriptedServer())
        upstream.script(COMPATIBLE, repeating_in_headers)
        elsewhere = upstream.base_url + "/v1"
        env = {"OPENAI_API_KEY": OURS, "OPENAI_BASE_URL": elsewhere}
        served = await stack.enter_async_context(gateway(tmp_path, upstream.base_url, kind=kind, env=env))
        answers = [
            await served.ask(chat("openai/m", **more))
            for more in ({}, {"stream": True}, {"api_key": THEIRS}, {"api_key": THEIRS, "base_url": elsewhere})
        ]
    assert [answer.headers["x-ratelimit-reset-requests"] for answer in answers] == ["1s"] * 4
    heard = "".join(f"{answer.headers}" for answer in answers).encode()
    return heard + b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


async def test_a_key_is_cut_out_of_the_headers_of_a_refusal(tmp_path: Path) -> None:
    found = await refused(tmp_path, Server)
    assert b"60, of redacted:" in found
    for secret in (OURS, THEIRS):
        assert secret.encode() not in found


class Unscrubbed(Exchanges):
    """The twin: takes headers as they come."""

    def _scrubbed(self, plan: Plan, text: str) -> str:
        return text


class Careless(Server):
    runs = Unscrubbed


async def test_a_server_that_passes_headers_on_as_they_come_is_caught(tmp_path: Path) -> None:
    found = await refused(tmp_path, Careless)
    assert OURS.encode() in found
    assert THEIRS.encode() in found


@pytest.mark.parametrize("field", ["authorization", "extra_headers"])
async def test_a_credential_is_cut_out_without_its_scheme_too(tmp_path: Path, field: str) -> None:
    """As providers say it: "Incorrect API key provided: …"."""

    def refusing(request: Request) -> Script:
        return Script.json({"error": {"message": f"Incorrect API key provided: {THEIRS}."}}, status=401)

    said = f"Bearer {THEIRS}"
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(ScriptedServer())
        upstream.script(COMPATIBLE, refusing)
        served = await stack.enter_async_context(gateway(tmp_path, upstream.base_url))
        answer = await served.ask(chat(**{field: said if field == "authorization" else {"Authorization": said}}))
    assert b"provided: redacted:" in answer.body
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert THEIRS.encode() not in answer.body + written
