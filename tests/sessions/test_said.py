"""What a session remembers of a turn, from the events of its request."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore.catalogue.generation import GenerationCompleted, GenerationFailed
from eventstore.catalogue.tool import ToolCompleted, ToolFailed, ToolStarted
from eventstore.envelope import RecordedEvent
from gateway.sessions import said as module
from gateway.sessions.said import said
from tests.projections.ledger import Ledger
from tests.projections.stories import DIGEST, broke, generated


def answered(content: str | None, *calls: str) -> GenerationCompleted:
    message: dict[str, Any] = {"role": "assistant", "content": content, "reasoning": "hm"}
    if calls:
        message["tool_calls"] = [_call(name) for name in calls]
    return generated("r", choices=[{"index": 0, "message": message, "finish_reason": "stop"}])


def _call(name: str) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}


def gave(call_id: str, output: str) -> ToolCompleted:
    return ToolCompleted(
        tool_name="t", call_id=call_id, duration_ms=1.0, length=1, digest=DIGEST, output=output, request_id="r"
    )


def did_not(call_id: str, message: str) -> ToolFailed:
    return ToolFailed(tool_name="t", call_id=call_id, kind="tool_error", message=message, request_id="r")


def recorded(*events: GenerationCompleted | GenerationFailed | ToolStarted | ToolCompleted | ToolFailed) -> list[Any]:
    log = Ledger()
    log.add(*events)
    return [event for event in log.read(0, 100) if isinstance(event, RecordedEvent)]


def assistant(content: str | None, *calls: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    return {**message, "tool_calls": [_call(name) for name in calls]} if calls else message


def result(call_id: str, content: str) -> dict[str, str]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


ROUNDS = (answered("Hm.", "a", "b"), gave("b", "2"), did_not("a", "no"), answered("So."))
CASES: list[tuple[str, tuple[Any, ...], list[dict[str, Any]]]] = [
    ("an answer, without what the model thought", (answered("Hi."),), [assistant("Hi.")]),
    ("no answer", (broke("r"),), []),
    ("calls that are the client's", (answered(None, "a"),), [assistant(None, "a")]),
    ("a corrected answer is not what was said", (answered("{"), answered("{}")), [assistant("{}")]),
    (
        "a round, its results in the order of the calls",
        ROUNDS,
        [assistant("Hm.", "a", "b"), result("a", "Error: no"), result("b", "2"), assistant("So.")],
    ),
    (
        "a round whose next attempt was tried again",
        (answered(None, "a"), gave("a", ""), broke("r"), answered("So.")),
        [assistant(None, "a"), result("a", ""), assistant("So.")],
    ),
    (
        "two rounds, then a call for the client",
        (answered(None, "a"), gave("a", "1"), answered(None, "b"), gave("b", "2"), answered(None, "theirs")),
        [assistant(None, "a"), result("a", "1"), assistant(None, "b"), result("b", "2"), assistant(None, "theirs")],
    ),
]


@pytest.mark.parametrize(("events", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_turn_says(events: tuple[Any, ...], expected: list[dict[str, Any]]) -> None:
    assert said(recorded(*events)) == expected


def test_signed_thinking_is_remembered() -> None:
    signed = [{"type": "thinking", "thinking": "hm", "signature": "s"}]
    message = {**assistant(None, "a"), "reasoning_content": "hm", "thinking_blocks": signed}
    answer = generated("r", choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}])
    assert said(recorded(answer)) == [{**assistant(None, "a"), "thinking_blocks": signed}]


def test_results_that_are_forgotten_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bug put in: only the last answer counts."""
    monkeypatch.setattr(module, "TOOL_ENDS", frozenset())
    assert said(recorded(*ROUNDS)) == [assistant("So.")]
