"""Given an exchange so far, when something happens, then these events: the words of the tests of `decide`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eventstore.catalogue.event import Event
from eventstore.catalogue.request import TERMINAL
from eventstore.catalogue.values import Usage, Usd
from gateway.errors import GatewayError, NotFound
from gateway.exchange.decide import Views, decide
from gateway.exchange.inputs import (
    Answered,
    Failed,
    Failure,
    Input,
    Interrupted,
    Left,
    Payload,
    Refused,
    Seen,
    Submission,
    Submitted,
)
from gateway.exchange.state import Exchange, fold
from gateway.routing.choose import Route
from gateway.upstreams.upstream import Call, Provider

ID = "01M7Y000000000000000000000"
NOW_US = 1_795_219_200_000_000
USAGE = Usage(input_tokens=7, output_tokens=3)
ERROR = {"message": "No.", "type": "server_error", "param": None, "code": None}
BODY: dict[str, Any] = {"model": "p/m", "messages": [{"role": "user", "content": "Hi"}]}
MESSAGE = {"role": "assistant", "content": "All of it.", "refusal": None}
CHOICES = [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}


def submission(**changes: Any) -> Submission:
    made = Submission(
        request_id=ID, endpoint="/v1/chat/completions", wire="openai_chat", renderer=1, body=BODY, recorded=BODY,
        body_length=400, body_digest="aa", model="p/m",
    )  # fmt: skip
    return replace(made, **changes)


def submitted(**changes: Any) -> Submitted:
    provider = Provider(name="p", family="openai_compatible", base_url="http://p.test/v1")
    route = Route(provider, "m", "named", {"listed": ["p"]})
    call = Call("/chat/completions", b"{}", False, ignored=("user",))
    return Submitted(submission(**changes), route, call, "openai_chat_body.1", "http://p.test/v1/c", "bb", NOW_US)


def seen(**changes: Any) -> Seen:
    made = Seen(frames=2, frames_digest="cc", began=True, text_length=10, duration_ms=5.0)
    return replace(made, **changes)


def payload(began: bool = True) -> Payload:
    return Payload("dd", 100, began)


def answered(**changes: Any) -> Answered:
    whole = {"finish_reason": "stop", "choices": CHOICES, "usage": USAGE, **changes}
    return Answered(seen(**whole), payload(), 9.0, 1.0)


def failed(failure: Failure | None = None, **changes: Any) -> Failed:
    failure = failure or Failure("cut", "It broke off.")
    return Failed(failure, ERROR, 502, seen(**changes), payload(), 9.0, 1.0)


def left(**changes: Any) -> Left:
    return Left("client_left", seen(**changes), payload(), 9.0)


def interrupted(reason: str = "restart", **changes: Any) -> Interrupted:
    return Interrupted(reason, "n0", seen(**changes), payload())


def refused(error: GatewayError | None = None, **changes: Any) -> Refused:
    error = error or NotFound("There is none.", code="model_not_found", param="model")
    return Refused(submission(**changes), error, error.error(), "ee", NOW_US)


def price(
    provider: str, model: str, usage: Usage, reported: str | None, tier: str | None, at_us: int
) -> tuple[Usd | None, str | None]:
    """A dollar a token; flex at half of it; none for the model `unknown`."""
    if model == "unknown":
        return None, None
    if reported is not None:
        return Usd.parse(reported), "provider_reported"
    tokens = usage.input_tokens + usage.output_tokens
    return (Usd.parse(tokens / 2), "flex") if tier == "flex" else (Usd.parse(tokens), "standard")


VIEWS = Views(price, NOW_US)


class Given:
    """An exchange with some past. `then` are the events of the last `when`."""

    def __init__(self, *happened: Input) -> None:
        self.exchange = Exchange(ID)
        self.then: list[Event] = []
        for one in happened:
            self.when(one)

    def when(self, happened: Input, views: Views = VIEWS) -> Given:
        self.then = decide(happened, self.exchange, views)
        self.exchange = fold(self.exchange, self.then)
        return self

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.then]

    @property
    def ended(self) -> bool:
        """Whether the last thing that happened ended it, in exactly one event, the last one."""
        ends = [kind in TERMINAL for kind in self.types]
        assert ends in ([False] * len(ends), [False] * (len(ends) - 1) + [True])
        return ends[-1]

    def one(self, kind: str) -> Any:
        """The event of a type among them."""
        (found,) = [event for event in self.then if event.type == kind]
        return found
