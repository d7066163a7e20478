"""Rounds of tools that go on at another model: they stay those of one request."""

from __future__ import annotations

from pathlib import Path

from tests.clients.front import saying
from tests.gateway.media import made
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, chat
from tests.tools.running import tooled
from tests.tools.test_loop import again, call, types_of, whole

CALLS = whole({"tool_calls": [call("tide", '{"harbour": "B"}')]}, "tool_calls")
BUSY = Script(b"{}", status=503)


async def test_other_models_have_the_rounds_that_are_left(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, CALLS, BUSY, CALLS, BUSY, CALLS)
        env = {"ABSTRACTCORE_TOOL_ROUNDS": "2"}
        async with tooled(tmp_path / "logs", upstream=upstream.base_url, env=env) as server:
            fallback = ["openai-compatible/second", "openai-compatible/third"]
            got = await server.gate.ask(chat(execute_tools=True, fallback=fallback))
            request_id = got.headers["x-request-id"]
            types = await types_of(server, request_id)
            assert (types.count("fallback_selected"), types.count("tool_completed")) == (2, 2)
            assert [request.json()["model"] for request in upstream.requests] == ["m", "m", "second", "second", "third"]
            assert b"tool_calls" in got.body  # the third's call is the client's
            assert await again(server, request_id) == got.body


async def test_files_are_given_as_the_other_model_can_carry_them(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, CALLS, BUSY)
        upstream.script("POST /api/chat", saying("ollama", "Soon."))
        upstream.script("GET /map.png", Script(made.image("png"), content_type="image/png"))
        host = upstream.base_url.removeprefix("http://")
        env = {
            "OPENAI_BASE_URL": f"{upstream.base_url}/v1",
            "OPENAI_API_KEY": "sk-ours",
            "ABSTRACTCORE_FILE_URL_ALLOWLIST": host,
        }
        async with tooled(tmp_path / "logs", upstream=upstream.base_url, env=env) as server:
            part = {"type": "image_url", "image_url": {"url": f"{upstream.base_url}/map.png"}}
            asked = {**chat("openai/m", execute_tools=True, fallback=["ollama/llava"])}
            got = await server.gate.ask({**asked, "messages": [{"role": "user", "content": [part]}]})
            assert got.status == 200
            told = upstream.requests[-1].json()["messages"]
            assert [message["role"] for message in told] == ["user", "assistant", "tool"]
            assert told[0]["images"]
            assert await again(server, got.headers["x-request-id"]) == got.body
