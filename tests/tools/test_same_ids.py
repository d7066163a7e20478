"""An upstream that gives parallel calls one id: every client, and every result, must tell them apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.gateway.scripted import Request, Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, chat
from tests.tools.running import tooled

CITIES = ("Brest", "Lorient")
MODEL = "openai-compatible/m"


def answer(streamed: bool) -> Script:
    """Two calls, both named as their function is."""
    calls = [
        {"index": i, "id": "weather", "type": "function",
         "function": {"name": "weather", "arguments": json.dumps({"city": city})}}
        for i, city in enumerate(CITIES)
    ]  # fmt: skip
    if not streamed:
        return Script.json({"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]})
    deltas: list[dict[str, Any]] = [{"delta": {"tool_calls": [call]}} for call in calls]
    chunks = [{"choices": [choice]} for choice in (*deltas, {"delta": {}, "finish_reason": "tool_calls"})]
    body = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    return Script(body, content_type="text/event-stream")


def told(request: Request) -> Script:
    """Text, once there are results."""
    if any(message["role"] == "tool" for message in request.json()["messages"]):
        return Script.json({"choices": [{"message": {"content": "Clear."}, "finish_reason": "stop"}]})
    return answer(bool(request.json().get("stream")))


async def test_the_official_client_reads_them_as_responses(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, told)
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            client = AsyncOpenAI(base_url=f"{server.gate.url}/v1", api_key="any", max_retries=0)
            async with client.responses.stream(model=MODEL, input="Tell me.") as stream:
                response = await stream.get_final_response()
    calls = [item for item in response.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["city"] for call in calls] == list(CITIES)
    assert len({call.call_id for call in calls}) == 2


@pytest.mark.parametrize("streamed", [True, False])
async def test_each_result_finds_its_call(tmp_path: Path, streamed: bool) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, told)
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(execute_tools=True, stream=streamed))
            assert got.status == 200
            events = await server.gate.ended(got.headers["x-request-id"])
    _, asked, *results = upstream.requests[1].json()["messages"]
    cities = {call["id"]: json.loads(call["function"]["arguments"])["city"] for call in asked["tool_calls"]}
    assert {each["tool_call_id"]: json.loads(each["content"])["city"] for each in results} == cities
    assert len(cities) == 2
    ran = [event.body["call_id"] for event in events if event.type == "tool_completed"]
    assert sorted(ran) == sorted(cities)
