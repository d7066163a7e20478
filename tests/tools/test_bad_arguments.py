"""Arguments that are no object, which most families have no place for: the model is told what was wrong, and the
conversation goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import chat
from tests.tools.running import tooled
from tests.tools.test_loop import again

MODELS = ["anthropic/claude-haiku-4-5", "ollama/qwen3:8b"]


def cut_off(model: str) -> tuple[str, Script, Script]:
    """Of a family: its path, a call whose arguments are no object, and an answer in text."""
    if model.startswith("anthropic"):
        start = {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 1}}}
        use = {"type": "tool_use", "id": "toolu_1", "name": "tide", "input": {}}
        events = [
            start,
            {"type": "content_block_start", "index": 0, "content_block": use},
            {"type": "content_block_delta", "index": 0,
             "delta": {"type": "input_json_delta", "partial_json": '{"harbour'}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ]  # fmt: skip
        text = [{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Soon."}}]
        bodies = [
            b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in each)
            for each in (events, [start, *text, *events[3:]])
        ]
        called, then = (Script(body, content_type="text/event-stream") for body in bodies)
        return "POST /v1/messages", called, then
    done = {"model": "q", "done": True, "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 1}
    calls = [{"function": {"name": "tide", "arguments": '{"harbour'}}]
    called, then = (
        Script(json.dumps({**done, "message": {"role": "assistant", **said}}).encode(), content_type="application/json")
        for said in ({"content": "", "tool_calls": calls}, {"content": "Soon."})
    )
    return "POST /api/chat", called, then


@pytest.mark.parametrize("model", MODELS)
async def test_arguments_that_are_no_object_are_shown_to_the_model_of_every_family(tmp_path: Path, model: str) -> None:
    async with ScriptedServer() as upstream:
        path, called, then = cut_off(model)
        upstream.script(path, called, then)
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(model, execute_tools=True, stream=True))
            assert b"Soon." in got.body
            assert await again(server, got.headers["x-request-id"]) == got.body
        told = [request for request in upstream.requests if request.path == path.split()[1]][-1].body
        assert b"The arguments are wrong." in told
        assert b'{"input":"{\\"harbour"}' in told


@pytest.mark.parametrize("model", MODELS)
async def test_a_session_goes_on_behind_such_a_call(tmp_path: Path, model: str) -> None:
    async with ScriptedServer() as upstream:
        path, called, then = cut_off(model)
        upstream.script(path, called, then)
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            async with server.client.post(f"{server.gate.url}/v1/sessions", json={"model": model}) as made:
                url = f"{server.gate.url}/v1/sessions/{(await made.json())['id']}/chat"
            tools = [{"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}]
            asked = {"messages": [{"role": "user", "content": "When?"}], "tools": tools, "stream": True}
            async with server.client.post(url, json=asked) as answer:
                body = await answer.read()
            call_id = next(call["id"] for call in calls_in(body) if call.get("id"))
            result = {"role": "tool", "tool_call_id": call_id, "content": "Which harbour?"}
            async with server.client.post(url, json={**asked, "messages": [result]}) as answer:
                assert b"Soon." in await answer.read()


def calls_in(body: bytes) -> list[dict[str, Any]]:
    """The pieces of calls of a streamed answer."""
    chunks = [json.loads(event[6:]) for event in body.split(b"\n\n") if event.startswith(b"data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return [call for delta in deltas for call in delta.get("tool_calls", ())]
