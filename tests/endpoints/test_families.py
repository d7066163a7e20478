"""The same conversation with every family: each is told the same, in its own place, and the client hears the same."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.clients.front import Front, front
from tests.endpoints.families import FAMILIES, Family, Reply
from tests.gateway.media import made
from tests.serverprocess import server_process

pytestmark = pytest.mark.asyncio(loop_scope="module")

PNG, PDF = made.image("png"), made.pdf()
SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "of a place", "parameters": SCHEMA}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
SYSTEM: Any = {"role": "system", "content": "Be brief."}
CALL: Any = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
PDF_PART = {"type": "file", "file": {"file_data": made.data_url("application/pdf", PDF), "filename": "r.pdf"}}
IMAGE_PART = {"type": "image_url", "image_url": {"url": made.data_url("image/png", PNG)}}


def user(*parts: Any) -> Any:
    """The user's message: a text, with files where there are any."""
    text = {"type": "text", "text": "What is it like?"}
    return {"role": "user", "content": [text, *parts] if parts else text["text"]}


@dataclass(frozen=True)
class Turn:
    """What is asked, what the model replies, and what it must have been told: thing -> a check of what stands there."""

    messages: list[Any]
    reply: Reply
    told: Mapping[str, Callable[[Any], bool]]
    more: Mapping[str, Any]


def turn(*messages: Any, reply: Reply, told: Mapping[str, Any], **more: Any) -> Turn:
    """`told` has values for checks of equality."""
    checks = {thing: one if callable(one) else (lambda found, one=one: found == one) for thing, one in told.items()}
    return Turn([SYSTEM, *messages], reply, checks, more)


def is_the_pdf(found: str) -> bool:
    """As it is, or what stands in it."""
    return found == b64encode(PDF).decode() or made.WORD in found


TURNS: Mapping[str, Turn] = {
    "text": turn(
        user(), reply=Reply("Fine → thanks."), told={"instructions": "Be brief.", "question": user()["content"]},
    ),
    "image": turn(user(IMAGE_PART), reply=Reply("Red."), told={"image": b64encode(PNG).decode()}),
    "pdf": turn(user(PDF_PART), reply=Reply("A word."), told={"document": is_the_pdf}),
    "call": turn(
        user(), reply=Reply("Let me see.", call=("get_weather", {"city": "Oslo"})), told={"tool": "get_weather"},
        tools=TOOLS,
    ),
    "result": turn(
        user(), {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12 °C"},
        reply=Reply("Mild."), told={"call": {"city": "Oslo"}, "result": "12 °C"}, tools=TOOLS,
    ),
    "reasoning": turn(
        user(), reply=Reply("No.", thinking="27 is 3³."), told={"effort": "high"}, reasoning_effort="high",
    ),
    "schema": turn(user(), reply=Reply('{"city": "Oslo"}'), told={"schema": SCHEMA}, response_format=FORMAT),
}  # fmt: skip


@dataclass(frozen=True)
class Heard:
    """What the client got."""

    text: str
    thinking: str
    call: tuple[str, dict[str, Any]] | None
    reason: str
    tokens: tuple[int, int]


async def ask(client: AsyncOpenAI, model: str, asked: Turn, streamed: bool, **more: Any) -> Heard:
    """One turn through the official client."""
    fields: Any = {"model": model, "messages": asked.messages, **asked.more, "extra_body": more}
    if not streamed:
        whole = await client.chat.completions.create(**fields)
        return _heard(whole.choices[0].message, whole.choices[0].finish_reason, whole.usage)
    async with client.chat.completions.stream(**fields, stream_options={"include_usage": True}) as stream:
        thinking = ""
        async for event in stream:
            if event.type == "chunk" and event.chunk.choices:
                thinking += getattr(event.chunk.choices[0].delta, "reasoning_content", None) or ""
        final = await stream.get_final_completion()
    message = final.choices[0].message
    return _heard(message, final.choices[0].finish_reason, final.usage, thinking)


def _heard(message: Any, reason: Any, usage: Any, thinking: str | None = None) -> Heard:
    if thinking is None:
        thinking = getattr(message, "reasoning_content", None) or ""
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]
    assert len(calls) <= 1
    tokens = (usage.prompt_tokens, usage.completion_tokens)
    return Heard((message.content or "").strip(), thinking, calls[0] if calls else None, reason, tokens)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("families")) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(server: Front) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.url, api_key="not-needed", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("subject", TURNS)
async def test_each_family_is_told_the_same_and_heard_the_same(
    server: Front, client: AsyncOpenAI, subject: str, family: Family, streamed: bool
) -> None:
    asked = TURNS[subject]
    server.answer(family.provider, family.answer(asked.reply))
    heard = await ask(client, family.model, asked, streamed, **family.more)
    told = server.asked(family.provider)[-1].json()
    for thing, check in asked.told.items():
        assert check(found := family.at[thing](told)), f"{thing}: {found!r}"
    reply = asked.reply
    reason = "tool_calls" if reply.call else "stop"
    assert heard == Heard(reply.text, reply.thinking, reply.call, reason, (10, 4))


async def test_the_check_notices_a_family_that_is_told_less(server: Front, client: AsyncOpenAI) -> None:
    family, asked = FAMILIES["anthropic"], TURNS["text"]
    server.answer(family.provider, family.answer(asked.reply))
    await ask(client, family.model, Turn(asked.messages[1:], asked.reply, {}, {}), streamed=False)
    with pytest.raises(KeyError, match="system"):
        family.at["instructions"](server.asked(family.provider)[-1].json())


LOCAL = {
    "plain": "Fine.",
    "json": '{"city": "Oslo"}',
    "calling": '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>',
}
"""Model -> the one sentence that it says."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def local(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AsyncOpenAI]:
    """A client of a server with models of its own."""
    for package in ("torch", "transformers", "mlx_lm"):
        if find_spec(package) is None:
            pytest.skip(f"not installed here: {package}")
    from tests.clients.one_sentence_model import write_model  # it needs mlx-lm

    home = tmp_path_factory.mktemp("local")
    for name, sentence in LOCAL.items():
        write_model(home / "models" / name, sentence, positions=50_000)
    env = {
        "ABSTRACTCORE_MODELS_ROOT": str(home / "models"),
        "HF_HUB_OFFLINE": "1",
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
    }
    async with (
        server_process(home / "logs", env=env) as server,
        AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as client,
    ):
        yield client


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("subject", "model", "expected"),
    [
        ("text", "plain", ("Fine.", None)),
        ("pdf", "plain", ("Fine.", None)),
        ("call", "calling", ("", ("get_weather", {"city": "Oslo"}))),
        ("result", "plain", ("Fine.", None)),
        ("schema", "json", ('{"city": "Oslo"}', None)),
    ],
)
async def test_a_model_of_our_own_is_heard_the_same(
    local: AsyncOpenAI, subject: str, model: str, expected: Any, streamed: bool
) -> None:
    heard = await ask(local, f"huggingface/{model}", TURNS[subject], streamed)
    assert (heard.text, heard.call) == expected
    assert heard.reason == ("tool_calls" if heard.call else "stop")
    assert heard.tokens[0] > heard.tokens[1] > 0


async def test_a_model_of_our_own_sees_nothing_and_says_so(local: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="image"):
        await ask(local, "huggingface/plain", TURNS["image"], streamed=False)
