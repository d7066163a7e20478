"""An answer that breaks off after its client saw some of it, and goes on: one stream, one log, one sum."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from eventstore.catalogue.values import Usage
from eventstore.reader import Reader
from gateway.exchange.attempt import Attempt
from gateway.exchange.continuation import GO_ON
from gateway.exchange.run import Exchanges
from gateway.server import Server
from gateway.wire.continued import Continued
from gateway.wire.openai_chat_answer import ChatStream
from gateway.wire.values import Delta, Fold, Meta, Piece
from replay.cli import run as replay
from replay.verify import verified
from tests.cache.calls import CHAT, serving
from tests.clients.front import Front, front
from tests.gateway.scripted import Script, ScriptedServer
from tests.routing.test_failures import BODY, FIRST, SECOND, asked, asked_at, refusing, types

pytestmark = pytest.mark.asyncio(loop_scope="module")

RESUME: dict[str, Any] = {"stream": True, "continuation": "resume", "max_tokens": 99}
USAGE = {"stream_options": {"include_usage": True}}


def chunks(*deltas: dict[str, Any], usage: dict[str, int] | None = None, **end: Any) -> bytes:
    """Frames of a chat, one for each delta; `end` belongs to the last."""
    said = b""
    for number, delta in enumerate(deltas, 1):
        choice = {"index": 0, "delta": delta, "finish_reason": None, **(end if number == len(deltas) else {})}
        said += frame({"choices": [choice]})
    return said + (frame({"choices": [], "usage": usage}) if usage else b"")


def frame(chunk: dict[str, Any]) -> bytes:
    common = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps(common | chunk).encode() + b"\n\n"


def cut(*deltas: dict[str, Any]) -> Script:
    return Script(
        chunks({"role": "assistant", "content": ""}, *deltas), content_type="text/event-stream", framing="close"
    )


def text(*words: str) -> Script:
    """A stream that breaks off behind these words."""
    return cut(*({"content": word} for word in words))


USED = {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35}
REST = Script(
    chunks(
        {"role": "assistant", "content": ""},
        {"content": " the "},
        {"content": "end"},
        {},
        usage=USED,
        finish_reason="stop",
    )
    + b"data: [DONE]\n\n",
    content_type="text/event-stream",
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("continuation"), args=("--nats", "off", "--circuit", "off")) as started:
        yield started


def read(body: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream that is whole."""
    *frames, done, rest = body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(each.removeprefix(b"data: ")) for each in frames]


def content(body: bytes) -> str:
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in read(body) if c["choices"])


async def test_the_same_model_goes_on_where_it_stopped(server: Front) -> None:
    server.answer("openai", text("This", " is"), REST)
    _, body, events = await asked(server, retries=1, **RESUME, **USAGE)
    assert types(events) == [
        "generation_failed", "retry_attempted", "generation_started", "generation_completed", "request_completed",
    ]  # fmt: skip
    assert (events[4]["continued"], events[4]["frame"]) == (True, events[3]["frames"])
    assert content(body) == "This is the end"
    shown = read(body)
    assert len([c for c in shown if c["choices"] and c["choices"][0]["delta"].get("role")]) == 1
    assert [c["choices"][0]["finish_reason"] for c in shown if c["choices"]][-1] == "stop"
    assert len({c["id"] for c in shown}) == 1
    usage = shown[-1]["usage"]
    assert usage["completion_tokens"] == events[3]["tokens_output"] + 5
    assert usage["prompt_tokens"] == events[3]["tokens_input"] + 30
    assert events[-1]["cost_usd"] == pytest.approx(events[3]["cost_usd"] + events[6]["cost_usd"])
    sent = server.asked("openai")[-1].json()["messages"]
    assert sent[-2:] == [{"role": "assistant", "content": "This is"}, {"role": "user", "content": GO_ON}]


@pytest.mark.parametrize(
    "header", [{"Idempotency-Key": "go-on"}, {"x-abstractcore-cache": "use"}], ids=["key", "cache"]
)
async def test_an_answer_that_others_may_be_given_goes_on_too(server: Front, header: dict[str, str]) -> None:
    server.answer("openai", text("This", " is"), REST)
    sent = {**BODY, **RESUME, "retries": 1}
    _, body, _ = await asked_at(server, "chat/completions", sent, **header)
    assert content(body) == "This is the end"
    calls = len(server.asked("openai"))
    assert (await asked_at(server, "chat/completions", sent, **header))[1].endswith(b"data: [DONE]\n\n")
    assert len(server.asked("openai")) == calls, "the second is given the same answer"


async def test_another_model_goes_on(server: Front) -> None:
    server.answer("openai", text("Half"))
    server.play("anthropic")
    _, body, events = await asked(server, fallback=[SECOND], **RESUME)
    assert types(events)[:3] == ["generation_failed", "fallback_selected", "generation_started"]
    assert content(body).startswith("Half")
    assert len(content(body)) > len("Half")
    sent = server.asked("anthropic")[-1].json()["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user"]


async def test_it_goes_on_as_often_as_it_may(server: Front) -> None:
    server.answer("openai", text("one"), text(" two"), refusing(500), REST)
    _, body, events = await asked(server, retries=3, **RESUME)
    assert content(body) == "one two the end"
    assert events[-1]["attempts"] == 4
    sent = server.asked("openai")[-1].json()["messages"]
    assert [turn["content"] for turn in sent[1:]] == ["one", GO_ON, " two", GO_ON]
    assert [event.get("continued") for event in events if event["type"] == "retry_attempted"] == [True] * 3


async def test_one_that_broke_before_its_first_word_is_asked_again(server: Front) -> None:
    server.answer("openai", text(), REST)
    _, body, _ = await asked(server, retries=1, **RESUME)
    assert content(body) == " the end"
    assert len([c for c in read(body) if c["choices"] and c["choices"][0]["delta"].get("role")]) == 1
    assert len(server.asked("openai")[-1].json()["messages"]) == 1


CALL = {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{"}}]}


@pytest.mark.parametrize(
    ("deltas", "fields"),
    [
        ([{"content": "x"}, CALL], {}),
        ([{"content": "x"}], {"continuation": "error"}),
        ([{"content": "x"}], {"continuation": None}),
        ([{"content": "x"}], {"response_format": {"type": "json_object"}}),
        ([{"refusal": "no"}], {}),
    ],
    ids=["a call", "not asked for", "the usual", "json", "a refusal"],
)
async def test_what_cannot_be_gone_on_with_is_an_error(
    server: Front, deltas: list[dict[str, Any]], fields: dict[str, Any]
) -> None:
    server.answer("openai", cut(*deltas), REST)
    _, body, events = await asked(server, retries=1, **{**RESUME, **fields})
    assert types(events) == ["generation_failed", "request_failed"]
    assert b'"error"' in body
    assert b"[DONE]" not in body


async def test_where_nobody_can_go_on_the_error_is_told_behind_what_came(server: Front) -> None:
    server.answer("openai", text("Half"), refusing(500))
    _, body, events = await asked(server, retries=1, **RESUME)
    assert types(events)[-2:] == ["retry_exhausted", "request_failed"]
    assert b"Half" in body
    assert b'"error"' in body


async def test_messages_and_responses_go_on_too(server: Front) -> None:
    for path, fields in (
        ("messages", {"messages": [{"role": "user", "content": "hi"}]}),
        ("responses", {"input": "hi"}),
    ):
        server.answer("openai", text("This", " is"), REST)
        _, body, events = await asked_at(server, path, {"model": FIRST, **RESUME, "retries": 1, **fields})
        assert types(events)[1] == "retry_attempted"
        assert body.count(b"event: message_start") + body.count(b"event: response.created") == 1
        assert b"event: error" not in body


async def test_what_passes_as_it_came_is_not_gone_on_with(server: Front) -> None:
    """Messages to Anthropic itself: neither from there, nor to there."""
    whole = Script.file("anthropic/text.sse")
    half = whole.body[: whole.body.rindex(b"event: content_block_stop")]
    server.answer("anthropic", replace(whole, body=half, framing="close"), whole)
    sent = {"messages": [{"role": "user", "content": "hi"}], **RESUME}
    _, body, events = await asked_at(server, "messages", {"model": SECOND, "retries": 1, **sent})
    assert types(events) == ["generation_failed", "request_failed"]
    assert "continuation" not in server.asked("anthropic")[-1].json()
    server.answer("openai", text("Half"))
    before = len(server.asked("anthropic"))
    _, body, events = await asked_at(server, "messages", {"model": FIRST, "fallback": [SECOND], **sent})
    assert types(events)[-1] == "request_failed"
    assert (b"Half" in body, len(server.asked("anthropic"))) == (True, before)


async def test_what_an_attempt_thinks_that_goes_on_is_not_shown(server: Front) -> None:
    more = chunks({"reasoning_content": "hm"}, {"content": " more"}, finish_reason="stop")
    thinking = Script(more + b"data: [DONE]\n\n", content_type="text/event-stream")
    server.answer("openai", cut({"reasoning_content": "first"}, {"content": "Some"}), thinking)
    _, body, _ = await asked(server, retries=1, **RESUME)
    assert content(body) == "Some more"
    assert (b"first" in body, b"hm" in body) == (True, False)


class Restarting(Exchanges):
    """The deliberate bug: what goes on is told like a new answer."""

    async def _resume(self, *broken: Any) -> Attempt:
        attempt = await super()._resume(*broken)
        assert isinstance(attempt.renderer, Continued)
        attempt.renderer = attempt.renderer._inner
        return attempt


async def findings(tmp_path: Path, kind: type[Exchanges]) -> list[Any]:
    """What verification finds behind an answer that was gone on with."""
    async with ScriptedServer() as upstream:
        upstream.script(CHAT, text("This"), REST)
        async with serving(tmp_path, upstream, kind=type("Resuming", (Server,), {"runs": kind})) as (_, caller):
            await (await caller.begin(**{"retries": 1, **RESUME, **USAGE})).rest()
    with Reader(tmp_path / "logs") as reader:
        listed: list[Any] = verified(reader)["listed"]
        return listed


async def test_an_answer_that_was_gone_on_with_is_proved_by_its_events(tmp_path: Path) -> None:
    assert await findings(tmp_path, Exchanges) == []


async def test_bytes_that_forget_what_came_before_are_noticed(tmp_path: Path) -> None:
    assert await findings(tmp_path, Restarting) != []


@pytest.mark.parametrize("size", [1, 2, 9])
async def test_its_bytes_do_not_hang_on_how_pieces_are_batched(size: int) -> None:
    said, first = Fold(), ChatStream("r", 1, "m", True)
    said.add([Delta(text="Hm")])
    out = first.pieces([Delta(text="Hm")])
    renderer, fold = Continued.over(first, said, Usage(input_tokens=1)), Fold()
    rest: list[Piece] = [Meta(model="n", id="i"), Delta(reasoning="x"), Delta(text="m"), Delta(text="!"),
                         Delta(finish_reason="stop"), Meta(usage=Usage(input_tokens=2, output_tokens=3))]  # fmt: skip
    for at in range(0, len(rest), size):
        fold.add(rest[at : at + size])
        out += renderer.pieces(rest[at : at + size])
    out += renderer.completed(fold)
    assert (renderer.text, content(out)) == ("Hmm!", "Hmm!")
    assert read(out)[-1]["usage"]["total_tokens"] == 6


async def test_all_of_it_is_verified(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    """Last: the server ends here."""
    await server.process.terminate()
    data_dir = str(server.process.data_dir)
    assert replay(["verify", "--decisions", "--data-dir", data_dir], {}) == 0, capsys.readouterr().out
