"""Signed thinking goes back to who signed it, where it stood: a model of Anthropic's that gets the results of its tools
without it answers 400."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from google import genai
from google.genai import types

from tests.clients.front import MODELS, Front, front, saying
from tests.endpoints.families import in_blocks
from tests.endpoints.test_messages import again
from tests.gateway.scripted import Request, Script
from tests.tools.running import FUNCTIONS

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = MODELS["anthropic"]
USER: Any = {"role": "user", "content": "When?"}
TOOL = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}
BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "A harbour.", "signature": "S1=="},
    {"type": "text", "text": "Let me look."},
    {"type": "thinking", "thinking": "The tides.", "signature": "S2=="},
    {"type": "tool_use", "id": "toolu_1", "name": "tide", "input": {"harbour": "B"}},
]


def answering(request: Request) -> Script:
    """Calls the tool until it has its result, and refuses what the API refuses."""
    body = request.json()
    used = [message["content"] for message in body["messages"] if message["role"] == "assistant"]
    if not used:
        return in_blocks(BLOCKS, "tool_use", body.get("stream") is True)
    if used[0] != BLOCKS:
        error = {"type": "invalid_request_error", "message": f"Expected `thinking`, but found {used[0]}"}
        return Script.json({"type": "error", "error": error}, status=400)
    return in_blocks([{"type": "text", "text": "At four."}], "end_turn", body.get("stream") is True)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("signed"), args=("--nats", "off", *FUNCTIONS)) as started:
        started.answer("anthropic", answering)
        yield started


async def post(url: str, body: Any) -> tuple[Any, bytes]:
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        got = await answer.read()
        assert answer.status == 200, got
        return answer.headers, got


@pytest.mark.parametrize("stream", [True, False])
async def test_over_the_rounds_of_the_servers_own_tools(server: Front, stream: bool) -> None:
    body = {"model": MODEL, "messages": [USER], "thinking": "on", "execute_tools": True, "stream": stream}
    headers, got = await post(f"{server.url}/chat/completions", body)
    assert b'"error"' not in got
    assert b"04:12" in server.asked("anthropic")[-1].body
    assert await again(server, headers["x-request-id"]) == got


async def test_over_the_rounds_and_on_to_a_model_that_takes_none(server: Front) -> None:
    called, busy = in_blocks(BLOCKS, "tool_use", False), Script.json({}, status=503)
    server.answer("anthropic", called, busy)
    server.say("openai", "At five.")
    body = {"model": MODEL, "messages": [USER], "execute_tools": True, "fallback": [MODELS["openai"]]}
    _, got = await post(f"{server.url}/chat/completions", body)
    assert b"five" in got
    assert server.asked("openai")[-1].json()["messages"][1].keys() == {"role", "content", "tool_calls"}
    server.answer("anthropic", answering)


async def test_over_the_turns_of_a_session(server: Front) -> None:
    _, opened = await post(f"{server.url}/sessions", {"model": MODEL})
    url = f"{server.url}/sessions/{json.loads(opened)['id']}/chat"
    await post(url, {"messages": [USER], "tools": [TOOL], "thinking": "on"})
    result = {"role": "tool", "tool_call_id": "toolu_1", "content": "04:12"}
    _, got = await post(url, {"messages": [result], "tools": [TOOL], "thinking": "on"})
    assert b"At four." in got
    server.answer("openai", saying("openai", "Yes."))
    await post(url, {"messages": [USER], "model": MODELS["openai"]})
    told = server.asked("openai")[-1].json()["messages"]
    assert [message["role"] for message in told] == ["user", "assistant", "tool", "assistant", "user"]
    assert told[1].keys() == {"role", "content", "tool_calls"}, "it is for who signed it alone"


@pytest.mark.parametrize("streamed", [True, False])
async def test_over_the_loop_of_googles_client(server: Front, streamed: bool) -> None:
    def tide(harbour: str) -> str:
        """The tide of a harbour."""
        return f"{harbour}: 04:12"

    client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=server.process.url)).aio
    thoughts = types.ThinkingConfig(include_thoughts=True, thinking_budget=2048)
    asked: Any = {
        "model": MODEL, "contents": "When?",
        "config": types.GenerateContentConfig(tools=[tide], thinking_config=thoughts),
    }  # fmt: skip
    if streamed:
        text = "".join([chunk.text or "" async for chunk in await client.models.generate_content_stream(**asked)])
    else:
        text = (await client.models.generate_content(**asked)).text or ""
    await client.aclose()
    assert text.endswith("At four.")
    assert "toolu_1" in server.asked("anthropic")[-1].body.decode()


@pytest.mark.parametrize("signed", ["ours", "Z29vZ2xlcw"])
async def test_of_google_to_a_model_that_takes_none(server: Front, signed: str) -> None:
    """What is ours is not named, as in a Responses conversation; a signature of Google's own is."""
    url = f"{server.process.url}/v1beta/models"
    turns: list[Any] = [{"role": "user", "parts": [{"text": "When?"}]}]
    _, got = await post(f"{url}/{MODEL}:generateContent", {"contents": turns})
    content = json.loads(got)["candidates"][0]["content"]
    assert [part.keys() for part in content["parts"]] == [{"text"}, {"functionCall", "thoughtSignature"}]
    if signed != "ours":
        content["parts"][1]["thoughtSignature"] = signed
    result = {"functionResponse": {"name": "tide", "response": {"output": "04:12"}}}
    turns += [content, {"role": "user", "parts": [result]}]
    server.say("openai", "At five.")
    headers, _ = await post(f"{url}/{MODELS['openai']}:generateContent", {"contents": turns})
    assert server.asked("openai")[-1].json()["messages"][1].keys() == {"role", "content", "tool_calls"}
    named = headers.get("x-abstractcore-ignored")
    assert named == (None if signed == "ours" else "contents[].parts[].thoughtSignature")
