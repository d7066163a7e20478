"""The pure parts: which calls the server runs, what a model is told next, what a client is shown."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore.catalogue.values import Usage
from gateway.errors import InvalidRequest
from gateway.tools.loop import Loop, Looping, continued
from gateway.tools.values import CUT, OUTPUT_LIMIT, Offered, Tool, capped, problem_of
from gateway.wire.openai_chat_answer import ChatBody, ChatStream
from gateway.wire.rounds import Rounds
from gateway.wire.values import Delta, Fold, Meta, Piece, ToolCallDelta

TIDE = Tool(
    name="tide",
    description="When the tide is high.",
    parameters={"type": "object", "properties": {"harbour": {"type": "string"}}, "required": ["harbour"]},
    kind="python",
    source="m",
)


async def no_run(arguments: dict[str, Any], progress: Any) -> str:
    raise AssertionError("nothing is run here")


class Box:
    def find(self, name: str) -> Offered | None:
        return Offered(TIDE, no_run) if name == "tide" else None

    def all(self) -> list[Tool]:
        return [TIDE]


def answer(*names: str, reason: str | None = "tool_calls") -> Fold:
    fold = Fold()
    calls = [ToolCallDelta(i, f"call_{i}", name, "{}") for i, name in enumerate(names)]
    fold.add([Delta(tool_calls=calls, finish_reason=reason)])
    return fold


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("names", "reason", "done", "runs"),
    [
        (["tide"], "tool_calls", 0, True),
        (["tide"], "stop", 0, True),
        (["tide"], "length", 0, False),
        (["tide", "tide"], "tool_calls", 1, True),
        (["tide"], "tool_calls", 2, False),
        (["tide", "theirs"], "tool_calls", 0, False),
        ([], "stop", 0, False),
    ],
)
def test_which_calls_the_server_runs(names: list[str], reason: str, done: int, runs: bool) -> None:
    loop = Loop(frozenset({"tide"}), 2, done)
    assert bool(loop.calls(answer(*names, reason=reason))) is runs


def test_what_a_request_is_offered() -> None:
    looping = Looping(Box(), 10)
    asked: dict[str, Any] = {"execute_tools": True, "messages": []}
    body, loop = looping.begin(asked)
    assert body["tools"] == [TIDE.function()]
    assert loop == Loop(frozenset({"tide"}), 10)
    own = {**named("tide"), "function": {"name": "tide", "parameters": {"type": "object"}}}
    body, _ = looping.begin({**asked, "tools": [own, named("theirs"), {"type": "web_search"}]})
    assert body["tools"] == [own, named("theirs"), {"type": "web_search"}], "a schema that the client sent is its own"
    assert looping.begin({**asked, "tools": [named("theirs")]})[1] is None
    assert looping.begin({"messages": []}) == ({"messages": []}, None)
    with pytest.raises(InvalidRequest):
        looping.begin({**asked, "n": 2})


def test_what_the_model_is_told_next() -> None:
    asked = [{"role": "user", "content": "?"}]
    body = {"messages": asked, "tool_choice": "required", "execute_tools": True}
    message = {"content": None, "tool_calls": [{"id": "a"}], "reasoning_content": "hm"}
    following = continued(body, message, [("a", "04:12")])
    assert [m["role"] for m in following["messages"]] == ["user", "assistant", "tool"]
    assert following["tool_choice"] == "auto"
    assert len(asked) == 1


@pytest.mark.parametrize(("text", "cut"), [("é" * 10, False), ("é" * OUTPUT_LIMIT, True)])
def test_a_result_is_cut_between_letters(text: str, cut: bool) -> None:
    shown, was = capped(text)
    assert was is cut
    assert len(shown.encode()) <= OUTPUT_LIMIT
    assert shown.endswith(CUT) is cut


@pytest.mark.parametrize("arguments", ["[]", "{", '{"harbour": 1}', "{}", '"x"'])
def test_arguments_are_wrong_in_words(arguments: str) -> None:
    assert (problem_of(TIDE, arguments) or "").startswith("The arguments are wrong.")
    assert problem_of(TIDE, '{"harbour": "Brest"}') is None


def rounds(stream: bool) -> Rounds:
    return Rounds(ChatStream("r", 1, "m", True) if stream else ChatBody("r", 1, "m"))


FIRST: list[Piece] = [
    Delta(text="Hm."),
    Delta(tool_calls=[ToolCallDelta(0, "a", "tide", "{}")]),
    Delta(finish_reason="tool_calls"),
    Meta(usage=Usage(input_tokens=1, output_tokens=2)),
]
LAST: list[Piece] = [Delta(text="So"), Delta(text="on.", finish_reason="stop"), Meta(usage=Usage(input_tokens=3))]


@pytest.mark.parametrize("stream", [True, False])
def test_the_bytes_do_not_hang_on_how_pieces_are_batched(stream: bool) -> None:
    def told(size: int) -> bytes:
        renderer, out = rounds(stream), b""
        for pieces, last in ((FIRST, False), (LAST, True)):
            fold = Fold()
            for at in range(0, len(pieces), size):
                fold.add(pieces[at : at + size])
                out += renderer.pieces(pieces[at : at + size])
            if last:
                return out + renderer.completed(fold)
            renderer.ran(fold)
        return out

    assert told(1) == told(2) == told(4)
    assert b"tide" not in told(1)
    assert b'"prompt_tokens":4' in told(1)


def test_an_attempt_that_is_dropped_leaves_nothing_behind_but_its_tokens() -> None:
    renderer, fold = rounds(stream=False), Fold()
    renderer.pieces(FIRST)
    fold.add(FIRST)
    renderer.again(fold)
    last = Fold()
    last.add(LAST)
    renderer.pieces(LAST)
    said = renderer.completed(last)
    assert b"Hm." not in said
    assert b'"total_tokens":6' in said


@pytest.mark.parametrize("stream", [True, False])
def test_signed_thinking_is_shown_only_where_no_round_came_before(stream: bool) -> None:
    """Its client would give it back without that round, and who signed it refuses that."""
    signed, other = Delta(extra={"thinking_blocks": [{"signature": "s"}]}), Delta(extra={"citations": ["c"]})

    def told(renderer: Rounds) -> bytes:
        fold = Fold()
        fold.add([signed, other, *LAST])
        return renderer.pieces([signed, other, *LAST]) + renderer.completed(fold)

    later, fold = rounds(stream), Fold()
    fold.add([signed, *FIRST])
    before = later.pieces([signed, *FIRST])
    later.ran(fold)
    assert b"thinking_blocks" in told(rounds(stream))
    assert b"thinking_blocks" not in before + told(later)
    assert b"citations" in told(rounds(stream))
