"""What a caller can get wrong, through the whole server: the right status in OpenAI's shape, and an event of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.crash.load import openai_body
from tests.gateway.raw import RawClient, Received, ask, request
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, PROMPT, Gateway, chat, gateway
from tests.serverprocess import ServerProcess, server_process

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = {"message", "type", "param", "code"}
MEMORY_KIB = 50 << 10


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script(COMPATIBLE, Script.json(openai_body()))
        server.script("POST /v1/messages", Script.file("anthropic/body.json"))
        server.script("POST /api/chat", Script.file("ollama/body.json"))
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def debugging(upstream: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("debug") / "logs", upstream.base_url, "--debug") as running:
        yield running


def raw_chat(fields: bytes) -> bytes:
    """A body with something in it that no JSON encoder would write."""
    return b'{"model": "openai-compatible/m", "messages": [{"role": "user", "content": "Hi"}], %b}' % fields


WRONG: dict[str, tuple[Any, int, str | None, str | None]] = {
    # name: (body, status, code, param)
    "unknown provider": (chat("nobody/m"), 404, "model_not_found", "model"),
    "unknown bare model": (chat("nothing"), 404, "model_not_found", "model"),
    "provider without model": (chat("openai/"), 404, "model_not_found", "model"),
    "no model": ({"messages": PROMPT}, 400, None, "model"),
    "no key": (chat("openai/gpt-5"), 401, "invalid_api_key", "api_key"),
    "empty": (b"", 400, "invalid_json", None),
    "malformed": (b'{"model": ', 400, "invalid_json", None),
    "no object": (b"[]", 400, "invalid_json", None),
    "bad UTF-8": (raw_chat(b'"user": "\xff"'), 400, "invalid_json", None),
    "no messages": ({"model": "openai-compatible/m"}, 400, "missing_required_parameter", "messages"),
    "no role": (chat(messages=[{"content": "Hi"}]), 400, "missing_required_parameter", "messages[0].role"),
    "empty messages": (chat(messages=[]), 400, "invalid_value", "messages"),
    "messages of a wrong type": (chat(messages="Hi"), 400, "invalid_type", "messages"),
    "temperature of a wrong type": (chat(temperature="hot"), 400, "invalid_type", "temperature"),
    "stream of a wrong type": (chat(stream="yes"), 400, "invalid_type", "stream"),
    "model of a wrong type": ({"model": 7, "messages": PROMPT}, 400, "invalid_type", "model"),
    "stream_options without stream": (chat(stream_options={"include_usage": True}), 400, None, "stream_options"),
    "NaN": (raw_chat(b'"temperature": NaN'), 400, "invalid_json", None),
    "Infinity": (raw_chat(b'"temperature": -Infinity'), 400, "invalid_json", None),
    "1e400": (raw_chat(b'"temperature": 1e400'), 400, "invalid_json", None),
    "lone surrogate": (raw_chat(b'"user": "\\ud800"'), 400, "invalid_json", None),
    "integer beyond 64 bits": (raw_chat(b'"seed": 18446744073709551616'), 400, "integer_out_of_range", None),
    "100,000 deep": (raw_chat(b'"x": ' + b"[" * 100_000 + b"]" * 100_000), 400, "invalid_json", None),
    "CR/LF in an id": (chat(session_id="a\r\nb"), 400, "invalid_value", "session_id"),
    "NUL in an id": (chat(user="a\0b"), 400, "invalid_value", "user"),
    "NUL in a model": (chat("openai-compatible/m\0"), 400, "invalid_value", "model"),
    "CR/LF in a key": (chat(api_key="sk-1234567890\r\nx: y"), 400, "invalid_value", "api_key"),
    "a host of the caller's": (chat(base_url="http://metadata.internal/"), 403, "base_url_not_allowed", "base_url"),
    "no URL": (chat(base_url="file:///etc/passwd"), 400, None, "base_url"),
    "audio for Anthropic": (chat("anthropic/m", max_tokens=5, modalities=["audio"]), 400, "unsupported_parameter",
                            "modalities"),
    "logit_bias for Anthropic": (chat("anthropic/m", max_tokens=5, logit_bias={"1": 2}), 400, "unsupported_parameter",
                                 "logit_bias"),
    "unknown field for Anthropic": (chat("anthropic/m", max_tokens=5, frobnicate=1), 400, "unsupported_parameter",
                                    "frobnicate"),
    "n for Ollama": (chat("ollama/m", n=2), 400, "unsupported_parameter", "n"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_is_refused_and_recorded(served: Gateway, name: str) -> None:
    body, status, code, param = WRONG[name]
    answer = await served.ask(body)
    assert (answer.status, answer.whole) == (status, True)
    error = answer.json()["error"]
    assert error.keys() == KEYS
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    await assert_recorded(served, answer)


async def assert_recorded(served: Gateway, answer: Received) -> None:
    """The refusal is an event, at the endpoint for events too, and its answer can be had again."""
    events = json.loads((await got(served, f"/v1/requests/{answer.request_id}/events")).body)["data"]
    assert events[-1]["type"] == "request_rejected"
    assert (events[-1]["status"], events[-1]["error"]) == (answer.status, answer.json()["error"])
    assert int(answer.headers["x-abstractcore-position"]) >= 1
    assert (await got(served, f"/v1/requests/{answer.request_id}/stream")).body == answer.body


async def got(served: Gateway, path: str) -> Received:
    client = await RawClient.connect(served.url)
    await client.send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_S):
        return await client.answer()


async def test_the_message_says_what_to_do(served: Gateway) -> None:
    assert "GET /v1/models" in (await served.ask(chat("nobody/m"))).json()["error"]["message"]
    assert "OPENAI_API_KEY" in (await served.ask(chat("openai/gpt-5"))).json()["error"]["message"]


async def test_an_oversized_body_is_refused_before_it_is_sent(served: Gateway) -> None:
    client = await RawClient.connect(served.url)
    head = request(b"", headers={"content-length": str(46 << 20), "expect": "100-continue"})
    await client.send(head)
    async with asyncio.timeout(PATIENCE_S):
        answer = await client.answer()
        while answer.status == 100:
            del client.raw[: client.raw.index(b"\r\n\r\n") + 4]
            answer = await client.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (413, "request_too_large")
    await assert_recorded(served, answer)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-type": "text/plain"}, 400, "unsupported_content_type"),
        ({"content-encoding": "gzip"}, 400, "unsupported_content_encoding"),
        ({"x-abstractcore-retention": "some"}, 400, None),
        ({"x-abstractcore-session-id": "a\x01b"}, 400, "malformed_request"),
        ({"host": "evil.example"}, 403, "host_not_allowed"),
        ({"origin": "https://evil.example"}, 403, "origin_not_allowed"),
    ],
)
async def test_wrong_headers(served: Gateway, headers: dict[str, str], status: int, code: str | None) -> None:
    client = await RawClient.connect(served.url)
    await client.send(request(chat(), headers=headers))
    async with asyncio.timeout(PATIENCE_S):
        answer = await client.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"].keys() == KEYS
    if code != "malformed_request":  # that is no request: there is nothing to record
        await assert_recorded(served, answer)


@pytest.mark.parametrize(
    "raw",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-big: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told_so(served: Gateway, raw: bytes) -> None:
    client = await RawClient.connect(served.url)
    await client.send(raw)
    async with asyncio.timeout(PATIENCE_S):
        answer = await client.answer()
        assert not await client.more()
    assert answer.status == 400
    assert answer.json()["error"].keys() == KEYS
    assert answer.json()["error"]["code"] == "malformed_request"


async def test_unknown_routes_and_methods(served: Gateway) -> None:
    missing = await got(served, "/v1/nothing")
    wrong = await got(served, "/v1/chat/completions")
    assert (missing.status, missing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status, wrong.json()["error"]["code"], wrong.headers["allow"]) == (405, "method_not_allowed", "POST")


async def test_debug_adds_the_field_errors(served: Gateway, debugging: Gateway) -> None:
    body = chat(temperature="hot", top_p="x")
    details = (await debugging.ask(body)).json()["error"]["details"]
    assert [(detail["field"], bool(detail["message"])) for detail in details] == [
        ("temperature", True),
        ("top_p", True),
    ]
    assert (await served.ask(body)).json()["error"].keys() == KEYS


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/v1/chat/completions", {"invalid": "data", "temperature": "hot"}, ["messages", "temperature"]),
        ("/v1/chat/completions", {"messages": [{"content": "Hi"}]}, ["messages[0].role"]),
        ("/v1/responses", {}, ["input"]),
        ("/v1/embeddings", {"dimensions": "x"}, ["input", "dimensions"]),
        ("/v1/moderations", {}, ["input"]),
        ("/v1/rerank", {"query": "q"}, ["documents"]),
    ],
)
async def test_debug_names_what_is_missing_too(
    served: Gateway, debugging: Gateway, path: str, body: dict[str, Any], fields: list[str]
) -> None:
    details = (await ask(debugging.url, body, path)).json()["error"]["details"]
    assert [detail["field"] for detail in details] == fields
    assert all(detail["message"] for detail in details)
    assert (await ask(served.url, body, path)).json()["error"].keys() == KEYS


async def test_unknown_fields_reach_an_openai_compatible_provider(served: Gateway, upstream: ScriptedServer) -> None:
    answer = await served.ask(chat(frobnicate={"a": [1]}, seed=2**64 - 1))
    assert answer.status == 200
    assert upstream.requests[-1].json() == {
        "model": "m",
        "messages": PROMPT,
        "frobnicate": {"a": [1]},
        "seed": 2**64 - 1,
    }


@pytest.mark.parametrize("model", ["anthropic/m", "ollama/m"])
async def test_what_changes_no_answer_is_named(served: Gateway, upstream: ScriptedServer, model: str) -> None:
    advisory = {
        "user": "u",
        "store": True,
        "metadata": {"a": "b"},
        "n": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
    }
    if model == "ollama/m":  # which carries the penalties
        del advisory["presence_penalty"], advisory["frequency_penalty"]
    answer = await served.ask(chat(model, max_tokens=5, **advisory))
    assert answer.status == 200
    # Anthropic has `metadata.user_id` for it.
    named = set(answer.headers["x-abstractcore-ignored"].split(", "))
    assert advisory.keys() - {"user"} <= named <= advisory.keys()
    route = next(event for event in await served.events(answer.request_id) if event.type == "route_selected")
    assert set(route.body["ignored"]) == named


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def process(upstream: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerProcess]:
    async with server_process(tmp_path_factory.mktemp("bomb") / "logs") as running:
        yield running


async def test_a_9_mb_body_of_empty_objects_costs_little(process: ServerProcess) -> None:
    bomb = b'{"model": "demo/echo", "messages": [' + b"{}," * 3_000_000 + b"{}]}"
    await asked(process, b'{"model": "demo/echo"}')  # what the first request loads is not the bomb's
    before = resident_kib(process)
    answer = await asked(process, bomb)
    assert (answer.status, answer.json()["error"]["code"]) == (400, "too_many_values")
    assert peak_kib(process) - before < MEMORY_KIB
    assert (await asked(process, json.dumps(chat("demo/echo")).encode())).status == 200


async def asked(process: ServerProcess, body: bytes) -> Received:
    client = await RawClient.connect(process.url)
    await client.send(request(body))
    async with asyncio.timeout(PATIENCE_S):
        return await client.answer()


def resident_kib(process: ServerProcess) -> int:
    return _status(process, "VmRSS")


def peak_kib(process: ServerProcess) -> int:
    return _status(process, "VmHWM")


def _status(process: ServerProcess, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
    assert found is not None
    return int(found[1])
