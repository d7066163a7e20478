"""Sessions as their clients see them: opened, talked to, looked at, forked, rewound, summarised, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from gateway.media.parts import MOST_FILES
from gateway.sessions.context import INSTRUCTIONS, SUMMARY
from tests.gateway.media.made import data_url, image
from tests.gateway.scripted import Script
from tests.sessions.talk import CHAT, MODEL, Place, assistant, place, system, user


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    async with place(tmp_path / "logs") as running:
        yield running


async def test_the_conversation_is_remembered(here: Place) -> None:
    """As in the documentation of the original AbstractCore server: a provider, a model, a system prompt."""
    opened = await here.post(
        "/v1/sessions", {"provider": "openai-compatible", "model": "m", "system_prompt": "You are a helpful assistant"}
    )
    path = f"/v1/sessions/{opened.body['id']}/chat"
    assert opened.body["model"] == MODEL
    await here.post(path, {"messages": [user("Remember that my name is Alice")]})
    answer = await here.post(path, {"messages": [user("What is my name?")]})
    assert here.told == [
        system("You are a helpful assistant"),
        user("Remember that my name is Alice"),
        assistant("re: Remember that my name is Alice"),
        user("What is my name?"),
    ]
    assert answer.text == "re: What is my name?"
    assert answer.context | {"tokens": 0} == {"turn": 2, "turns": 1, "dropped": 0, "tokens": 0, "window": 2000}


async def test_streamed_turns_are_remembered_and_any_chat_field_passes(here: Place) -> None:
    session = await here.open(temperature=0.5, max_tokens=50)
    streamed = await session.say("one", stream=True, stream_options={"include_usage": True})
    assert streamed.body.endswith("data: [DONE]\n\n")
    assert here.upstream.requests[-1].json()["temperature"] == 0.5
    await session.say("two", temperature=0, stop=["x"])
    asked = here.upstream.requests[-1].json()
    assert (asked["temperature"], asked["stop"], asked["max_tokens"]) == (0, ["x"], 50)
    assert here.told[:2] == [user("one"), assistant(" word0 word1 word2")]


async def test_tools_go_back_and_forth(here: Place) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    whole = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    here.upstream.script(CHAT, Script.json(whole), Script.json(whole | {"choices": [
        {"index": 0, "message": assistant("done"), "finish_reason": "stop"},
    ]}))  # fmt: skip
    session = await here.open()
    await session.say("use it")
    result = {"role": "tool", "tool_call_id": "c1", "content": "7"}
    await here.post(f"{session.path}/chat", {"messages": [result]})
    assert here.told == [user("use it"), message, result]


async def test_what_was_not_answered_is_not_remembered(here: Place) -> None:
    session = await here.open()
    here.upstream.script(CHAT, Script(b"{}", status=500))
    assert (await session.say("lost")).status >= 500
    here.upstream.script(CHAT, Script.json({"id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": assistant("ok"), "finish_reason": "stop"}]}))  # fmt: skip
    await session.say("kept")
    assert await session.messages() == [user("kept"), assistant("ok")]
    assert [(turn["state"], turn["reason"]) for turn in await session.turns()] == [
        ("abandoned", "failed"),
        ("completed", None),
    ]


async def test_what_is_reported(here: Place) -> None:
    session, other = await here.open(title="First", metadata={"team": "a"}), await here.open()
    await session.say("one")
    info = await session.info()
    assert (info["turns"], info["turn"], info["version"], info["busy"]) == (1, 1, 3, False)
    assert (info["tokens_input"], info["tokens_output"]) == (7, 3)
    assert (info["title"], info["metadata"], info["model"]) == ("First", {"team": "a"}, MODEL)
    listed = (await here.get("/v1/sessions")).body["data"]
    assert [each["id"] for each in listed] == [other.id, session.id]
    assert {key: info[key] for key in ("turns", "tokens_input", "cost_usd", "created")}.items() <= listed[1].items()
    assert [each["id"] for each in (await here.get(f"/v1/sessions?limit=1&after={other.id}")).body["data"]] == [
        session.id
    ]
    (turn,) = await session.turns()
    assert (turn["turn"], turn["before"], turn["state"], turn["tokens_input"]) == (1, 0, "completed", 7)
    assert (await here.get(f"/v1/requests/{turn['request_id']}")).body["session_id"] == session.id
    assert (await here.get("/v1/usage?group_by=session")).body["data"][0]["session_id"] == session.id


async def test_the_events_of_a_turn_are_those_of_one_commit(here: Place) -> None:
    """The session's event stands right before those of its request that it was recorded with."""
    session = await here.open()
    request_id = (await session.say("one")).headers["x-request-id"]
    request = await here.gateway.ended(request_id)
    started, completed = (await here.stream(session.id))[1:]
    assert (started.type, completed.type) == ("session_turn_started", "session_turn_completed")
    assert started.position + 1 == request[0].position
    assert completed.position + 1 == next(e.position for e in request if e.type == "generation_completed")
    assert started.body["request_id"] == completed.body["request_id"] == request_id


async def test_a_feed_of_one_session_has_its_events(here: Place) -> None:
    session = await here.open()
    await session.say("one")
    types: list[str] = []
    async with here.client.get(f"{here.url}/v1/events/stream?after=0&session_id={session.id}") as feed:
        async for line in feed.content:
            if line.startswith(b"event: "):
                types.append(line[7:].decode().strip())
            if len(types) == 8:
                break
    assert types == [
        "session_created", "session_turn_started", "request_received", "route_selected", "generation_started",
        "session_turn_completed", "generation_completed", "request_completed",
    ]  # fmt: skip


async def test_forks_share_the_past_and_nothing_else(here: Place) -> None:
    session = await here.open(system_prompt="Be brief.")
    for text in ("one", "two", "three"):
        await session.say(text)
    other = await session.fork(at=1, model="openai-compatible/other")
    await asyncio.gather(session.say("four"), other.say("TWO"))
    past = [system("Be brief."), user("one"), assistant("re: one")]
    assert await other.messages() == [*past, user("TWO"), assistant("re: TWO")]
    assert [m["content"] for m in await session.messages()][-2:] == ["four", "re: four"]
    info = await other.info()
    assert (info["forked_from"], info["model"]) == ({"id": session.id, "at": 1}, "openai-compatible/other")
    assert (info["turn"], info["turns"]) == (2, 1)
    words = [event.data for event in await here.stream(other.id)]
    assert not any(b"re: one" in data or b"Be brief" in data for data in words)


async def test_a_fork_outlives_its_parent_and_is_forked_again(here: Place) -> None:
    session = await here.open()
    await session.say("one")
    child = await session.fork()
    assert (await here.delete(session.path)).body == {"id": session.id, "object": "session", "deleted": True}
    grandchild = await child.fork()
    await grandchild.say("two")
    assert here.told == [user("one"), assistant("re: one"), user("two")]


async def test_a_session_is_rewound_and_what_came_after_can_be_forked(here: Place) -> None:
    session = await here.open()
    for text in ("one", "two", "three"):
        await session.say(text)
    cleared = await session.post("clear", at=1)
    assert (cleared.body["turn"], cleared.body["turns"]) == (1, 3)
    await session.say("TWO")
    assert here.told == [user("one"), assistant("re: one"), user("TWO")]
    assert [m["content"] for m in await (await session.fork(at=3)).messages()][::2] == ["one", "two", "three"]
    await session.post("clear")
    await session.say("anew")
    assert here.told == [user("anew")]


async def test_a_summary_takes_the_place_of_what_it_says(here: Place) -> None:
    session = await here.open(system_prompt="Be brief.")
    for text in ("one", "two", "three"):
        await session.say(text)
    here.upstream.script(CHAT, Script.json({"id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": assistant("They counted."), "finish_reason": "stop"}]}))  # fmt: skip
    answer = await session.post("compact", keep=1)
    assert (answer.status, answer.text) == (200, "They counted.")
    assert here.told[-1] == user(INSTRUCTIONS)
    assert [m["content"] for m in here.told[1:-1]] == ["one", "re: one", "two", "re: two"]
    beginning = system(f"Be brief.\n\n{SUMMARY}\nThey counted.")
    assert await session.messages() == [beginning, user("three"), assistant("re: three")]
    await session.say("four")
    assert here.told == [beginning, user("three"), assistant("re: three"), user("four")]
    assert [turn["state"] for turn in await session.turns()] == ["completed"] * 3 + ["compacted", "completed"]


async def test_a_compaction_that_cannot_be(here: Place) -> None:
    session = await here.open()
    wrong: dict[str, Any] = {"keep": -1, "instructions": 7, "messages": []}
    for param, value in wrong.items():
        answer = await session.post("compact", **{param: value})
        assert (answer.status, answer.body["error"]["param"]) == (400, param)
    nothing = await session.post("compact")
    assert (nothing.status, nothing.body["error"]["code"]) == (409, "nothing_to_compact")


async def test_a_long_conversation_carries_what_fits_and_says_so(here: Place) -> None:
    session = await here.open(context_tokens=300, max_tokens=100)
    for text in ("first " * 20, "second " * 20, "third " * 20):
        answer = await session.say(text)
    assert answer.context["dropped"] == 1
    assert answer.context["turns"] == 1
    assert here.told[0]["content"].startswith("second")
    started = [e for e in await here.stream(session.id) if e.type == "session_turn_started"][-1].body
    assert (started["carried"], started["dropped"], started["window"]) == (1, 1, 300)


async def test_openais_client_talks_to_a_session(here: Place) -> None:
    session = await here.open()
    client = AsyncOpenAI(base_url=f"{here.url}{session.path}", api_key="not-needed")
    async with client:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "one"}])
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "two"}], stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert text == " word0 word1 word2"
    assert here.told == [user("one"), assistant("re: one"), user("two")]


async def test_files_and_long_messages_are_joined_again(here: Place) -> None:
    session, text = await here.open(), "long " * 400
    await session.say(text)
    await session.say("and?")
    assert here.told[0] == user(text)


async def test_large_parts_of_a_message_are_joined_again(here: Place) -> None:
    """A part over 1 KiB, as any image is, lies beside its message."""
    session = await here.open()
    parts = [{"type": "text", "text": "What is this?"}, {"type": "text", "text": "long " * 400}]
    await here.post(f"{session.path}/chat", {"messages": [{"role": "user", "content": parts}]})
    assert (await session.say("and?")).status == 200
    assert here.told[0] == {"role": "user", "content": parts}
    assert (await session.messages())[0]["content"] == parts


async def test_turns_with_files_go_on_beyond_what_a_request_may_have(here: Place) -> None:
    session, picture = await here.open(context_tokens=1_000_000), data_url("image/png", image("png"))
    look = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}}] * (MOST_FILES // 2)}
    for dropped in (0, 0, 1):
        answer = await here.post(f"{session.path}/chat", {"messages": [look]})
        assert (answer.status, answer.context["dropped"]) == (200, dropped)
    assert (await session.post("compact")).status == 200


async def test_context_survives_a_restart(tmp_path: Path) -> None:
    async with place(tmp_path / "logs") as before:
        session = await before.open(system_prompt="Be brief.")
        await session.say("one")
        child = await session.fork()
    async with place(tmp_path / "logs") as after:
        await after.post(f"{child.path}/chat", {"messages": [user("two")]})
        assert after.told == [system("Be brief."), user("one"), assistant("re: one"), user("two")]


async def test_what_no_session_can_be_opened_with(here: Place) -> None:
    lent = {"type": "mcp", "authorization": "sk-secret", "server_url": "https://x.test"}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"model": 7}, "model"),
        ({"provider": "nobody", "model": "m"}, "model"),
        ({"provider": "demo"}, "model"),
        ({"temperature": "hot"}, "temperature"),
        ({"api_key": "sk-secret"}, "api_key"),
        ({"tools": [lent]}, "tools"),
        ({"stream": True}, "stream"),
        ({"retries": "many"}, "retries"),
        ({"deadline_s": -1}, "deadline_s"),
        ({"max_cost_usd": -1}, "max_cost_usd"),
        ({"context_tokens": 1}, "context_tokens"),
        ({"system_prompt": ["x"]}, "system_prompt"),
    ]
    for body, param in wrong:
        answer = await here.post("/v1/sessions", body)
        assert answer.status in (400, 404), body
        assert answer.body["error"]["param"] == param
    assert b"sk-secret" not in (here.gateway.server.settings.data_dir / "events.db-wal").read_bytes()


async def test_there_is_none_of_that_name(here: Place) -> None:
    for name in ("session-nothing", "nothing", "..%2f..", "session-01ARZ3NDEKTSV4RRFFQ69G5FAV"):
        for answer in (
            await here.get(f"/v1/sessions/{name}"),
            await here.delete(f"/v1/sessions/{name}"),
            await here.post(f"/v1/sessions/{name}/fork", {}),
            await here.post(f"/v1/sessions/{name}/chat", {"messages": [user("x")]}),
        ):
            assert (answer.status, answer.body["error"]["code"]) == (404, "session_not_found")


async def test_what_a_turn_cannot_be(here: Place) -> None:
    session = await here.open()
    kept = await here.post(
        f"{session.path}/chat", {"messages": [user("secret")]}, **{"x-abstractcore-retention": "none"}
    )
    assert (kept.status, kept.body["error"]["param"]) == (400, "x-abstractcore-retention")
    elsewhere = await session.say("x", session_id="another")
    assert (elsewhere.status, elsewhere.body["error"]["param"]) == (400, "session_id")
    nowhere = await session.post("fork", at=7)
    assert (nowhere.status, nowhere.body["error"]["code"]) == (400, "turn_not_found")
    assert await session.messages() == []
    assert [event.type for event in await here.stream(session.id)] == ["session_created"]
    refused = (await here.gateway.events(elsewhere.headers["x-request-id"]))[-1]
    assert refused.type == "request_rejected"
