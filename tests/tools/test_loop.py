"""The server-side loop: models call tools, the server runs them, and its client sees one answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from gateway.exchange.tool_round import ToolRounds
from gateway.wire.rounds import Rounds
from replay.cli import run as replay
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, chat
from tests.tools import functions
from tests.tools.running import Tooled, tooled

MODEL = "openai-compatible/m"
WEATHER = {"type": "function", "function": {"name": "weather"}}
THEIRS = {"type": "function", "function": {"name": "theirs", "parameters": {"type": "object", "properties": {}}}}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def call(name: str, arguments: str = "{}", call_id: str = "call_1", index: int = 0) -> dict[str, Any]:
    return {
        "index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}
    }  # fmt: skip


def streamed(*deltas: dict[str, Any], reason: str = "stop") -> Script:
    """An answer as a stream of chunks, with usage."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    chunks.append({**head, "choices": [], "usage": USAGE})
    body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    return Script(body, content_type="text/event-stream")


def calling(*calls: dict[str, Any], text: str = "") -> Script:
    deltas = [{"content": text}] if text else []
    return streamed(*deltas, {"tool_calls": list(calls)}, reason="tool_calls")


def said(text: str) -> Script:
    return streamed({"role": "assistant", "content": text})


def whole(message: dict[str, Any], reason: str) -> Script:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return Script.json(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}
    )


async def types_of(server: Tooled, request_id: str) -> list[str]:
    return [event.type for event in await server.gate.ended(request_id)]


async def again(server: Tooled, request_id: str) -> bytes:
    """The answer as a replay makes it."""
    async with server.client.get(f"{server.gate.url}/v1/requests/{request_id}/stream") as answer:
        assert answer.status == 200
        return await answer.read()


ROUND = ["generation_completed", "tool_called", "tool_started", "tool_completed", "generation_started"]
FIRST = ["request_received", "route_selected", "generation_started"]
LAST = ["generation_completed", "request_completed"]


async def test_openai_s_client_sees_one_streamed_answer_over_two_rounds(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(
            COMPATIBLE,
            calling(call("weather", '{"city": "Brest"}'), text="Let me look."),
            said("It is clear."),
        )
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            client = AsyncOpenAI(base_url=f"{server.gate.url}/v1", api_key="unused", max_retries=0)
            stream = await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "Weather?"}],
                tools=[WEATHER],  # type: ignore[list-item]
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"execute_tools": True},
            )
            chunks = [chunk async for chunk in stream]
            request_id = chunks[0].id.removeprefix("chatcmpl-")
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            assert text == "Let me look.\n\nIt is clear."
            assert not any(c.choices and c.choices[0].delta.tool_calls for c in chunks)
            assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
            assert chunks[-1].usage is not None
            assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (20, 10)
            assert await types_of(server, request_id) == [*FIRST, *ROUND, *LAST]
            first, second = (request.json() for request in upstream.requests)
            assert first["tools"][0]["function"]["parameters"]["required"] == ["city"]
            assert "execute_tools" not in first
            asked, told = second["messages"][-2:]
            assert asked["tool_calls"][0]["function"]["name"] == "weather"
            assert told == {
                "role": "tool", "tool_call_id": "call_1", "content": '{"city":"Brest","days":1,"sky":"clear"}'
            }  # fmt: skip
            await client.close()
        assert replay(["verify", "--data-dir", str(tmp_path / "logs")], {}) == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_replay_makes_the_same_bytes(tmp_path: Path, stream: bool) -> None:
    async with ScriptedServer() as upstream:
        if stream:
            upstream.script(COMPATIBLE, calling(call("tide", '{"harbour": "B"}'), text="Hm."), said("Soon."))
        else:
            asked = {"content": "Hm.", "tool_calls": [call("tide", '{"harbour": "B"}')]}
            upstream.script(COMPATIBLE, whole(asked, "tool_calls"), whole({"content": "Soon."}, "stop"))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(tools=[], execute_tools=True, stream=stream))
            request_id = got.headers["x-request-id"]
            assert await types_of(server, request_id) == [*FIRST, *ROUND, *LAST]
            assert await again(server, request_id) == got.body
            assert b"Hm.\\n\\nSoon." in got.body or stream
            assert len(upstream.requests[0].json()["tools"]) == 7, "a request that names no tools is offered all"


async def test_a_call_that_is_the_client_s_is_returned_to_it(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        both = [call("weather", '{"city": "B"}', "a"), call("theirs", "{}", "b", 1)]
        upstream.script(COMPATIBLE, whole({"tool_calls": both}, "tool_calls"))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(tools=[WEATHER, THEIRS], execute_tools=True))
            choice = json.loads(got.body)["choices"][0]
            assert [each["function"]["name"] for each in choice["message"]["tool_calls"]] == ["weather", "theirs"]
            assert choice["finish_reason"] == "tool_calls"
            assert "tool_started" not in await types_of(server, got.headers["x-request-id"])


async def test_several_calls_run_at_once_and_bad_arguments_are_shown_to_the_model(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        calls = [
            call("weather", '{"days": "x"', "a"),
            call("weather", '{"city": "B"}', "b", 1),
            call("broken", "", "c", 2),
        ]
        upstream.script(COMPATIBLE, whole({"tool_calls": calls}, "tool_calls"), whole({"content": "ok"}, "stop"))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            await server.gate.ask(chat(execute_tools=True))
            told = upstream.requests[1].json()["messages"][-3:]
            assert [message["tool_call_id"] for message in told] == ["a", "b", "c"]
            assert told[0]["content"].startswith("Error: The arguments are wrong.")
            assert "clear" in told[1]["content"]
            assert told[2]["content"] == "Error: LookupError: the almanac is not there"


async def test_rounds_have_a_bound_and_then_the_calls_are_the_client_s(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        asked = {"tool_calls": [call("tide", '{"harbour": "B"}')]}
        upstream.script(COMPATIBLE, whole(asked, "tool_calls"))
        env = {"ABSTRACTCORE_TOOL_ROUNDS": "2"}
        async with tooled(tmp_path / "logs", upstream=upstream.base_url, env=env) as server:
            got = await server.gate.ask(chat(execute_tools=True))
            assert len(upstream.requests) == 3
            assert json.loads(got.body)["choices"][0]["finish_reason"] == "tool_calls"
            assert json.loads(got.body)["usage"]["total_tokens"] == 45


async def test_the_server_s_default_runs_tools_that_a_request_names_and_adds_none(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, whole({"tool_calls": [call("tide", '{"harbour": "B"}')]}, "tool_calls"))
        env = {"ABSTRACTCORE_DEFAULT_EXECUTE_TOOLS": "true", "ABSTRACTCORE_TOOL_ROUNDS": "1"}
        async with tooled(tmp_path / "logs", upstream=upstream.base_url, env=env) as server:
            tide = {"type": "function", "function": {"name": "tide"}}
            for fields, upstream_calls in (
                ({"tools": [tide]}, 2),
                ({"tools": [tide], "execute_tools": False}, 1),
                ({}, 1),
            ):
                before = len(upstream.requests)
                await server.gate.ask(chat(**fields))
                assert len(upstream.requests) - before == upstream_calls
            assert "tools" not in upstream.requests[-1].json()


async def test_several_answers_cannot_go_on(tmp_path: Path) -> None:
    async with tooled(tmp_path / "logs") as server:
        got = await server.gate.ask(chat(execute_tools=True, n=2))
        assert (got.status, json.loads(got.body)["error"]["param"]) == (400, "n")


async def test_a_failure_in_the_second_round_is_the_request_s(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, calling(call("tide", '{"harbour": "B"}')), Script(b"{}", status=500))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(execute_tools=True, stream=True))
            end = await server.gate.end_of(got.headers["x-request-id"])
            assert (end["type"], end["attempts"]) == ("request_failed", 2)


async def test_a_client_that_leaves_cancels_the_tool_that_runs_for_it(tmp_path: Path) -> None:
    functions.CANCELLED.clear()
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, calling(call("patient"), text="A moment."))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            url, body = f"{server.gate.url}/v1/chat/completions", chat(execute_tools=True, stream=True)
            async with server.client.post(url, json=body) as answer:
                request_id = answer.headers["x-request-id"]
                await server.until(f"request-{request_id}", "tool_started")
                answer.close()
            ended = await types_of(server, request_id)
            assert ended[-2:] == ["tool_failed", "request_cancelled"]
            assert await asyncio.to_thread(functions.CANCELLED.wait, 10)
        assert replay(["verify", "--data-dir", str(tmp_path / "logs")], {}) == 0


class Forgetful(ToolRounds):
    """A bug put in: tools run before the log has heard of them."""

    def _begin(self, job, refused):  # type: ignore[no-untyped-def]
        from gateway.tools.runner import Outcome

        return Outcome(kind="removed", text="", duration_ms=0.0).event(job)


async def test_a_round_that_is_not_recorded_before_it_runs_is_noticed(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, calling(call("tide", '{"harbour": "B"}')), said("Soon."))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            server.gate.server.exchanges._rounds.__class__ = Forgetful
            got = await server.gate.ask(chat(execute_tools=True, stream=True))
            assert await types_of(server, got.headers["x-request-id"]) != [*FIRST, *ROUND, *LAST]


async def test_a_replay_that_forgets_rounds_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bug put in: a round's calls are shown with the next one's answer."""
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, calling(call("tide", '{"harbour": "B"}')), said("Soon."))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(execute_tools=True, stream=True))
            monkeypatch.setattr(Rounds, "ran", lambda self, fold: None)
            assert await again(server, got.headers["x-request-id"]) != got.body
