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
        assert answer.status != 404, "it cannot be shown again"
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
            stream = await client.chat.completions.create(  # type: ignore[call-overload]  # a tool without parameters is ours to fill
                model=MODEL,
                messages=[{"role": "user", "content": "Weather?"}],
                tools=[WEATHER],
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


async def test_rounds_that_nobody_counted_are_estimated_together(tmp_path: Path) -> None:
    uncounted = [json.loads(whole(*said).body) | {"usage": None} for said in (
        ({"tool_calls": [call("tide", '{"harbour": "B"}')]}, "tool_calls"), ({"content": "Soon."}, "stop"),
    )]  # fmt: skip
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, *(Script.json(body) for body in uncounted))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(tools=[], execute_tools=True))
            request_id = got.headers["x-request-id"]
            ends = [e.body for e in await server.gate.ended(request_id) if e.type == "generation_completed"]
            assert [end["usage_source"] for end in ends] == ["estimated", "estimated"]
            usage = got.json()["usage"]
            assert usage["prompt_tokens"] == sum(end["tokens_input"] for end in ends)
            assert usage["completion_tokens"] == sum(end["tokens_output"] for end in ends)
            assert await again(server, request_id) == got.body


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


async def test_a_cap_on_the_cost_holds_over_all_rounds(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        script = calling(call("tide", '{"harbour": "B"}'))  # what has a cap is streamed, however its client gets it
        upstream.script("POST /v1/chat/completions", script)
        env = {"OPENAI_API_KEY": "sk-for-the-test", "OPENAI_BASE_URL": f"{upstream.base_url}/v1"}
        async with tooled(tmp_path / "logs", upstream=upstream.base_url, env=env) as server:
            tide, most = {"type": "function", "function": {"name": "tide"}}, 0.0001
            body = chat("openai/gpt-4o-mini", tools=[tide], execute_tools=True, max_cost_usd=most)
            got = await server.gate.ask(body)
            end = await server.gate.end_of(got.headers["x-request-id"])
            assert (got.status, json.loads(got.body)["error"]["code"]) == (402, "cost_cap")
            assert (end["type"], end["reason"]) == ("request_cancelled", "cost_cap")
            assert 0 < end["cost_usd"] <= most, "nobody was called whose prompt was more than was left"
            assert len(upstream.requests) > 1, "it was no single round that was too dear"
            assert len(upstream.requests) < 11, "the rounds were not all made"
            assert await again(server, got.headers["x-request-id"]) == got.body


@pytest.mark.parametrize("stream", [True, False])
async def test_a_later_round_is_tried_again_and_the_tools_are_not_run_twice(tmp_path: Path, stream: bool) -> None:
    async with ScriptedServer() as upstream:
        calls = [call("tide", '{"harbour": "B"}')]
        first = calling(*calls) if stream else whole({"tool_calls": calls}, "tool_calls")
        last = said("Soon.") if stream else whole({"content": "Soon."}, "stop")
        upstream.script(COMPATIBLE, first, Script(b"{}", status=503, headers={"Retry-After": "0"}), last)
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(execute_tools=True, stream=stream, retries=1))
            request_id = got.headers["x-request-id"]
            broken = ["generation_failed", "retry_attempted", "generation_started"]
            assert await types_of(server, request_id) == [*FIRST, *ROUND, *broken, *LAST]
            assert b"Soon." in got.body
            assert await again(server, request_id) == got.body
            assert upstream.requests[1].json()["messages"] == upstream.requests[2].json()["messages"]


async def test_another_model_goes_on_where_the_one_before_it_was(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        asked = whole({"content": "Hm.", "tool_calls": [call("tide", '{"harbour": "B"}')]}, "tool_calls")
        upstream.script(COMPATIBLE, asked, Script(b"{}", status=503), whole({"content": "Soon."}, "stop"))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(execute_tools=True, fallback=["openai-compatible/other"]))
            request_id = got.headers["x-request-id"]
            types = await types_of(server, request_id)
            assert (types.count("tool_started"), types.count("fallback_selected")) == (1, 1)
            last = upstream.requests[2].json()
            assert (last["model"], last["messages"][-1]["role"]) == ("other", "tool")
            assert json.loads(got.body)["choices"][0]["message"]["content"] == "Hm.\n\nSoon."
            assert await again(server, request_id) == got.body


async def test_without_retention_nothing_of_a_round_is_kept(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, calling(call("tide", '{"harbour": "Kept"}')), said("Soon."))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            headers = {"X-AbstractCore-Retention": "none"}
            got = await server.gate.ask(chat(execute_tools=True, stream=True), **headers)
            assert b"Soon." in got.body
            events = await server.gate.ended(got.headers["x-request-id"])
            assert "tool_completed" in [event.type for event in events]
            assert not any(b"Kept" in event.data for event in events)


@pytest.mark.parametrize("model", ["anthropic/claude-haiku-4-5", "ollama/qwen3:8b"])
async def test_rounds_are_told_in_the_words_of_every_family(tmp_path: Path, model: str) -> None:
    async with ScriptedServer() as upstream:
        if model.startswith("anthropic"):
            path = "POST /v1/messages"
            head = {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "model": "c",
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }
            use = {"type": "tool_use", "id": "toolu_1", "name": "tide", "input": {"harbour": "B"}}
            scripts = [
                Script.json({**head, "content": [use], "stop_reason": "tool_use"}),
                Script.json({**head, "content": [{"type": "text", "text": "Soon."}], "stop_reason": "end_turn"}),
            ]
        else:
            path = "POST /api/chat"
            use = {"function": {"name": "tide", "arguments": {"harbour": "B"}}}
            done = {"model": "q", "done": True, "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 1}
            scripts = [
                Script.json({**done, "message": {"role": "assistant", "content": "", "tool_calls": [use]}}),
                Script.json({**done, "message": {"role": "assistant", "content": "Soon."}}),
            ]
        upstream.script(path, *scripts)
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            got = await server.gate.ask(chat(model, execute_tools=True))
            assert got.status == 200, got.body
            request_id = got.headers["x-request-id"]
            assert json.loads(got.body)["choices"][0]["message"]["content"] == "Soon."
            assert await types_of(server, request_id) == [*FIRST, *ROUND, *LAST]
            assert b"B: 04:12" in [r for r in upstream.requests if r.path == path.split()[1]][-1].body
            assert await again(server, request_id) == got.body


async def test_a_session_s_turn_may_have_rounds(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        asked = whole({"tool_calls": [call("tide", '{"harbour": "B"}')]}, "tool_calls")
        upstream.script(COMPATIBLE, asked, whole({"content": "At four."}, "stop"), whole({"content": "Yes."}, "stop"))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            async with server.client.post(f"{server.gate.url}/v1/sessions", json={"model": MODEL}) as made:
                session = (await made.json())["id"]
            url = f"{server.gate.url}/v1/sessions/{session}/chat"
            for words in ("When?", "Sure?"):
                body = {"messages": [{"role": "user", "content": words}], "execute_tools": True}
                async with server.client.post(url, json=body) as answer:
                    assert answer.status == 200, await answer.text()
            told = upstream.requests[-1].json()["messages"]
            assert [message["content"] for message in told] == ["When?", None, "B: 04:12", "At four.", "Sure?"]
            assert told[1]["tool_calls"][0]["function"]["name"] == "tide", "what it looked up it still knows"
            assert told[2] == {"role": "tool", "tool_call_id": "call_1", "content": "B: 04:12"}
            async with server.client.get(f"{server.gate.url}/v1/sessions/{session}/messages") as shown:
                assert (await shown.json())["data"][:5] == [*told, {"role": "assistant", "content": "Yes."}][:5]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_session_can_be_opened_with_them(tmp_path: Path, stream: bool) -> None:
    async with ScriptedServer() as upstream:
        calls = [call("tide", '{"harbour": "B"}')]
        first = calling(*calls) if stream else whole({"tool_calls": calls}, "tool_calls")
        upstream.script(COMPATIBLE, first, said("At four.") if stream else whole({"content": "At four."}, "stop"))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            opened = {"model": MODEL, "execute_tools": True}
            async with server.client.post(f"{server.gate.url}/v1/sessions", json=opened) as made:
                session = (await made.json())["id"]
            body = {"messages": [{"role": "user", "content": "When?"}], "stream": stream}
            url = f"{server.gate.url}/v1/sessions/{session}/chat"
            async with server.client.post(url, json=body) as answer:
                got, request_id = await answer.read(), answer.headers["x-request-id"]
            assert b"At four." in got
            assert b"tool_calls" not in got
            assert await types_of(server, request_id) == [*FIRST, *ROUND, *LAST]
            assert await again(server, request_id) == got


async def test_a_model_without_tools_has_rounds_too(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        tag = '<tool_call>\n{"name": "tide", "arguments": {"harbour": "B"}}\n</tool_call>'
        upstream.script(COMPATIBLE, said(f"Hm. {tag}"), said("Soon."))
        async with tooled(tmp_path / "logs", upstream=upstream.base_url) as server:
            body = chat("openai-compatible/qwen3", execute_tools=True, tool_mode="prompted", stream=True)
            got = await server.gate.ask(body)
            request_id = got.headers["x-request-id"]
            assert await types_of(server, request_id) == [*FIRST, *ROUND, *LAST]
            assert b"tool_call" not in got.body
            assert "04:12" in json.dumps(upstream.requests[-1].json()["messages"])
            assert await again(server, request_id) == got.body
