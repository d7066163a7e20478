"""What became of the members, from their events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventstore.catalogue import decode
from eventstore.catalogue.group import GroupSettled, GroupStarted
from eventstore.catalogue.request import TERMINAL, RequestRejected
from eventstore.catalogue.values import Usage, Usd
from eventstore.envelope import RecordedEvent
from eventstore.value import value
from gateway.exchange.recorded import answer_message
from gateway.exchange.state import total
from gateway.wire.openai_chat import usage_to_openai

NOBODY = {
    "message": "No member gave a whole answer.",
    "type": "server_error",
    "param": None,
    "code": "no_whole_answer",
}


@value
class Result:
    """One member. `shown` is what its client gets, `text` the answer where it is whole, `cost` None where it is not
    known."""

    request_id: str
    model: str
    shown: dict[str, Any]
    text: str | None
    cost: Usd | None

    @property
    def whole(self) -> bool:
        return self.text is not None


def result_of(request_id: str, model: str, events: Sequence[RecordedEvent]) -> Result:
    """A member as its events say that it is now."""
    shown: dict[str, Any] = {"model": model, "request_id": request_id}
    last = events[-1] if events else None
    if last is None or last.type not in TERMINAL:
        return Result(request_id, model, shown | {"content": None, "cost_usd": None}, None, None)
    cost = _cost(last)
    if last.type != "request_completed":
        return Result(request_id, model, shown | {"error": _error(last), "cost_usd": cost}, None, cost)
    said = answer_message(events) or {}
    text = said.get("content") or ""
    shown |= {"content": said.get("content")}
    shown |= {name: said[name] for name in ("tool_calls", "refusal", "reasoning_content") if said.get(name)}
    return Result(request_id, model, shown | _figures(events) | {"cost_usd": cost}, text, cost)


def answer_of(started: GroupStarted, settled: GroupSettled | None, results: Sequence[Result], judge: Usd | None) -> Any:
    """What the group's client gets. `judge` is what the judge cost, 0 where there was none."""
    cost: Usd | None = judge
    for result in results:
        cost = total(cost, result.cost)
    shown: dict[str, Any] = {
        "id": started.group_id,
        "object": "multi_generation",
        "mode": started.mode,
        "results": [result.shown for result in results],
        "winner": settled.winner if settled else None,
        "reason": settled.reason if settled else None,
        "cost_usd": cost,
    }
    if started.policy:
        shown["policy"] = started.policy
    if settled and settled.judge_request:
        shown["judge"] = {"model": started.judge, "request_id": settled.judge_request, "cost_usd": judge}
    if settled and not any(result.whole for result in results):
        shown["error"] = NOBODY
    return shown


def cost_of(events: Sequence[RecordedEvent]) -> Usd | None:
    """What a request cost; None where that is not known, or not yet."""
    return _cost(events[-1]) if events and events[-1].type in TERMINAL else None


def _cost(last: RecordedEvent) -> Usd | None:
    event = decode(last)
    if isinstance(event, RequestRejected):
        return Usd(0)
    cost: Usd | None = event.cost_usd  # type: ignore[attr-defined]  # every other terminal event has it
    return cost


def _error(last: RecordedEvent) -> Mapping[str, Any]:
    """Why a member has no whole answer, in the shape of every error."""
    if "error" in last.body:
        error: Mapping[str, Any] = last.body["error"]
        return error
    reason = last.body["reason"]
    return {"message": WHY.get(reason, "The answer broke off."), "type": last.type, "param": None, "code": reason}


WHY = {
    "lost": "Another member's answer came first.",
    "client_left": "The client left.",
    "shutdown": "The server stopped.",
    "restart": "The server stopped.",
}


def _figures(events: Sequence[RecordedEvent]) -> dict[str, Any]:
    """The finish reason and the tokens, of the last whole generation."""
    body = next(event.body for event in reversed(events) if event.type == "generation_completed")
    return {"finish_reason": body["finish_reason"], "usage": usage_to_openai(Usage(**body["usage"]))}
