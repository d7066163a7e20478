"""What happens to a client's request. One stream each: `request-<id>`. Exactly one of the last five ends it."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar, Literal

from eventstore.catalogue.event import Event, event
from eventstore.catalogue.values import Usd
from eventstore.value import value

FaultDomain = Literal["caller", "policy", "provider", "gateway"]


@event
@value(kw_only=True)
class RequestReceived(Event):
    """A request was read whole, its credentials replaced. Nothing was done for it yet.

    `body` is the request's JSON; large parts stand as `{"$blob": "<sha256 hex>"}`. `renderer` is the version of the
    wire format's renderer that all later readers must use; `options` is what else the form of the answer hangs on.
    `headers` are the recorded (allow-listed) ones. `parent` is the id of the group that the request is a member of.
    """

    type: ClassVar[str] = "request_received"
    CONTENT: ClassVar[frozenset[str]] = frozenset({"body", "options"})

    request_id: str
    endpoint: str
    wire: str
    renderer: int
    stream_answer: bool
    model: str
    subject: str
    key: str
    body_length: int
    body_digest: str
    body: dict[str, Any] | None = None
    include_usage: bool | None = None
    options: dict[str, Any] | None = None
    session_id: str | None = None
    tags: dict[str, str] | None = None
    retention: str | None = None
    client: str | None = None
    headers: dict[str, str] | None = None
    parent: str | None = None


@event
@value(kw_only=True)
class RequestRejected(Event):
    """The request was refused before any generation. `error` is `{message, type, param, code}` as the client got it;
    `inputs` is what the decision was made from. Ends the request; where the body could not be read at all, it is the
    stream's only event and names `endpoint`, `wire` and `key` itself. With `retention` `none` the error has no message,
    which could quote the request."""

    type: ClassVar[str] = "request_rejected"

    request_id: str
    endpoint: str
    wire: str
    key: str
    status: int
    error: dict[str, Any]
    fault_domain: FaultDomain
    inputs: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    stream_answer: bool = False
    renderer: int = 1
    payload_digest: str | None = None
    retention: str | None = None


@event
@value(kw_only=True)
class FileAttached(Event):
    """A file of the request was read and given to the model. `part` is its JSON path; `source` is `inline`, `url` or
    `path`; `given_as` is `image`, `document` or `text`. `digest` is sha256 of its bytes, a blob where the request does
    not hold them itself; `text_digest` is the blob of the text that was read out of it."""

    type: ClassVar[str] = "file_attached"
    CONTENT: ClassVar[frozenset[str]] = frozenset({"name", "url"})

    request_id: str
    part: str
    source: str
    media_type: str
    size: int
    digest: str
    given_as: str
    name: str | None = None
    url: str | None = None
    text_digest: str | None = None


@event
@value(kw_only=True)
class RouteSelected(Event):
    """Where the request goes and why. `ignored` names advisory fields that the family cannot carry."""

    type: ClassVar[str] = "route_selected"

    request_id: str
    provider: str
    model: str
    family: str
    reason: str
    inputs: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] | None = None


@event
@value(kw_only=True)
class RequestCompleted(Event):
    """The answer is whole. `payload_digest` is sha256 over the rendered answer's bytes (body, or SSE without pings);
    `overhead_ms` is our own share of `duration_ms`; `cost_usd` counts all attempts, null where one has no price."""

    type: ClassVar[str] = "request_completed"
    EXPLICIT: ClassVar[frozenset[str]] = frozenset({"cost_usd"})
    MONEY: ClassVar[frozenset[str]] = frozenset({"cost_usd"})

    request_id: str
    provider: str
    model: str
    status: int
    attempts: int
    duration_ms: float
    overhead_ms: float
    payload_digest: str
    payload_length: int
    cost_usd: Usd | None
    ttft_ms: float | None = None


@event
@value(kw_only=True)
class RequestFailed(Event):
    """There is no whole answer. `error` is what the client got, as a body with `status` or, where the answer had begun
    (`began`), as an error frame."""

    type: ClassVar[str] = "request_failed"
    EXPLICIT: ClassVar[frozenset[str]] = frozenset({"cost_usd"})
    MONEY: ClassVar[frozenset[str]] = frozenset({"cost_usd"})

    request_id: str
    provider: str
    model: str
    status: int
    attempts: int
    duration_ms: float
    overhead_ms: float
    error: dict[str, Any]
    fault_domain: FaultDomain
    began: bool
    payload_digest: str
    payload_length: int
    cost_usd: Usd | None
    headers: dict[str, str] | None = None


@event
@value(kw_only=True)
class RequestCancelled(Event):
    """The client left (`client_left`), or the answer was ended on purpose: somebody asked (`reason` says why), or it
    had cost what it may (`cost_cap`). `payload_digest` covers what was rendered so far, and the `error` that told its
    client, if one was still there: as a body with `status`, or where the answer had begun (`began`) as an error
    frame."""

    type: ClassVar[str] = "request_cancelled"
    EXPLICIT: ClassVar[frozenset[str]] = frozenset({"cost_usd"})
    MONEY: ClassVar[frozenset[str]] = frozenset({"cost_usd"})

    request_id: str
    provider: str
    model: str
    reason: str
    attempts: int
    duration_ms: float
    payload_digest: str
    payload_length: int
    cost_usd: Usd | None
    status: int | None = None
    error: dict[str, Any] | None = None
    began: bool | None = None


@event
@value(kw_only=True)
class RequestInterrupted(Event):
    """We stopped or crashed before the answer was whole (`shutdown`, `restart`), or failed at it (`internal_error`), or
    the request that it was to be given the answer of did (reason source_ended); recorded then, or at the next start.
    `incarnation` is the origin that was running the request."""

    type: ClassVar[str] = "request_interrupted"
    EXPLICIT: ClassVar[frozenset[str]] = frozenset({"cost_usd"})
    MONEY: ClassVar[frozenset[str]] = frozenset({"cost_usd"})

    request_id: str
    reason: str
    incarnation: str
    attempts: int
    cost_usd: Usd | None
    provider: str | None = None
    model: str | None = None
    payload_digest: str | None = None
    payload_length: int | None = None


TERMINAL = frozenset(
    {"request_rejected", "request_completed", "request_failed", "request_cancelled", "request_interrupted"}
)
