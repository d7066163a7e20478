"""Google's Gemini API over every provider, with the official client, whose types every answer must be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from google import genai
from google.genai import types
from google.genai.errors import APIError, ClientError, UnknownApiResponseError
from pydantic import BaseModel
from yarl import URL

from gateway.api.outlet import Pace
from replay.cli import run as replay
from tests.clients.front import MODELS, Front, front
from tests.clients.turns import calls_then_says
from tests.endpoints.test_messages import PIXEL, again, calling
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import Paced, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

GENERATE, STREAM = "generateContent", "streamGenerateContent?alt=sse"
HI: Any = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
WEATHER = types.FunctionDeclaration(
    name="get_weather",
    description="of a place",
    parameters=types.Schema(
        type=types.Type.OBJECT,
        required=["city"],
        properties={
            "city": types.Schema(type=types.Type.STRING, nullable=True),
            "days": types.Schema(type=types.Type.ARRAY, items=types.Schema(type=types.Type.INTEGER), max_items=7),
        },
    ),
)


class Person(BaseModel):
    name: str
    age: int


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("gemini")) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(server: Front) -> AsyncIterator[Any]:
    made = client_of(server.process.url)
    yield made.aio
    await made.aio.aclose()


def client_of(url: str, key: str = "not-needed", version: str | None = None) -> genai.Client:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=url, api_version=version))


async def raw(server: Front, model: str, body: Any, method: str = GENERATE, **headers: str) -> tuple[int, Any, bytes]:
    url = f"{server.process.url}/v1beta/models/{model}:{method}"
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
        return answer.status, answer.headers, await answer.read()


def events(body: bytes) -> Iterator[types.GenerateContentResponse]:
    """A stream's events, as the client's types."""
    for frame in body.decode().split("\n\n"):
        if frame.strip():
            yield types.GenerateContentResponse.model_validate_json(frame.strip().removeprefix("data: "))


@pytest.mark.parametrize("provider", MODELS)
async def test_every_provider_answers(server: Front, client: Any, provider: str) -> None:
    server.play(provider, whole="anthropic/body.json" if provider == "anthropic" else None)
    whole = await client.models.generate_content(model=MODELS[provider], contents="Hi")
    assert whole.candidates[0].content.parts[0].text
    assert (whole.candidates[0].finish_reason, whole.model_version) == (types.FinishReason.STOP, MODELS[provider])
    assert whole.usage_metadata.prompt_token_count > 0
    streamed = [
        chunk async for chunk in await client.models.generate_content_stream(model=MODELS[provider], contents="Hi")
    ]
    assert "".join(chunk.text or "" for chunk in streamed)
    assert {chunk.response_id for chunk in streamed} == {streamed[0].response_id}
    assert [chunk.candidates[0].finish_reason for chunk in streamed if chunk.candidates[0].finish_reason] == ["STOP"]
    usage = streamed[-1].usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count


async def test_the_client_that_blocks_is_answered_too(server: Front) -> None:
    """It reads its stream by other code than the one that does not."""

    def asked() -> str:
        with client_of(server.process.url) as blocking:
            chunks = blocking.models.generate_content_stream(model="demo/echo", contents="ä 🎉 word")
            return "".join(chunk.text or "" for chunk in chunks)

    assert await asyncio.to_thread(asked) == "ä 🎉 word"


@pytest.mark.parametrize("model", ["demo/echo", "demo%2Fecho"])
@pytest.mark.parametrize("method", [GENERATE, STREAM, "streamGenerateContent"])
async def test_a_model_is_a_part_of_the_path_and_every_answer_renders_again(
    server: Front, model: str, method: str
) -> None:
    status, headers, body = await raw(server, model, HI, method)
    assert status == 200, body
    if method == STREAM:
        assert headers["content-type"].startswith("text/event-stream")
        answers = [*events(body)]
    else:
        value = json.loads(body)
        answers = [types.GenerateContentResponse.model_validate(v) for v in (value if "stream" in method else [value])]
    assert "".join(answer.text or "" for answer in answers) == "Hi"
    assert answers[-1].model_version == "demo/echo"
    assert headers["x-request-id"] == answers[-1].response_id
    assert await again(server, headers["x-request-id"]) == body


@pytest.mark.parametrize("first", [STREAM, "streamGenerateContent"])
async def test_a_key_stands_for_one_form_of_an_answer(server: Front, first: str) -> None:
    """It stands in the query alone, so the bodies are the same."""
    server.play("openai")
    other = {STREAM: "streamGenerateContent"}.get(first, STREAM)
    keyed = {"Idempotency-Key": f"first {first}"}
    told = [await raw(server, MODELS["openai"], HI, method, **keyed) for method in (first, other, first)]
    assert [status for status, _, _ in told] == [200, 422, 200]
    assert told[2][2] == told[0][2]
    assert told[2][1]["idempotent-replayed"] == "true"


async def test_tools_go_there_and_back(server: Front, client: Any) -> None:
    server.answer(
        "openai", calling({"name": "get_weather", "arguments": ""}, {"arguments": '{"city":'}, {"arguments": '"Oslo"}'})
    )
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[WEATHER, types.FunctionDeclaration(name="other")])],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(
                mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["get_weather"]
            )
        ),
    )
    chunks = [
        chunk
        async for chunk in await client.models.generate_content_stream(
            model=MODELS["openai"], contents="Hi", config=config
        )
    ]
    [call] = chunks[-1].function_calls
    assert (call.name, call.args, call.id) == ("get_weather", {"city": "Oslo"}, "call_1")
    assert chunks[-1].candidates[0].finish_reason == "STOP"
    sent = server.asked("openai")[-1].json()
    assert (sent["tool_choice"], len(sent["tools"])) == ("required", 1)
    assert sent["tools"][0]["function"]["parameters"] == {
        "type": "object",
        "required": ["city"],
        "properties": {
            "city": {"type": ["string", "null"]},
            "days": {"type": "array", "items": {"type": "integer"}, "maxItems": 7},
        },
    }
    server.play("openai")
    given = types.Part.from_function_response(name="get_weather", response={"output": "22 °C"})
    turns = [
        types.UserContent("Hi"),
        chunks[-1].candidates[0].content,
        types.Content(role="user", parts=[given, types.Part(text="And now?")]),
    ]
    await client.models.generate_content(model=MODELS["openai"], contents=turns, config=config)
    told = server.asked("openai")[-1].json()["messages"]
    assert [m["role"] for m in told] == ["user", "assistant", "tool", "user"]
    assert told[1]["tool_calls"][0]["id"] == told[2]["tool_call_id"] == "call_1"
    assert (json.loads(told[2]["content"]), told[3]["content"]) == ({"output": "22 °C"}, "And now?")


async def test_the_clients_own_loop_of_tools_ends_in_an_answer(server: Front, client: Any) -> None:
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"Sun over {city}"

    server.answer("openai", calls_then_says("get_weather", {"city": "Oslo"}, "It is sunny."))
    config = types.GenerateContentConfig(tools=[get_weather])
    answer = await client.models.generate_content(model=MODELS["openai"], contents="Weather?", config=config)
    assert answer.text == "It is sunny."
    assert "Sun over Oslo" in server.asked("openai")[-1].json()["messages"][-1]["content"]


async def test_an_answer_has_the_structure_that_was_asked_for(server: Front, client: Any) -> None:
    server.say("anthropic", '{"name": "Ada", "age": 36}')
    server.say("openai", '{"name": "Ada", "age": 36}')
    for provider in ("openai", "anthropic"):
        config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Person)
        answer = await client.models.generate_content(model=MODELS[provider], contents="Who?", config=config)
        assert answer.parsed == Person(name="Ada", age=36)
    sent = server.asked("openai")[-1].json()["response_format"]["json_schema"]["schema"]
    assert sent["properties"]["age"]["type"] == "integer"


async def test_what_a_request_says_is_said_in_chats_words(server: Front, client: Any) -> None:
    server.play("openai")
    config = types.GenerateContentConfig(
        system_instruction="Be brief.", temperature=0.5, top_p=0.9, top_k=20, max_output_tokens=99, seed=7,
        stop_sequences=["END"], presence_penalty=0.1, frequency_penalty=0.2,
        thinking_config=types.ThinkingConfig(thinking_budget=2000),
    )  # fmt: skip
    image = types.Part.from_bytes(data=b"\xfb\xff\xfe", mime_type="image/png")  # of both alphabets of base64
    parts = [types.Part(text="What is this?"), types.Part.from_bytes(data=b"words", mime_type="text/plain"), image]
    with pytest.raises(ClientError):  # three bytes are no picture, and somebody looked
        await client.models.generate_content(model=MODELS["openai"], contents=parts, config=config)
    parts[2] = types.Part(inline_data=types.Blob(mime_type="image/png", data=PIXEL))
    await client.models.generate_content(model=MODELS["openai"], contents=parts, config=config)
    sent = server.asked("openai")[-1].json()
    system, user = sent["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert user["content"][0] == {"type": "text", "text": "What is this?"}
    assert "words" in user["content"][1]["text"]
    assert user["content"][2]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"
    expected = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 20, "max_completion_tokens": 99, "seed": 7, "stop": ["END"],
        "presence_penalty": 0.1, "frequency_penalty": 0.2, "reasoning_effort": "low",
    }  # fmt: skip
    assert {name: sent[name] for name in expected} == expected


async def test_thoughts_are_shown_where_they_were_asked_for(server: Front, client: Any) -> None:
    server.play("openai", stream="openai/reasoning.sse")
    for wanted in (True, False):
        config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=wanted))
        stream = await client.models.generate_content_stream(model=MODELS["openai"], contents="Hi", config=config)
        parts = [part async for chunk in stream for part in chunk.candidates[0].content.parts]
        assert any(part.thought for part in parts) == wanted
        assert any(part.text and not part.thought for part in parts)


async def test_several_candidates_come_side_by_side(server: Front) -> None:
    server.play("openai", stream="openai/two_choices.sse")
    body = {**HI, "generation_config": {"candidate_count": "2", "top_k": 64}, "safetySettings": [{}], "labels": {}}
    status, headers, answer = await raw(server, MODELS["openai"], body, STREAM)
    assert (status, headers["x-abstractcore-ignored"]) == (200, "safetySettings, generationConfig.topK")
    sent = server.asked("openai")[-1].json()
    assert sent["n"] == 2
    assert "top_k" not in sent
    ends = [c for event in events(answer) for c in event.candidates or () if c.finish_reason]
    assert [end.index for end in ends] == [0, 1]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"contents": []}, "contents"),
        ({"cachedContent": "cachedContents/x"}, "cachedContent"),
        ({"tools": [{"googleSearch": {}}]}, "tools[0].googleSearch"),
        ({"generationConfig": {"speechConfig": {}}}, "generationConfig.speechConfig"),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, "text"),
        ({"generation_config": {"response_mime_type": "text/x.enum"}}, "text/x.enum"),
        ({"generationConfig": {"responseMimeType": "application/json", "responseSchema": {"items": 3}}}, "items"),
        ({"generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "SOMETIMES"}}}, "SOMETIMES"),
        ({"contents": [{"role": "robot", "parts": [{"text": "x"}]}]}, "role"),
        ({"contents": [{"parts": [{"text": "x", "videoMetadata": {}}]}]}, "videoMetadata"),
        ({"contents": [{"parts": [{"fileData": {"fileUri": "gs://bucket/x"}}]}]}, "inlineData"),
        ({"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {}}}]}]}, "'f'"),
        ({"execute_tools": True}, "execute_tools"),
        ({"retries": 99}, "retries"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_cannot_be_said_is_refused_in_googles_words(server: Front, change: Any, named: str) -> None:
    status, _, body = await raw(server, MODELS["openai"], {**HI, **change})
    told = json.loads(body)["error"]
    assert (status, told["code"], told["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert named in told["message"]


async def test_errors_are_googles_errors(server: Front, client: Any) -> None:
    with pytest.raises(ClientError) as missing:
        await client.models.generate_content(model="nobody/nothing", contents="Hi")
    assert (missing.value.code, missing.value.status) == (404, "NOT_FOUND")
    server.answer("openai", Script.json({"error": {"message": "slow down", "type": "requests"}}, status=429))
    with pytest.raises(ClientError) as limited:
        await client.models.generate_content(model=MODELS["openai"], contents="Hi")
    assert (limited.value.code, limited.value.status) == (429, "RESOURCE_EXHAUSTED")
    status, _, body = await raw(server, "demo/echo", HI, **{"Host": "evil.example"})
    assert (status, json.loads(body)["error"]["status"]) == (403, "PERMISSION_DENIED")
    server.play("openai")


@pytest.mark.parametrize("version", ["v1", "v1beta"])
@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent", "countTokens"])
async def test_a_name_of_several_lines_is_refused_in_googles_words_too(
    server: Front, version: str, method: str
) -> None:
    url = URL(f"{server.process.url}/{version}/models/demo/ec%0Aho:{method}", encoded=True)
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json={"contents": [{"parts": [{"text": "Hi"}]}]}) as told,
    ):
        error = (await told.json())["error"]
        assert (told.status, error.keys()) == (error["code"], {"code", "message", "status"})
        assert 400 <= told.status < 500


async def test_an_error_in_mid_stream_is_raised_by_the_client(server: Front, client: Any) -> None:
    chunk = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    error = b'data: {"error":{"message":"broke","code":500}}\n\n'
    server.answer("openai", Script(chunk + error, content_type="text/event-stream"))
    stream = await client.models.generate_content_stream(model=MODELS["openai"], contents="Hi")
    assert (await anext(stream)).text == "a"
    with pytest.raises(APIError) as raised:
        await anext(stream)
    assert (raised.value.code, raised.value.message) == (500, "broke")
    server.play("openai")


async def test_tokens_are_guessed_and_models_listed(server: Front, client: Any) -> None:
    assert (await client.models.count_tokens(model="demo/echo", contents="Hi there")).total_tokens > 1
    status, headers, body = await raw(server, "demo/echo", {"generateContentRequest": HI}, "countTokens")
    assert (status, headers["x-abstractcore-estimated"]) == (200, "true")
    assert json.loads(body)["totalTokens"] > 1
    beta = client_of(server.process.url, version="v1beta").aio
    names = [model.name async for model in await beta.models.list()]
    assert "models/demo/echo" in names
    found = await beta.models.get(model="demo/echo")
    assert (found.name, "generateContent" in found.supported_actions) == ("models/demo/echo", True)
    with pytest.raises(ClientError) as missing:
        await beta.models.get(model="demo/nothing")
    assert missing.value.status == "NOT_FOUND"
    await beta.aclose()


async def test_the_key_is_taken_where_googles_clients_put_it(tmp_path: Path) -> None:
    """In a header, or in the URL of these routes and no other."""
    key = "sk-of-google"
    async with front(tmp_path, env={"ABSTRACTCORE_API_KEY": key}) as keyed:
        made = client_of(keyed.process.url, key).aio
        assert (await made.models.generate_content(model="demo/echo", contents="Hi")).text == "Hi"
        await made.aclose()
        status, _, _ = await raw(keyed, "demo/echo", HI, f"generateContent?key={key}")
        assert status == 200
        for method, headers in (("generateContent?key=wrong", {}), (GENERATE, {"x-goog-api-key": "wrong"})):
            status, _, body = await raw(keyed, "demo/echo", HI, method, **headers)
            assert (status, json.loads(body)["error"]["status"]) == (401, "UNAUTHENTICATED")
        async with aiohttp.ClientSession() as session, session.get(f"{keyed.url}/models?key={key}") as elsewhere:
            assert elsewhere.status == 401


class Impatient(Paced):
    pace = Pace(ping_s=0.05)


async def test_a_silent_stream_is_kept_alive_by_what_the_client_does_not_read(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        held = Script(calling({"name": "f", "arguments": "{}"}).body, content_type="text/event-stream", delay_s=0.5)
        upstream.script("POST /v1/chat/completions", held)
        async with gateway(tmp_path / "logs", upstream.base_url, kind=Impatient) as served:
            made = client_of(served.url).aio
            chunks = [
                c async for c in await made.models.generate_content_stream(model="openai-compatible/m", contents="Hi")
            ]
            await made.aclose()
    assert [call.name for chunk in chunks for call in chunk.function_calls or ()] == ["f"]


async def test_a_comment_would_break_the_client() -> None:
    """The deliberate bug: what keeps other streams alive."""
    async with ScriptedServer() as upstream:
        body = b': ping\n\ndata: {"candidates":[]}\n\n'
        upstream.script("POST /v1/models/m:streamGenerateContent", Script(body, content_type="text/event-stream"))
        made = client_of(upstream.base_url).aio
        with pytest.raises(UnknownApiResponseError):
            [chunk async for chunk in await made.models.generate_content_stream(model="m", contents="Hi")]
        await made.aclose()


async def test_every_answer_renders_to_what_was_sent(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out
