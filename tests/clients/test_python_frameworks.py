"""What people build with in Python, over chat completions and over Responses: langchain-openai, pydantic-ai, `llm`."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.front import MODELS, Front
from tests.clients.turns import calls_then_says, offered, results, says
from tests.gateway.scripted import Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUNNY = 'It is 22 °C in "Oslo" 🎉.'
ASK = "How is the weather?"
PROVIDERS = ["openai", "openai-compatible"]


class Person(BaseModel):
    """Who somebody is."""

    name: str
    age: int


ADA = Person(name="Ada", age=36)


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"22 °C in {city}"


over_each_api = pytest.mark.parametrize("api", ["chat", "responses"])


def langchain(server: Front, provider: str, api: str) -> ChatOpenAI:
    return ChatOpenAI(
        model=MODELS[provider], base_url=server.url, api_key=SecretStr("not-needed"), max_retries=0, stream_usage=True,
        use_responses_api=api == "responses",
    )  # fmt: skip


@over_each_api
@pytest.mark.parametrize("provider", MODELS)
async def test_langchain_whole_and_streamed(server: Front, provider: str, api: str) -> None:
    whole = await langchain(server, provider, api).ainvoke(ASK)
    assert whole.text
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] > 0
    said = AIMessageChunk("")
    async for chunk in langchain(server, provider, api).astream(ASK):
        said += chunk  # type: ignore[assignment]  # chunks add up to a chunk
    assert said.text
    assert said.response_metadata.get("finish_reason", said.response_metadata.get("status")) in ("stop", "completed")
    assert said.usage_metadata is not None
    assert said.usage_metadata["output_tokens"] > 0


@over_each_api
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_langchain_calls_a_tool(server: Front, provider: str, api: str) -> None:
    server.answer(provider, calls_then_says("get_weather", {"city": "Oslo"}, SUNNY))
    model = langchain(server, provider, api).bind_tools([get_weather])
    turns: list[Any] = [HumanMessage(ASK)]
    asked = AIMessageChunk("")
    async for chunk in model.astream(turns):
        asked += chunk  # type: ignore[assignment]  # as above
    (call,) = asked.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Oslo"})
    turns += [asked, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])]
    assert (await model.ainvoke(turns)).text == SUNNY
    assert results(server.asked(provider)[-1].json()) == ["22 °C in Oslo"]


@over_each_api
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_langchain_structured_output(server: Front, method: Any, api: str) -> None:
    answer = calls_then_says("Person", ADA.model_dump(), ADA.model_dump_json())
    server.answer("openai", answer)
    model = langchain(server, "openai", api).with_structured_output(Person, method=method)
    assert await model.ainvoke("Who wrote the first program? Answer in JSON.") == ADA


async def test_langchain_embeddings(server: Front) -> None:
    """It asks for base64, as OpenAI's client does."""
    vector = base64.b64encode(struct.pack("<2f", 0.5, -0.25)).decode()
    item = {"object": "embedding", "index": 0, "embedding": vector}
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    server.upstream.script(
        "POST /openai/v1/embeddings",
        Script.json({"object": "list", "data": [item], "model": "text-embedding-3-small", "usage": usage}),
    )
    model = OpenAIEmbeddings(
        model="openai/text-embedding-3-small", base_url=server.url, api_key=SecretStr("k"),
        check_embedding_ctx_length=False,
    )  # fmt: skip
    assert await model.aembed_query("a cat") == [0.5, -0.25]


def pydantic_ai(server: Front, provider: str, api: str) -> OpenAIChatModel | OpenAIResponsesModel:
    model = OpenAIResponsesModel if api == "responses" else OpenAIChatModel
    return model(MODELS[provider], provider=OpenAIProvider(base_url=server.url, api_key="not-needed"))


@over_each_api
@pytest.mark.parametrize("provider", MODELS)
async def test_pydantic_ai_whole_and_streamed(server: Front, provider: str, api: str) -> None:
    agent = Agent(pydantic_ai(server, provider, api))
    if provider != "anthropic":  # its whole answer calls a tool that nobody offered
        whole = await agent.run(ASK)
        assert whole.output
        assert whole.usage.output_tokens > 0
    async with agent.run_stream(ASK) as streamed:
        assert await streamed.get_output()
    assert streamed.usage.output_tokens > 0


@over_each_api
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True])
async def test_pydantic_ai_calls_a_tool(server: Front, provider: str, stream: bool, api: str) -> None:
    server.answer(provider, calls_then_says("weather", {"city": "Oslo"}, SUNNY))
    agent = Agent(pydantic_ai(server, provider, api))
    cities: list[str] = []

    @agent.tool_plain
    def weather(city: str) -> str:
        cities.append(city)
        return "22 °C"

    if stream:
        async with agent.run_stream(ASK) as streamed:
            said = await streamed.get_output()
    else:
        said = (await agent.run(ASK)).output
    assert (said, cities) == (SUNNY, ["Oslo"])
    assert results(server.asked(provider)[-1].json()) == ["22 °C"]


@over_each_api
@pytest.mark.parametrize("output", [Person, NativeOutput(Person)], ids=["by a tool", "by a schema"])
async def test_pydantic_ai_structured_output(server: Front, output: Any, api: str) -> None:
    server.answer("openai", calls_then_says("final_result", ADA.model_dump(), ADA.model_dump_json()))
    agent = Agent(pydantic_ai(server, "openai", api), output_type=output)
    assert (await agent.run("Who wrote the first program?")).output == ADA


async def llm(home: Path, server: Front, *args: str) -> str:
    """What the command line prints, its model being the server's."""
    (home / "extra-openai-models.yaml").write_text(
        f'- {{model_id: gw, model_name: {MODELS["openai"]}, api_base: "{server.url}", api_key_name: gw,'
        " supports_tools: true, supports_schema: true}\n"
    )
    command = [sys.executable, "-m", "llm", "prompt", "-m", "gw", "--key", "sk-x", "--no-log", *args]
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "LLM_USER_PATH": str(home)}
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, env=env, stdin=subprocess.DEVNULL, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().rstrip("\n")


async def test_llm_on_the_command_line(server: Front, tmp_path: Path) -> None:
    server.answer("openai", says(SUNNY))
    assert await llm(tmp_path, server, ASK) == SUNNY
    assert await llm(tmp_path, server, "--no-stream", ASK) == SUNNY
    assert [bool(request.json().get("stream")) for request in server.asked("openai")] == [True, False]


async def test_llm_calls_a_tool_and_fills_a_schema(server: Front, tmp_path: Path) -> None:
    function = 'def weather(city: str) -> str:\n    "The weather"\n    return f"22 °C in {city}"\n'
    server.answer("openai", calls_then_says("weather", {"city": "Oslo"}, SUNNY))
    assert await llm(tmp_path, server, "--functions", function, ASK) == SUNNY
    first, second = (request.json() for request in server.asked("openai"))
    assert offered(first) == ["weather"]
    assert results(second) == ["22 °C in Oslo"]
    server.answer("openai", says(ADA.model_dump_json()))
    assert json.loads(await llm(tmp_path, server, "--schema", "name, age int", ASK)) == ADA.model_dump()
