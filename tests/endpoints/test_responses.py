"""OpenAI's Responses over every provider, with the official client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from replay.cli import run as replay
from tests.clients.front import MODELS, Front, front
from tests.endpoints.families import FAMILIES, Reply
from tests.endpoints.test_messages import calling
from tests.gateway.raw import RawClient, ask, request
from tests.gateway.scripted import Script
from tests.spoilt import failure

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PATCH: Any = {"type": "custom", "name": "apply_patch", "description": "of files"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("responses")) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(server: Front) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.url, api_key="not-needed", max_retries=0) as made:
        yield made


async def call(server: Front, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{server.url}{path}", json=body) as answer,
    ):
        return answer.status, await answer.read()


def events(stream: bytes) -> list[dict[str, Any]]:
    """Each event, of the SDK's type, named as it is, numbered without a gap."""
    frames = [frame for frame in stream.decode().split("\n\n") if frame and not frame.startswith(":")]
    found = [json.loads(frame.split("\ndata: ", 1)[1]) for frame in frames]
    assert [frame.split("\n")[0] for frame in frames] == [f"event: {event['type']}" for event in found]
    for event in found:
        EVENT.validate_python(event)
    return found


def request_id(response_id: str) -> str:
    return response_id.removeprefix("resp_")


@pytest.mark.parametrize("provider", MODELS)
async def test_every_provider_answers(server: Front, client: AsyncOpenAI, provider: str) -> None:
    server.play(provider)
    whole = await client.responses.create(model=MODELS[provider], input="Hi", instructions="Be brief.")
    assert whole.output_text
    assert (whole.status, whole.instructions) == ("completed", "Be brief.")
    assert whole.usage is not None
    assert whole.usage.total_tokens > 0
    async with client.responses.stream(model=MODELS[provider], input="Hi") as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert final.output_text
    assert (await client.responses.retrieve(whole.id)).model_dump() == whole.model_dump()


async def test_a_stream_has_its_events_in_order(server: Front) -> None:
    server.play("openai")
    _, body = await call(server, "POST", "/responses", {"model": MODELS["openai"], "input": "Hi", "stream": True})
    found = events(body)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    types = list(dict.fromkeys(event["type"] for event in found))
    assert types == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed",
    ]  # fmt: skip
    text = "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
    response = Response.model_validate(found[-1]["response"])
    assert response.output_text == text
    status, again = await call(server, "GET", f"/requests/{request_id(response.id)}/stream")
    assert (status, again) == (200, body)


async def test_a_stream_is_resumed_after_any_event(server: Front, client: AsyncOpenAI) -> None:
    server.play("ollama")
    _, body = await call(server, "POST", "/responses", {"model": MODELS["ollama"], "input": "Hi", "stream": True})
    found = events(body)
    response_id = found[0]["response"]["id"]
    for after in (0, 3, len(found) - 2, len(found)):
        _, rest = await call(server, "GET", f"/responses/{response_id}?stream=true&starting_after={after}")
        assert events(rest) == found[after + 1 :]
    whole = await client.responses.create(model=MODELS["ollama"], input="Hi")
    resumed = [event async for event in await client.responses.retrieve(whole.id, stream=True)]
    assert resumed[-1].type == "response.completed"


async def test_what_streams_has_no_body_to_be_asked_for_without_it(server: Front, client: AsyncOpenAI) -> None:
    """HEAD: the head of an answer that has an end, else a refusal."""
    server.play("openai")
    made = await client.responses.create(model=MODELS["openai"], input="Hi")
    async with asyncio.timeout(60):
        for path, status in (
            (f"/responses/{made.id}?stream=true", b"200"),
            (f"/responses/{made.id}", b"200"),
            ("/events/stream", b"405"),
            ("/stream", b"405"),
        ):
            reader, writer = await asyncio.open_connection(*server.url.split("/")[2].split(":"))
            writer.write(f"HEAD /v1{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert (head.split(b" ")[1], body) == (status, b""), path
            assert (b"text/event-stream" in head) is path.endswith("stream=true")
            writer.close()


async def test_functions_go_there_and_back(server: Front, client: AsyncOpenAI) -> None:
    pieces = ({"name": "get_weather", "arguments": ""}, {"arguments": '{"city":'}, {"arguments": '"Oslo"}'})
    server.answer("openai", calling(*pieces))
    async with client.responses.stream(model=MODELS["openai"], input="Weather?", tools=[WEATHER]) as stream:
        async for _ in stream:
            pass
        first = await stream.get_final_response()
    [made] = first.output
    assert made.type == "function_call"
    assert (made.name, made.arguments, made.call_id) == ("get_weather", '{"city":"Oslo"}', "call_1")

    server.play("openai")
    result: Any = {"type": "function_call_output", "call_id": made.call_id, "output": "22 °C"}
    second = await client.responses.create(
        model=MODELS["openai"], input=[result], tools=[WEATHER], previous_response_id=first.id
    )
    told = server.asked("openai")[-1].json()["messages"]
    assert [m["role"] for m in told] == ["user", "assistant", "tool"]
    assert told[1]["tool_calls"][0]["function"]["arguments"] == '{"city":"Oslo"}'
    assert (told[2]["tool_call_id"], told[2]["content"]) == ("call_1", "22 °C")
    assert second.previous_response_id == first.id


async def test_a_large_part_goes_on_in_a_stored_conversation(server: Front, client: AsyncOpenAI) -> None:
    """A part over 1 KiB, as any image is, lies beside its item."""
    parts: Any = [{"type": "input_text", "text": "What is this?"}, {"type": "input_text", "text": "long " * 400}]
    server.play("openai")
    first = await client.responses.create(model=MODELS["openai"], input=[{"role": "user", "content": parts}])
    server.play("openai")
    await client.responses.create(model=MODELS["openai"], input="And?", previous_response_id=first.id)
    assert [part["text"] for part in server.asked("openai")[-1].json()["messages"][0]["content"]] == [
        part["text"] for part in parts
    ]
    items = await client.responses.input_items.list(first.id)
    assert items.data[0].content[1].text == parts[1]["text"]  # type: ignore[union-attr]


async def test_signed_thinking_goes_back_to_who_signed_it(server: Front, client: AsyncOpenAI) -> None:
    family = FAMILIES["anthropic"]
    reply = Reply("Let me see.", thinking="It is far north.", call=("get_weather", {"city": "Oslo"}))
    server.answer("anthropic", family.answer(reply))
    fields: Any = {"tools": [WEATHER], "include": ["reasoning.encrypted_content"], "store": False}
    user: Any = {"role": "user", "content": "Weather?"}
    async with client.responses.stream(model=MODELS["anthropic"], input=[user], **fields) as stream:
        first = await stream.get_final_response()
    result: Any = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "12"}  # type: ignore[union-attr]
    items = [user, *(item.model_dump(exclude_none=True) for item in first.output), result]
    await client.responses.create(model=MODELS["anthropic"], input=items, **fields)
    thinking = {"type": "thinking", "thinking": reply.thinking, "signature": "c2lnbmVk"}
    assert server.asked("anthropic")[-1].json()["messages"][1]["content"][0] == thinking
    server.play("openai")
    await client.responses.create(model=MODELS["openai"], input=items, **fields)
    assert "thinking_blocks" not in server.asked("openai")[-1].json()["messages"][1]


async def test_signed_thinking_goes_on_in_a_stored_conversation(server: Front, client: AsyncOpenAI) -> None:
    server.answer("anthropic", FAMILIES["anthropic"].answer(Reply("Cold.", thinking="It is far north.")))
    first = await client.responses.create(model=MODELS["anthropic"], input="Weather?")
    assert first.output[0].encrypted_content is None  # type: ignore[union-attr]
    await client.responses.create(model=MODELS["anthropic"], input="Sure?", previous_response_id=first.id)
    assert server.asked("anthropic")[-1].json()["messages"][1]["content"][0]["signature"] == "c2lnbmVk"


def reference(item_id: str) -> Any:
    return {"type": "item_reference", "id": item_id}


async def test_items_are_named_again_in_place_of_saying_them(server: Front, client: AsyncOpenAI) -> None:
    """As Vercel's AI SDK does: what the model said is sent by its ids, over providers and chains of such requests."""
    reply = Reply("Let me see.", thinking="It is far north.", call=("get_weather", {"city": "Oslo"}))
    server.answer("anthropic", FAMILIES["anthropic"].answer(reply))
    user: Any = {"role": "user", "content": "Weather?"}
    first = await client.responses.create(model=MODELS["anthropic"], input=[user], tools=[WEATHER])
    result: Any = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "12"}  # type: ignore[union-attr]
    again: Any = [user, *(reference(item.id or "") for item in first.output), result]
    second = await client.responses.create(model=MODELS["anthropic"], input=again, tools=[WEATHER])
    _, said, given = server.asked("anthropic")[-1].json()["messages"]
    assert given["content"][0]["content"] == "12"
    assert [block["type"] for block in said["content"]] == ["thinking", "text", "tool_use"]
    assert said["content"][0]["signature"] == "c2lnbmVk"
    server.play("openai")
    listed = (await client.responses.input_items.list(first.id)).data[0].id
    more: Any = [reference(str(listed)), user]
    asking = client.responses.with_raw_response.create(
        model=MODELS["openai"], input=more, previous_response_id=second.id, store=False
    )
    assert "item_reference" not in (await asking).headers.get("x-abstractcore-ignored", "")
    roles = [message["role"] for message in server.asked("openai")[-1].json()["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "user"]


async def test_what_had_come_of_an_answer_that_was_stopped_can_be_named(server: Front, client: AsyncOpenAI) -> None:
    """As chats with a button to stop do."""
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Once upon"}, "finish_reason": None}]}
    server.answer(
        "openai", Script(f"data: {json.dumps(chunk)}\n\n".encode(), content_type="text/event-stream", hold=True)
    )
    stream = await client.responses.create(model=MODELS["openai"], input="A tale!", stream=True)
    async for event in stream:
        if event.type == "response.output_text.delta":
            break
    server.play("openai")
    more: Any = [reference(event.item_id), {"role": "user", "content": "Go on."}]  # type: ignore[union-attr]
    for stopped in (False, True):
        if stopped:
            await stream.close()
            await until(client, f"resp_{event.item_id.split('_')[1]}", "cancelled")  # type: ignore[union-attr]
        await client.responses.create(model=MODELS["openai"], input=more)
        assert server.asked("openai")[-1].json()["messages"][0] == {"role": "assistant", "content": "Once upon"}


@pytest.mark.parametrize("kind", ["unknown", "deleted", "not stored", "not retained", "another place"])
async def test_a_reference_to_nothing_is_refused(server: Front, client: AsyncOpenAI, kind: str) -> None:
    server.play("openai")
    headers = {"x-abstractcore-retention": "none"} if kind == "not retained" else {}
    made = await client.responses.create(
        model=MODELS["openai"], input="Hi", store=kind != "not stored", extra_headers=headers
    )
    if kind == "deleted":
        await client.responses.delete(made.id)
    name = {"unknown": "msg_68f0", "another place": f"msg_{request_id(made.id)}_7"}.get(kind, str(made.output[0].id))
    asked = len(server.asked("openai"))
    body = {"model": MODELS["openai"], "input": [reference(name), {"role": "user", "content": "Sure?"}]}
    status, answer = await call(server, "POST", "/responses", body)
    error = {"message": f"Item with id '{name}' not found.", "type": "invalid_request_error", "param": "input"}
    assert (status, json.loads(answer)["error"]) == (404, {**error, "code": None})
    assert len(server.asked("openai")) == asked


async def test_a_few_references_to_much_reach_no_provider(server: Front) -> None:
    server.play("openai")
    much = await ask(server.process.url, {"model": MODELS["openai"], "input": "x" * (5 << 20)}, "/v1/responses")
    asked = len(server.asked("openai"))
    named = reference(f"item_{request_id(much.json()['id'])}_0")
    answer = await ask(server.process.url, {"model": MODELS["openai"], "input": [named] * 9}, "/v1/responses")
    assert answer.status == 413
    assert answer.json()["error"]["param"] == "input"
    assert len(server.asked("openai")) == asked


async def test_a_conversation_that_is_larger_than_a_request_may_be_goes_on_no_more(server: Front) -> None:
    server.play("openai")
    body: dict[str, Any] = {"model": MODELS["openai"], "input": "x" * (16 << 20)}
    for _ in range(3):
        answer = await ask(server.process.url, body, "/v1/responses")
        body = {**body, "previous_response_id": answer.json()["id"]}
    asked = len(server.asked("openai"))
    refused = await ask(server.process.url, {**body, "input": "And now?"}, "/v1/responses")
    assert refused.status == 413
    assert refused.json()["error"]["param"] == "previous_response_id"
    assert len(server.asked("openai")) == asked


async def test_what_is_left_out_is_named(server: Front) -> None:
    server.play("openai")
    body = {"model": MODELS["openai"], "input": "Hi", "tools": [{"type": "web_search"}], "truncation": "auto"}
    async with aiohttp.ClientSession() as session, session.post(f"{server.url}/responses", json=body) as answer:
        assert answer.headers["x-abstractcore-ignored"] == "tools[].web_search, truncation"


async def test_an_input_without_items_reaches_no_provider(server: Front) -> None:
    asked = len(server.asked("openai"))
    status, body = await call(server, "POST", "/responses", {"model": MODELS["openai"], "input": []})
    assert (status, json.loads(body)["error"]["param"], len(server.asked("openai"))) == (400, "input", asked)


async def test_what_agents_send_is_never_refused(server: Front, client: AsyncOpenAI) -> None:
    """Custom tools, namespaces, tools of the provider's, items of unknown kinds."""
    server.answer(
        "openai", calling({"name": "apply_patch", "arguments": '{"input": "*** Begin'}, {"arguments": ' Patch"}'})
    )
    body = {
        "model": MODELS["openai"], "stream": True, "store": False, "include": ["reasoning.encrypted_content"],
        "tools": [
            PATCH, {"type": "web_search"}, {"type": "new_kind", "x": 1},
            {"type": "namespace", "name": "mcp", "tools": [WEATHER]},
        ],
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
            {"role": "user", "content": "do"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
            {"type": "custom_tool_call", "call_id": "c0", "name": "apply_patch", "input": "a"},
            {"type": "custom_tool_call_output", "call_id": "c0", "output": "ok"},
            {"type": "unheard_of"},
        ],
    }  # fmt: skip
    status, stream = await call(server, "POST", "/responses", body)
    assert status == 200
    found = events(stream)
    [item] = found[-1]["response"]["output"]
    assert (item["type"], item["input"]) == ("custom_tool_call", "*** Begin Patch")
    sent = server.asked("openai")[-1].json()
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["apply_patch", "get_weather"]
    assert [m["role"] for m in sent["messages"]] == ["system", "user", "assistant", "tool"]
    status, _ = await call(server, "GET", f"/responses/{found[-1]['response']['id']}")
    assert status == 404  # not stored, and yet in the log
    status, again = await call(server, "GET", f"/requests/{request_id(found[-1]['response']['id'])}/stream")
    assert (status, again) == (200, stream)


GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": 'start: "a"+'}
BOUND: Any = {**PATCH, "format": GRAMMAR}


async def test_a_grammar_is_carried_where_chat_has_it(server: Front) -> None:
    """At OpenAI; elsewhere the header names what is lost, and a function stands for the tool."""
    call_ = {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "apply_patch", "input": "aa"}}
    chunks: list[Any] = [{"tool_calls": [call_]}, {"tool_calls": [{"index": 0, "custom": {"input": "a"}}]}, {}]
    ends = [None, None, "tool_calls"]
    told = [
        {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in zip(chunks, ends, strict=True)
    ]
    stream = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in told) + "data: [DONE]\n\n"
    server.answer("openai", Script(stream.encode(), content_type="text/event-stream"))
    earlier = {"type": "custom_tool_call", "call_id": "c0", "name": "apply_patch", "input": "a"}
    given = {"type": "custom_tool_call_output", "call_id": "c0", "output": "ok"}
    body: Any = {
        "input": [{"role": "user", "content": "do"}, earlier, given], "tools": [BOUND], "stream": True,
        "tool_choice": {"type": "custom", "name": "apply_patch"},
    }  # fmt: skip
    _, answer = await call(server, "POST", "/responses", {**body, "model": MODELS["openai"]})
    [item] = events(answer)[-1]["response"]["output"]
    assert (item["type"], item["call_id"], item["input"]) == ("custom_tool_call", "c1", "aaa")
    sent = server.asked("openai")[-1].json()
    grammar = {"syntax": "lark", "definition": GRAMMAR["definition"]}
    named = {"name": "apply_patch", "description": "of files"}
    own = {"type": "custom", "custom": {**named, "format": {"type": "grammar", "grammar": grammar}}}
    assert (sent["tools"], sent["tool_choice"]) == ([own], {"type": "custom", "custom": {"name": "apply_patch"}})
    [said] = sent["messages"][1]["tool_calls"]
    assert said == {"id": "c0", "type": "custom", "custom": {"name": "apply_patch", "input": "a"}}

    async with aiohttp.ClientSession() as session:
        post = session.post(f"{server.url}/responses", json={**body, "model": MODELS["vllm"]})
        async with post as other:
            assert (other.status, other.headers["x-abstractcore-ignored"]) == (200, "tools[].format")
        prompted = {**body, "model": MODELS["openai"], "tool_mode": "prompted", "tool_choice": "auto"}
        async with session.post(f"{server.url}/responses", json=prompted) as told_in_text:
            assert (told_in_text.status, told_in_text.headers["x-abstractcore-ignored"]) == (200, "tools[].format")
    sent = server.asked("vllm")[-1].json()
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["apply_patch"]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "apply_patch"}}
    assert sent["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"input":"a"}'


async def test_conversations_go_on_over_providers_and_restarts(tmp_path: Path) -> None:
    async with front(tmp_path) as server:
        async with AsyncOpenAI(base_url=server.url, api_key="x") as client:
            first = await client.responses.create(model=MODELS["openai"], input="One " + "long " * 400)
            second = await client.responses.create(model=MODELS["ollama"], input="Two", previous_response_id=first.id)
        await server.process.restart()
        async with AsyncOpenAI(base_url=server.url, api_key="x", max_retries=0) as client:
            three: Any = [{"role": "user", "content": "Three"}]
            asked: Any = {"model": MODELS["openai"], "input": three}
            await client.responses.create(**asked, previous_response_id=second.id)
            with pytest.raises(openai.BadRequestError) as unknown:
                await client.responses.create(**asked, previous_response_id="resp_nothing")
        told = server.asked("openai")[-1].json()["messages"]
    assert [m["role"] for m in told] == ["user", "assistant", "user", "assistant", "user"]
    assert told[0]["content"].startswith("One long")
    assert (told[2]["content"], told[4]["content"]) == ("Two", "Three")
    assert unknown.value.code == "previous_response_not_found"


async def test_the_words_of_a_request_are_chats_words(server: Front, client: AsyncOpenAI) -> None:
    server.play("openai")
    await client.responses.create(
        model=MODELS["openai"],
        input=[{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]}],
        max_output_tokens=9,
        temperature=0.5,
        reasoning={"effort": "low"},
        text={"format": {"type": "json_schema", "name": "p", "schema": {"type": "object"}, "strict": True}},
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "get_weather"},
        parallel_tool_calls=False,
        metadata={"team": "x"},
    )
    sent = server.asked("openai")[-1].json()
    assert sent["max_completion_tokens"] == 9
    assert sent["reasoning_effort"] == "low"
    assert sent["response_format"]["json_schema"] == {"name": "p", "schema": {"type": "object"}, "strict": True}
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}
    assert sent["messages"][0]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


async def test_the_old_form_is_taken_too(server: Front) -> None:
    server.play("openai")
    body = {"model": MODELS["openai"], "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    status, answer = await call(server, "POST", "/responses", body)
    assert (status, json.loads(answer)["status"]) == (200, "completed")
    status, answer = await call(server, "POST", "/responses", {"model": MODELS["openai"]})
    assert (status, json.loads(answer)["error"]["param"]) == (400, "input")


async def test_an_answer_that_was_cut_is_incomplete(server: Front, client: AsyncOpenAI) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Half"}, "finish_reason": "length"}
    server.answer("openai", Script.json({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}))
    answer = await client.responses.create(model=MODELS["openai"], input="Hi")
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


async def test_a_stream_that_fails_says_so_in_its_words(server: Front) -> None:
    chunk = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    error = b'data: {"error":{"message":"broke","code":500}}\n\n'
    server.answer("openai", Script(chunk + error, content_type="text/event-stream"))
    _, body = await call(server, "POST", "/responses", {"model": MODELS["openai"], "input": "Hi", "stream": True})
    last = events(body)[-1]
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"]["message"] == "broke"
    status, answer = await call(server, "GET", f"/responses/{last['response']['id']}")
    assert (status, json.loads(answer)["status"]) == (200, "failed")


async def until(client: AsyncOpenAI, name: str, status: str) -> Response:
    """The response, once it is so."""
    async with asyncio.timeout(60):
        while (now := await client.responses.retrieve(name)).status != status:
            await asyncio.sleep(0.02)
    return now


async def test_work_in_the_background_goes_on_alone(server: Front, client: AsyncOpenAI) -> None:
    server.play("openai")
    begun = await client.responses.create(model=MODELS["openai"], input="Hi", background=True)
    assert begun.status == "queued"
    assert (await until(client, begun.id, "completed")).output_text
    status, stream = await call(server, "GET", f"/responses/{begun.id}?stream=true")
    assert (status, events(stream)[-1]["type"]) == (200, "response.completed")
    status, refused = await call(server, "POST", "/responses", {"model": "no/m", "input": "Hi", "background": True})
    assert (status, json.loads(refused)["error"]["code"]) == (404, "model_not_found")


async def test_what_streams_in_the_background_says_its_request(server: Front, client: AsyncOpenAI) -> None:
    server.play("openai")
    raw = await client.responses.with_raw_response.create(
        model=MODELS["openai"], input="Hi", background=True, stream=True
    )
    told = [event async for event in raw.parse()]
    assert told[0].type == "response.created"
    assert raw.headers["x-request-id"] == request_id(told[0].response.id)


async def test_work_in_the_background_can_be_cancelled(server: Front, client: AsyncOpenAI) -> None:
    server.answer("openai", Script(b"", hold=True))
    begun = await client.responses.create(model=MODELS["openai"], input="Hi", background=True)
    await until(client, begun.id, "in_progress")
    cancelled = await client.responses.cancel(begun.id)
    assert cancelled.status == "cancelled"
    assert (await client.responses.retrieve(begun.id)).status == "cancelled"
    server.play("openai")
    waited = await client.responses.create(model=MODELS["openai"], input="Hi")
    with pytest.raises(openai.BadRequestError, match="background"):
        await client.responses.cancel(waited.id)


async def test_a_stream_of_what_was_cancelled_breaks_off(server: Front, client: AsyncOpenAI) -> None:
    """It has no end that a whole answer has, for who follows it and for those who ask later, whether anything came."""
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Once upon"}, "finish_reason": None}]}
    said = b"data: %b\n\n" % json.dumps(chunk).encode()
    server.answer("openai", Script(said, content_type="text/event-stream", hold=True), Script(b"", hold=True))
    body = {"model": MODELS["openai"], "input": "A tale!", "background": True}
    follower = await RawClient.connect(server.process.url)
    await follower.send(request({**body, "stream": True}, "/v1/responses"))
    await follower.until(b"Once upon")
    begun = f"resp_{follower.received.request_id}"
    silent = (await ask(server.process.url, body, "/v1/responses")).json()["id"]
    for name in (begun, silent):
        await client.responses.cancel(name)
    told = [await follower.answer()]
    for name in (begun, silent):
        later = await RawClient.connect(server.process.url)
        await later.send(f"GET /v1/responses/{name}?stream=true HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        told.append(await later.answer())
    assert [(each.status, each.whole, b"Once upon" in each.body) for each in told] == [
        (200, False, True),
        (200, False, True),
        (200, False, False),
    ]


@pytest.mark.parametrize(
    ("bug", "test", "said"),
    [
        ("polite", "test_a_stream_of_what_was_cancelled_breaks_off", "(200, True, True)"),
        ("boundless", "test_a_few_references_to_much_reach_no_provider", "assert 200 == 413"),
        ("boundless", "test_a_conversation_that_is_larger_than_a_request_may_be_goes_on_no_more", "assert 200 == 413"),
    ],
)
async def test_twin_that_gives_again_carelessly(bug: str, test: str, said: str) -> None:
    told = await asyncio.to_thread(failure, "tests.endpoints.careless", bug, f"endpoints/test_responses.py::{test}")
    assert said in told


async def test_work_in_the_background_that_nobody_could_have_is_refused(server: Front) -> None:
    asked = len(server.asked("openai"))
    body = {"model": MODELS["openai"], "input": "Hi", "background": True}
    for refused, retention in (({**body, "store": False}, "full"), (body, "none")):
        answer = await ask(server.process.url, refused, "/v1/responses", x_abstractcore_retention=retention)
        assert (answer.status, answer.json()["error"]["param"]) == (400, "background")
    assert len(server.asked("openai")) == asked


async def test_a_deleted_response_is_gone_for_clients_alone(server: Front, client: AsyncOpenAI) -> None:
    server.play("openai")
    made = await client.responses.create(model=MODELS["openai"], input="Hi")
    await client.responses.delete(made.id)
    for path in ("", "/input_items"):
        status, _ = await call(server, "GET", f"/responses/{made.id}{path}")
        assert status == 404
    status, _ = await call(server, "GET", f"/requests/{request_id(made.id)}/stream")
    assert status == 200
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(model=MODELS["openai"], input="x", previous_response_id=made.id)


async def test_a_key_says_again_what_it_said_of_a_deleted_response(server: Front, client: AsyncOpenAI) -> None:
    server.play("openai")
    ask = client.responses.with_raw_response.create
    keyed = {"Idempotency-Key": "deleted-since"}
    first = await ask(model=MODELS["openai"], input="Hi", extra_headers=keyed)
    await client.responses.delete(first.parse().id)
    asked = len(server.asked("openai"))
    again = await ask(model=MODELS["openai"], input="Hi", extra_headers=keyed)
    assert (again.headers["idempotent-replayed"], again.content) == ("true", first.content)
    assert len(server.asked("openai")) == asked
    for gone in (first.parse().id, f"resp_{again.headers['x-request-id']}"):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(gone)


async def test_one_of_many_deletions_wins(server: Front, client: AsyncOpenAI) -> None:
    server.play("openai")
    made = await client.responses.create(model=MODELS["openai"], input="Hi")
    answers = await asyncio.gather(*(call(server, "DELETE", f"/responses/{made.id}") for _ in range(6)))
    assert sorted(status for status, _ in answers) == [200] + [404] * 5


async def test_one_that_was_given_again_is_found_by_both_ids(server: Front, client: AsyncOpenAI) -> None:
    server.play("openai")
    keyed = {"Idempotency-Key": "given-again"}
    ask = client.responses.with_raw_response.create
    first, again = [await ask(model=MODELS["openai"], input="Hi", extra_headers=keyed) for _ in range(2)]
    assert again.headers["idempotent-replayed"] == "true"
    other = f"resp_{again.headers['x-request-id']}"
    made = first.parse()
    assert other != made.id
    assert await client.responses.retrieve(other) == await client.responses.retrieve(made.id)
    server.play("openai")
    following = await client.responses.create(model=MODELS["openai"], input="x", previous_response_id=other)
    assert following.status == "completed"
    await client.responses.delete(other)
    for gone in (other, made.id):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(gone)


async def test_what_it_was_asked_can_be_read_in_pages(server: Front, client: AsyncOpenAI) -> None:
    server.play("openai")
    items: Any = [{"role": "user", "content": text} for text in ("one", "two", "three")]
    made = await client.responses.create(model=MODELS["openai"], input=items)
    newest = await client.responses.input_items.list(made.id, limit=2)
    texts = [item.model_dump()["content"][0]["text"] for item in newest.data]
    assert texts == ["three", "two"]
    assert newest.has_more
    _, rest = await call(server, "GET", f"/responses/{made.id}/input_items?after={newest.data[-1].id}")
    assert [item["content"] for item in json.loads(rest)["data"]] == [[{"type": "input_text", "text": "one"}]]


async def test_tokens_are_counted_or_guessed(server: Front, client: AsyncOpenAI) -> None:
    """Counted is all that a request goes on from, as the provider gets it."""
    server.play("openai")
    first = await client.responses.create(model=MODELS["openai"], input="One " + "long " * 400)
    asked: Any = {"input": "And two?", "previous_response_id": first.id, "tools": [WEATHER, BOUND]}
    counting = client.responses.input_tokens.with_raw_response.count(model=MODELS["openai"], **asked)
    guessed = await counting
    assert guessed.headers["x-abstractcore-estimated"] == "true"
    assert 500 < guessed.parse().input_tokens < 1000
    server.upstream.script("POST /anthropic/v1/messages/count_tokens", Script.json({"input_tokens": 42}))
    counted = await client.responses.input_tokens.with_raw_response.count(model=MODELS["anthropic"], **asked)
    assert (counted.parse().input_tokens, counted.parse().object) == (42, "response.input_tokens")
    assert "x-abstractcore-estimated" not in counted.headers
    sent = server.upstream.requests[-1].json()
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert [tool["name"] for tool in sent["tools"]] == ["get_weather", "apply_patch"]
    logprobs = {"include": ["message.output_text.logprobs"]}  # which Messages has no word for
    body = {"model": MODELS["anthropic"], "input": "Hi", **logprobs}
    status, answer = await call(server, "POST", "/responses/input_tokens", body)
    assert (status, json.loads(answer)["input_tokens"] < 42) == (200, True)
    status, refused = await call(server, "POST", "/responses/input_tokens", {"model": "openai/m"})
    assert (status, json.loads(refused)["error"]["param"]) == (400, "input")


async def test_every_answer_renders_again(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out
