"""Every answer and every event of a stream is what the published schemas promise, from every family: OpenAI's, and of
Responses that of Open Responses too."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.clients.front import MODELS, STREAM, WHOLE, Front, front, saying
from tests.endpoints.openai_schema import check, check_open, open_events
from tests.gateway.scripted import Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

HI = [{"role": "user", "content": "Hi"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "of a place", "parameters": PARAMETERS}
CALLED = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


@dataclass(frozen=True)
class Case:
    """What one provider answers: `stream` and `whole` are scripts of its family, the plain ones where none is named;
    `text` stands for both. `more` is what the request says besides."""

    provider: str
    stream: str | None = None
    whole: str | None = None
    text: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        return MODELS.get(self.provider, "demo/echo")

    def play(self, server: Front) -> None:
        if self.provider == "demo":
            return
        if self.text is not None:
            text = self.text
            server.answer(self.provider, lambda asked: (telling if asked.json().get("stream") else saying_it)(text))
        else:
            server.play(self.provider, self.stream, self.whole)


CASES: Mapping[str, Case] = {
    "text of openai": Case("openai"),
    "text of openai-compatible": Case("openai-compatible"),
    "text of openrouter": Case("openrouter", "openai/openrouter.sse"),
    "text of anthropic": Case("anthropic"),
    "text of ollama": Case("ollama"),
    "text of demo": Case("demo"),
    "logprobs of openai": Case("openai", "openai/logprobs.sse", more={"logprobs": True}),
    "logprobs of ollama": Case("ollama", "ollama/logprobs.ndjson", more={"logprobs": True}),
    "calls of openai": Case("openai", "openai/tools.sse", "openai/body_tools.json"),
    "calls of anthropic": Case("anthropic", "anthropic/tools.sse"),
    "calls of ollama": Case("ollama", "ollama/tools.ndjson"),
    "calls in a prompt": Case("openai-compatible", text=CALLED, more={"tool_mode": "prompted"}),
    "reasoning of openai": Case("openai", "openai/reasoning.sse"),
    "reasoning of anthropic": Case("anthropic", "anthropic/thinking.sse"),
    "reasoning of ollama": Case("ollama", "ollama/thinking.ndjson"),
    "refusal of openai": Case("openai", "openai/refusal.sse"),
    "refusal of anthropic": Case("anthropic", "anthropic/refusal.sse"),
    "citations of openai": Case("openai", "openai/citations.sse", "openai/body_citations.json"),
    "usage of mlx-lm": Case("openai-compatible", "openai/mlx_lm.sse"),
    "an error of openai": Case("openai", "openai/error.sse"),
    "an error of anthropic": Case("anthropic", "anthropic/error.sse"),
    "an error of ollama": Case("ollama", "ollama/error.ndjson"),
}


def saying_it(text: str) -> Script:
    return saying("openai", text)


def telling(text: str) -> Script:
    """A stream that says this, letter by letter."""
    choices: list[Any] = [{"index": 0, "delta": {"content": letter}} for letter in text]
    chunks = [
        {"id": "c", "choices": [choice]} for choice in [*choices, {"index": 0, "delta": {}, "finish_reason": "stop"}]
    ]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    return Script(body.encode(), content_type="text/event-stream")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("schema")) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(http: aiohttp.ClientSession, server: Front, path: str, body: Any) -> tuple[int, bytes]:
    async with http.post(server.url + path, json=body) as answer:
        return answer.status, await answer.read()


async def get(http: aiohttp.ClientSession, server: Front, path: str) -> Any:
    async with http.get(server.url + path) as answer:
        return await answer.json()


def events(stream: bytes) -> list[Any]:
    """The values of an SSE stream, without comments and the end's mark."""
    lines = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def check_stream(name: str, stream: bytes) -> list[Any]:
    """Each event by this schema, but for an error, which has its own."""
    found = events(stream)
    assert found
    for event in found:
        check("ErrorResponse" if "error" in event and name != "ResponseStreamEvent" else name, event)
    return found


def check_whole(name: str, status: int, body: bytes) -> Any:
    answer = json.loads(body)
    check(name if status == 200 else "ErrorResponse", answer)
    return answer


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_chat(server: Front, http: aiohttp.ClientSession, case: Case) -> None:
    case.play(server)
    tools = [{"type": "function", "function": FUNCTION}]
    body = {"model": case.model, "messages": HI, "tools": tools, **case.more}
    check_whole("CreateChatCompletionResponse", *await ask(http, server, "/chat/completions", body))
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    status, stream = await ask(http, server, "/chat/completions", body | usage)
    assert status == 200
    check_stream("CreateChatCompletionStreamResponse", stream)


@pytest.mark.parametrize("summary", [None, "auto"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_responses(server: Front, http: aiohttp.ClientSession, case: Case, summary: str | None) -> None:
    case.play(server)
    tools = [{"type": "function", "strict": False, **FUNCTION}]
    reasoning = {"reasoning": {"summary": summary}} if summary else {}
    more = {"include": ["message.output_text.logprobs"]} if case.more.get("logprobs") else case.more
    body = {"model": case.model, "input": "Hi", "tools": tools, **reasoning, **more}
    whole = check_whole("Response", *await ask(http, server, "/responses", body))
    found = check_stream("ResponseStreamEvent", (await ask(http, server, "/responses", body | {"stream": True}))[1])
    response_id = found[0]["response"]["id"]
    for event in found:
        if event["type"] in open_events():
            check_open(open_events()[event["type"]], event)
    stored = await get(http, server, f"/responses/{response_id}")
    check("Response", stored)
    check_open("ResponseResource", stored)
    if whole.get("object") == "response":
        check("ResponseItemList", await get(http, server, f"/responses/{whole['id']}/input_items"))


async def test_what_a_response_repeats_is_filled_up(server: Front, http: aiohttp.ClientSession) -> None:
    """Clients say parts of objects; strict ones read all of them."""
    Case("openai").play(server)
    body = {
        "model": MODELS["openai"], "input": "Hi", "reasoning": {"effort": "low"}, "text": {"verbosity": "low"},
        "tools": [{"type": "function", "name": "f"}], "temperature": 0.5, "max_tool_calls": 3, "service_tier": "flex",
        "prompt_cache_key": "k", "safety_identifier": "s",
    }  # fmt: skip
    whole = check_whole("Response", *await ask(http, server, "/responses", body))
    check_open("ResponseResource", whole)
    assert whole["reasoning"] == {"effort": "low", "summary": None}
    assert whole["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert whole["tools"] == [
        {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None}
    ]
    said = ("temperature", "top_p", "max_tool_calls", "prompt_cache_key", "safety_identifier")
    assert [whole[name] for name in said] == [0.5, 1, 3, "k", "s"]


async def test_responses_of_custom_tools(server: Front, http: aiohttp.ClientSession) -> None:
    text = '<tool_call>\n{"name": "apply_patch", "arguments": {"input": "*** Begin"}}\n</tool_call>'
    Case("openai-compatible", text=text).play(server)
    tools = [{"type": "custom", "name": "apply_patch", "description": "of files"}]
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}", "status": "completed"}
    items: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Patch it."}]},
        {"role": "assistant", "content": "Patched."},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
        call,
        {"type": "function_call_output", "call_id": "c1", "output": "a file"},
    ]
    body = {"model": MODELS["openai-compatible"], "input": items, "tools": tools, "tool_mode": "prompted"}
    whole = check_whole("Response", *await ask(http, server, "/responses", body))
    assert whole["output"][-1]["type"] == "custom_tool_call"
    check_stream("ResponseStreamEvent", (await ask(http, server, "/responses", body | {"stream": True}))[1])
    check("ResponseItemList", await get(http, server, f"/responses/{whole['id']}/input_items"))


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama", "demo"])
async def test_completions(server: Front, http: aiohttp.ClientSession, provider: str) -> None:
    Case(provider).play(server)
    for stream, script in (("stream", "completions/text.sse"), ("body", "completions/body.json")):
        server.upstream.script("POST /openai/v1/completions", Script.file(script))
        body = {"model": MODELS.get(provider, "demo/echo"), "prompt": "Hi", "stream": stream == "stream"}
        status, answer = await ask(http, server, "/completions", body)
        if stream == "stream":
            check_stream("CreateCompletionResponse", answer)
        else:
            check_whole("CreateCompletionResponse", status, answer)


@pytest.mark.parametrize("provider", ["openai", "ollama"])
@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings(server: Front, http: aiohttp.ClientSession, provider: str, encoding: str) -> None:
    server.upstream.script("POST /openai/v1/embeddings", Script.file("whole/embeddings.json"))
    server.upstream.script("POST /ollama/api/embed", Script.file("ollama_embed/body.json"))
    body = {"model": MODELS[provider], "input": ["Hi", "you"], "encoding_format": encoding}
    status, answer = await ask(http, server, "/embeddings", body)
    value = json.loads(answer)
    if encoding == "base64":  # the schema has numbers only, though its clients ask for this by default
        assert all(isinstance(item.pop("embedding"), str) for item in value["data"])
        value["data"] = [item | {"embedding": [0.5]} for item in value["data"]]
    assert status == 200
    check("CreateEmbeddingResponse", value)


OTHERS: Mapping[str, tuple[str, Script, dict[str, Any]]] = {
    "/images/generations": ("ImagesResponse", Script.file("whole/image.json"), {"prompt": "a cat"}),
    "/audio/transcriptions": (
        "CreateTranscriptionResponseJson", Script.json({"text": "Hi"}), {"file": {"filename": "a.wav", "data": "aGk="}},
    ),
    "/moderations": (
        "CreateModerationResponse", Script.json({"id": "m", "model": "o", "results": []}), {"input": "Hi"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", OTHERS)
async def test_the_rest(server: Front, http: aiohttp.ClientSession, path: str) -> None:
    name, script, body = OTHERS[path]
    server.upstream.script(f"POST /openai/v1{path}", script)
    assert check_whole(name, *await ask(http, server, path, {"model": "openai/some", **body}))
    refused = json.loads((await ask(http, server, path, {"model": "anthropic/some", **body}))[1])
    check("ErrorResponse", refused)


async def test_models(server: Front, http: aiohttp.ClientSession) -> None:
    listed = await get(http, server, "/models")
    check("ListModelsResponse", listed)
    assert listed["data"]
    check("Model", await get(http, server, f"/models/{listed['data'][0]['id']}"))
    check("ErrorResponse", await get(http, server, "/models/no/such"))


@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/completions", "/embeddings"])
@pytest.mark.parametrize("body", [{}, {"model": 7}, {"model": "openai/m", "input": [], "messages": [], "prompt": {}}])
async def test_refusals(server: Front, http: aiohttp.ClientSession, path: str, body: Any) -> None:
    status, answer = await ask(http, server, path, body)
    assert 400 <= status < 500
    check("ErrorResponse", json.loads(answer))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("CreateChatCompletionResponse", {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}),
        ("ResponseStreamEvent", {"type": "response.output_text.delta", "delta": "x", "sequence_number": 1}),
        ("ErrorResponse", {"error": {"message": "no", "type": "e"}}),
    ],
)
async def test_the_check_notices_what_is_missing(name: str, wrong: Any) -> None:
    with pytest.raises(AssertionError, match=r"is a required property|is not valid"):
        check(name, wrong)


async def test_every_family_has_its_cases() -> None:
    assert {"openai", "anthropic", "ollama"} == STREAM.keys() == WHOLE.keys()
    assert {case.provider for case in CASES.values()} >= {"openai", "anthropic", "ollama", "demo"}
