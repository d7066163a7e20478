"""What the server answers of itself (tools, providers, models, requests, sessions, its state), for the documents.

As in `answers`: the keys that clients can rely on.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from gateway.docs.answers import Count


class Tool(TypedDict):
    """A tool that the server runs, as a request's `tools` has it, and where it comes from."""

    type: Literal["function"]
    function: dict[str, Any]
    name: str
    kind: Literal["python", "http", "mcp"]
    source: str
    timeout_s: float | None


class ToolPage(TypedDict):
    """A page of tools, and how each MCP server is."""

    data: list[Tool]
    mcp_servers: list[dict[str, str]]
    position: Count
    next: NotRequired[str]


class ToolOutcome(TypedDict):
    """What running a tool came to: its result, or with `is_error` what went wrong."""

    call_id: str
    tool_name: str
    output: str
    is_error: bool
    error: str | None
    cut: bool
    duration_ms: float


class ToolDeletion(TypedDict):
    """A tool that is offered no longer."""

    name: str
    object: Literal["tool"]
    deleted: Literal[True]


class ProviderState(TypedDict):
    """How a provider is."""

    name: str
    type: str
    model_count: Count
    status: Literal["available", "unavailable", "not_configured"]
    reason: NotRequired[str]


class ProviderStates(TypedDict):
    """All providers."""

    providers: list[ProviderState]


class Provider(ProviderState):
    """A provider, where it is and how it is."""

    family: str
    base_url: str
    local: bool
    api_key_env: str | None
    has_key: bool
    configured_by: Literal["environment", "request"]
    checked_seconds_ago: float


class ProviderRemoval(TypedDict):
    """A configuration that holds no longer; `offered`: whether the server came with a provider of that name."""

    name: str
    removed: Literal[True]
    offered: bool


class ProviderPage(TypedDict):
    """A page of providers."""

    data: list[Provider]
    position: Count
    next: NotRequired[str]


class ProviderTrial(ProviderState):
    """How a try went."""

    success: bool
    latency_ms: float
    models: list[str]


class Model(TypedDict):
    """A model that can be asked for."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    type: NotRequired[Literal["text-generation", "text-embedding", "text-reranking", "model"]]
    context_length: NotRequired[Count]
    capabilities: NotRequired[list[str]]
    strategy: NotRequired[str]
    members: NotRequired[list[str]]
    display_name: NotRequired[str]
    created_at: NotRequired[str]
    lifecycle: NotRequired[Literal["active"]]
    max_input_tokens: NotRequired[Count | None]


class ModelList(TypedDict):
    """Every provider's models."""

    object: Literal["list"]
    data: list[Model]
    providers: list[ProviderState]
    has_more: NotRequired[Literal[False]]
    first_id: NotRequired[str | None]
    last_id: NotRequired[str | None]


class ProviderModels(TypedDict):
    """One provider's models."""

    object: Literal["list"]
    data: list[Model]
    provider: ProviderState


class StatusProvider(TypedDict):
    """A provider in the status."""

    name: str
    status: Literal["healthy", "unhealthy", "not_configured"]
    models: list[str]
    reason: NotRequired[str]


class CircuitBreaker(TypedDict):
    """How it stands with a provider and a credential (its fingerprint). Times are microseconds since 1970."""

    provider: str
    credential: str | None
    state: Literal["closed", "open", "half_open"]
    failures: Count
    opened_at: int | None
    retry_at: int | None


class CircuitBreakers(TypedDict):
    """Those that failed since they last answered."""

    data: list[CircuitBreaker]
    position: Count


class Status(TypedDict):
    """The server at a glance."""

    status: Literal["healthy", "degraded", "failing"]
    version: str
    uptime_seconds: Count
    total_requests: Count
    active_sessions: Count
    providers: list[StatusProvider]
    reasons: list[str]
    requests: dict[str, int]
    origin: str
    position: Count


class Health(TypedDict):
    """Whether the server works."""

    status: Literal["healthy", "degraded", "failing"]
    reasons: NotRequired[list[str]]


class Ticket(TypedDict):
    """A way in for what cannot set headers: `?access_token=`, once, within `expires_in` seconds."""

    ticket: str
    expires_in: float


class Page(TypedDict):
    """A page of a list, as of a position of the log."""

    data: list[dict[str, Any]]
    position: NotRequired[Count]
    next: NotRequired[str]
    stale: NotRequired[Literal[True]]


class UsageReport(Page):
    """Tokens and cost, by group."""

    total: dict[str, Any]


class RequestState(TypedDict):
    """What became of a request."""

    id: str
    state: str
    endpoint: str
    wire: str
    key: str
    started_at: str
    ended_at: str | None
    status: int | None


class RequestEnd(TypedDict):
    """How a stopped request ended; one that was whole before is `completed`, one to several models `settled`."""

    id: str
    state: str
    reason: str | None
    cost_usd: float | None
    position: Count


class Session(TypedDict):
    """A conversation that the server keeps. `turn` is the one that it goes on from."""

    id: str
    object: Literal["session"]
    created: int
    model: str | None
    title: str | None
    metadata: dict[str, str] | None
    forked_from: dict[str, Any] | None
    version: Count
    turn: Count
    busy: bool
    turns: Count
    tokens_input: Count
    tokens_output: Count
    cost_usd: float
    turns_unpriced: Count
    stale: NotRequired[Literal[True]]


class SessionDeletion(TypedDict):
    """The session is gone for its clients."""

    id: str
    object: Literal["session"]
    deleted: Literal[True]
