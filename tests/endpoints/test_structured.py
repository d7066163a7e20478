"""POST /v1/generate/structured: the object and nothing else, from every family, checked whatever the provider said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from pydantic import BaseModel

from gateway.wire.structured import StructuredDialect, schema_of
from gateway.wire.values import Delta, Fold, WireError
from replay.cli import run as replay
from tests.clients.front import MODELS, PLACES, Front, front
from tests.spoilt import failure

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/generate/structured"
FIELDS = {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}}
ASKED: Any = {"prompt": "Extract: John Doe is 25 years old and lives in New York", "response_model": FIELDS}
JOHN = '{"name": "John Doe", "age": 25, "city": "New York"}'
CLOSED = {
    "type": "object", "properties": FIELDS, "required": ["name", "age", "city"], "additionalProperties": False
}  # fmt: skip


class Person(BaseModel):
    name: str
    age: int
    friends: list[Person] = []


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("structured")) as started:
        yield started


async def post(server: Front, body: Any) -> tuple[int, bytes, Any]:
    async with aiohttp.ClientSession() as session, session.post(server.url + PATH, json=body) as answer:
        return answer.status, await answer.read(), answer.headers


def holds(value: Any, wanted: Any) -> bool:
    """Whether the wanted value stands somewhere in it."""
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(value == wanted) or any(holds(each, wanted) for each in within)


@pytest.mark.parametrize("provider", PLACES)
async def test_the_bare_object_comes_from_every_provider(server: Front, provider: str) -> None:
    server.say(provider, JOHN)
    status, said, headers = await post(server, {**ASKED, "model": MODELS[provider]})
    assert (status, said) == (200, JOHN.encode())
    assert headers["content-type"] == "application/json"
    assert holds(server.asked(provider)[-1].json(), CLOSED)


async def test_a_wrong_answer_is_asked_for_again_though_the_provider_has_formats(server: Front) -> None:
    server.say("openai", "not JSON", '{"name": "John Doe"}', f"```json\n{JOHN}\n```")
    status, said, headers = await post(server, {**ASKED, "model": MODELS["openai"]})
    assert (status, said) == (200, JOHN.encode())
    last = server.asked("openai")[-1].json()
    assert last["response_format"]["json_schema"]["schema"] == CLOSED
    assert [message["role"] for message in last["messages"]] == ["user", "assistant", "user", "assistant", "user"]
    assert "'age' is a required property" in last["messages"][-1]["content"]
    url = f"{server.url}/requests/{headers['x-request-id']}/stream"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert await answer.read() == said


async def test_three_wrong_answers_are_an_error(server: Front) -> None:
    server.say("ollama", '{"name": 1}')
    before = len(server.asked("ollama"))
    status, said, _ = await post(server, {**ASKED, "model": MODELS["ollama"]})
    assert (status, json.loads(said)["error"]["code"]) == (502, "validation_failed")
    assert len(server.asked("ollama")) - before == 3


async def test_a_pydantic_schema_and_messages(server: Front) -> None:
    found = '{"name":"Ada","age":36,"friends":[{"name":"Charles","age":44}]}'
    server.say("anthropic", found)
    asked = {
        "model": MODELS["anthropic"],
        "messages": [
            {"role": "system", "content": "Extract."},
            {"role": "user", "content": "Ada, 36, and Charles, 44"},
        ],
        "response_model": Person.model_json_schema(),
        "max_tokens": 200,
    }
    status, said, _ = await post(server, asked)
    assert status == 200
    assert Person.model_validate_json(said).friends[0].name == "Charles"
    assert said == found.encode()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "Hi"}, "response_model"),
    ({"response_model": FIELDS}, "prompt"),
    ({"prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}], "response_model": FIELDS}, "prompt"),
    ({"prompt": 3, "response_model": FIELDS}, "prompt"),
    ({"messages": [], "response_model": FIELDS}, "messages"),
    ({**ASKED, "response_model": {}}, "response_model"),
    ({**ASKED, "response_model": {"name": "string"}}, "response_model"),
    ({**ASKED, "response_model": {"name": {"type": "text"}}}, "response_model"),
    ({**ASKED, "response_model": {"$ref": "http://127.0.0.1/schema"}}, "response_model"),
    ({**ASKED, "stream": True}, "stream"),
    ({**ASKED, "n": 2}, "n"),
    ({**ASKED, "tools": [{"type": "function"}]}, "tools"),
    ({**ASKED, "response_format": {"type": "json_object"}}, "response_format"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
async def test_what_cannot_be_meant_is_refused_in_words(server: Front, body: dict[str, Any], param: str) -> None:
    status, said, _ = await post(server, {"model": "demo/echo", **body})
    error = json.loads(said)["error"]
    assert (status, error["param"], error["type"]) == (400, param, "invalid_request_error")


async def test_every_answer_renders_again(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out


SCHEMAS: list[tuple[dict[str, Any], bool]] = [
    ({"name": {"type": "string"}}, True),
    ({"type": {"type": "string"}, "properties": {"type": "object"}}, True),
    ({"type": "object", "properties": FIELDS}, False),
    ({"properties": FIELDS}, False),
    ({"$ref": "#/$defs/P", "$defs": {"P": {"type": "object"}}}, False),
    ({"anyOf": [{"type": "object"}]}, False),
]


@pytest.mark.parametrize(("model", "is_map"), SCHEMAS)
async def test_maps_of_fields_are_told_from_schemas(model: dict[str, Any], is_map: bool) -> None:
    made = schema_of(model)
    assert (made == model) is not is_map
    if is_map:
        assert (made["properties"], made["required"]) == (model, list(model))


NESTED: list[tuple[Any, Any]] = [
    ({"who": FIELDS}, {"who": CLOSED}),
    ({"who": {"at": FIELDS}}, {"who": schema_of({"at": FIELDS})}),
    ({"all": {"type": "array", "items": FIELDS}}, {"all": {"type": "array", "items": CLOSED}}),
    ({"who": {"type": "object"}}, {"who": {"type": "object"}}),
    ({"who": {"default": {"a": {}}}}, {"who": {"default": {"a": {}}}}),
    ({"who": {}}, {"who": {}}),
]


@pytest.mark.parametrize(("model", "properties"), NESTED)
async def test_maps_within_maps_are_maps_of_fields_too(model: Any, properties: Any) -> None:
    assert schema_of(model)["properties"] == properties


async def test_an_answer_that_fits_the_outer_map_alone_is_wrong(server: Front) -> None:
    right = json.dumps({"who": json.loads(JOHN)})
    server.say("openai", '{"who": "John"}', right)
    asked = {**ASKED, "response_model": {"who": FIELDS}, "model": MODELS["openai"]}
    assert (await post(server, asked))[:2] == (200, right.encode())


@pytest.mark.parametrize("depth", [200, 400, 900])
async def test_a_map_that_is_too_deep_is_refused(server: Front, depth: int) -> None:
    model: Any = {"type": "string"}
    for _ in range(depth):
        model = {"a": model}
    assert (await post(server, {**ASKED, "response_model": model, "model": "demo/echo"}))[0] == 400


async def test_an_answer_without_text_is_none() -> None:
    empty = Fold()
    empty.add([Delta(finish_reason="stop")])
    form: Any = None
    with pytest.raises(WireError):
        StructuredDialect().renderer(form).completed(empty)


@pytest.mark.parametrize(
    ("bug", "test", "said"),
    [
        ("believing", "test_a_wrong_answer_is_asked_for_again_though_the_provider_has_formats", "b'not JSON'"),
        ("rewording", "test_the_bare_object_comes_from_every_provider", '"name":"John Doe","age":25'),
    ],
)
async def test_twin_that_gives_another_object(bug: str, test: str, said: str) -> None:
    told = await asyncio.to_thread(failure, "tests.endpoints.careless", bug, f"endpoints/test_structured.py::{test}")
    assert said in told
