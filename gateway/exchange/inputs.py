"""What can happen to an exchange. Values only; `decide` says what follows from each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, Protocol

from eventstore.catalogue.audio import AudioTranscribed
from eventstore.catalogue.event import Event
from eventstore.catalogue.request import FaultDomain, FileAttached
from eventstore.catalogue.values import Usage, Usd
from eventstore.envelope import StreamWrite
from eventstore.value import value
from gateway.errors import GatewayError
from gateway.exchange.policy import Policy
from gateway.routing.choose import Route
from gateway.routing.chosen import Chosen
from gateway.upstreams.upstream import Call

FileGiven = FileAttached | AudioTranscribed
"""What is recorded of a file that a model is given."""


class Beside(Protocol):
    """Something that a request is part of, and that has a stream of its own, such as a session."""

    def beside(self, request_id: str, first: bool, events: Sequence[Event]) -> tuple[StreamWrite, ...]:
        """What goes into the commit of these events of the request; `first`: its stream begins with them. Pure."""


@value(kw_only=True)
class Submission:
    """A request as it came in: what is recorded of it, and what is only used. `body` is the request in its
    dialect, with the extension fields and with what it refers to; `recorded` is the client's own JSON, with credentials
    replaced and large parts as blob references. `wire`, `renderer` and `options` say what the answer looks like. `chat`
    is the request as chat with its `files` made ready, where it has any. `parent` is the group that it is a member of.
    `policy`: what may follow an attempt that failed, None where nothing may. `most_cost`: what it may cost. `turn` of
    a session and `claims` to its answer are recorded with it; where somebody else moved their streams, `Exchanges.run`
    raises `WrongExpectedVersion`, and nothing was recorded or answered. `virtual`: what the virtual model that it names
    came to. `lent_to`: the provider that `api_key` and `base_url` are for, None where that is whoever `model` leads to.
    `rounds`: so many rounds of the server's tools are over."""

    request_id: str
    endpoint: str
    wire: str
    renderer: int
    body: dict[str, Any] = field(repr=False)
    recorded: dict[str, Any] | None = field(repr=False)
    blobs: tuple[bytes, ...] = field(default=(), repr=False)
    body_length: int = 0
    body_digest: str = ""
    model: str = ""
    streamed: bool = False
    include_usage: bool = False
    options: dict[str, Any] | None = None
    subject: str = "anonymous"
    key: str = "anonymous"
    session_id: str | None = None
    tags: dict[str, str] | None = None
    retained: bool = True
    client: str | None = None
    headers: dict[str, str] | None = None
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    chat: dict[str, Any] | None = field(default=None, repr=False)
    files: tuple[FileGiven, ...] = ()
    parent: str | None = None
    policy: Policy | None = None
    turn: Beside | None = None
    claims: Beside | None = None
    most_cost: Usd | None = None
    virtual: Chosen | None = None
    lent_to: str | None = None
    rounds: int = 0


@value
class Submitted:
    """The request can be served: this is its route and its upstream call. `url` is scrubbed."""

    submission: Submission
    route: Route
    call: Call
    decoder: str
    url: str
    call_digest: str
    now_us: int
    held: str | None = None


@value
class Refused:
    """The request cannot be served, before any call. `error` is what the client gets."""

    submission: Submission
    error: GatewayError
    error_value: dict[str, Any]
    payload_digest: str
    now_us: int


@value
class Seen:
    """What an attempt gave until it ended. `text_length` is in characters; times in milliseconds since the call."""

    frames: int
    frames_digest: str
    began: bool
    text_length: int
    duration_ms: float
    finish_reason: str | None = None
    choices: list[dict[str, Any]] | None = field(default=None, repr=False)
    usage: Usage | None = None
    usage_raw: dict[str, Any] | None = None
    usage_estimated: bool = False
    cost_reported: str | None = None
    service_tier: str | None = None
    ttft_ms: float | None = None
    provider_model: str | None = None
    provider_request_id: str | None = None


@value
class Payload:
    """What was rendered for the client: sha256 and length of its bytes, and whether their head is out (`began`)."""

    digest: str
    length: int
    began: bool


@value
class Failure:
    """Why an attempt gave no whole answer; see `gateway.errors.STATUS_OF_KIND` for the words of `kind`."""

    kind: str
    message: str
    fault_domain: FaultDomain = "provider"
    status: int | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    retry_after_s: float | None = None
    headers: dict[str, str] | None = None


@value
class Stop(Failure):
    """The answer was ended on purpose, and its client is told so: `kind` is `stopped` or `cost_cap`, `reason` the word
    that is recorded."""

    reason: str = "stopped"


@value
class Answered:
    """The upstream's answer is whole, and rendered."""

    seen: Seen
    payload: Payload
    duration_ms: float
    overhead_ms: float


@value
class Unfit:
    """The upstream's answer is whole, and not what the request asked for (`problem`); nobody was shown any of it. The
    rest is the call that follows."""

    seen: Seen
    problem: str
    call: Call
    decoder: str
    url: str
    call_digest: str
    now_us: int


@value
class Broken:
    """The attempt failed before anybody saw anything of it, and another follows, `delay_s` seconds later: where it was,
    or elsewhere (`fallen`). `reason` and `inputs` are the decision's; the rest is the call that follows. `continued`:
    the client saw what the attempt gave, and the one that follows goes on with it. `files` are those that another model
    is given otherwise."""

    failure: Failure
    seen: Seen
    route: Route
    reason: str
    inputs: dict[str, Any]
    delay_s: float
    fallen: bool
    skipped: dict[str, str]
    callers_url: bool
    held: str | None
    call: Call
    decoder: str
    url: str
    call_digest: str
    now_us: int
    continued: bool = False
    files: tuple[FileGiven, ...] = ()


@value
class HedgeBegun:
    """A call is made beside the attempt under way, which has brought nothing in `after_ms` milliseconds. `files` are
    those that its model is given otherwise."""

    route: Route
    after_ms: int
    callers_url: bool
    call: Call
    url: str
    call_digest: str
    now_us: int
    files: tuple[FileGiven, ...] = ()


@value
class HedgeLost:
    """The call beside the attempt came to nothing: the attempt was first, or it failed by itself. `used`: its provider
    had the prompt, and was working on it."""

    failure: Failure
    used: bool
    duration_ms: float


@value
class HedgeWon:
    """The call beside takes the place of the attempt (`seen`), which came to nothing. The rest is how it is read."""

    failure: Failure
    seen: Seen
    call: Call
    decoder: str
    url: str
    call_digest: str
    held: str | None


@value
class RoundEnded:
    """The upstream's answer is whole, and calls tools that the server runs: `tools` are the events of their begin."""

    seen: Seen
    tools: tuple[Event, ...]


@value
class ToolTold:
    """A tool of the round said how far it is, or ended."""

    event: Event


@value
class RoundBegun:
    """Another call follows, with the results of the round."""

    call: Call
    decoder: str
    url: str
    call_digest: str
    now_us: int


@value
class Exhausted:
    """Why nothing more is tried: `inputs` is what this was decided from, None where nothing was tried before; `skipped`
    are the models that could not take the request, and why."""

    inputs: dict[str, Any] | None
    skipped: dict[str, str] = field(default_factory=dict)


@value
class Failed:
    """The attempt failed, and the error was rendered. `exhausted`: why no other follows."""

    failure: Failure
    error: dict[str, Any]
    status: int
    seen: Seen
    payload: Payload
    duration_ms: float
    overhead_ms: float
    exhausted: Exhausted | None = None


@value
class Left:
    """The client left, or somebody asked to stop (`reason`). Where the client is still there it is told: `stop`, as
    `error` with `status`."""

    reason: str
    seen: Seen
    payload: Payload
    duration_ms: float
    stop: Stop | None = None
    error: dict[str, Any] | None = None
    status: int | None = None


@value
class Interrupted:
    """We ended before the answer did: an orderly `shutdown`, or a crash found at the next start (`restart`)."""

    reason: str
    incarnation: str
    seen: Seen | None
    payload: Payload | None


Input = (
    Submitted
    | Refused
    | Answered
    | Unfit
    | Broken
    | HedgeBegun
    | HedgeLost
    | HedgeWon
    | RoundEnded
    | ToolTold
    | RoundBegun
    | Failed
    | Left
    | Interrupted
)
