"""What the routes answer and take in their queries, for the documents: the keys that clients can rely on.

Answers have more keys than are named here; none of these types is used on the way of a request. OpenAI's shapes:
https://platform.openai.com/docs/api-reference; Anthropic's: https://docs.anthropic.com/en/api; Google's:
https://ai.google.dev/api.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

Count = Annotated[int, Field(ge=0)]


class ErrorDetail(TypedDict):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(TypedDict):
    """An error in OpenAI's shape, whatever the route."""

    error: ErrorDetail


class MessagesErrorDetail(TypedDict):
    """What went wrong, in Anthropic's words."""

    type: str
    message: str


class MessagesError(TypedDict):
    """An error in Anthropic's shape."""

    type: Literal["error"]
    error: MessagesErrorDetail


class GoogleErrorDetail(TypedDict):
    """What went wrong, in Google's words."""

    code: int
    message: str
    status: str


class GoogleError(TypedDict):
    """An error in Google's shape."""

    error: GoogleErrorDetail


class TokenUsage(TypedDict):
    """Tokens, as the provider counted them."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count


class ChatMessage(TypedDict):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, Any]]]


class MultiResult(TypedDict):
    """What one of several models answered, or why it did not."""

    model: str
    request_id: str
    content: NotRequired[str | None]
    finish_reason: NotRequired[str]
    usage: NotRequired[TokenUsage]
    cost_usd: float | None
    error: NotRequired[ErrorDetail]


class MultiGeneration(TypedDict):
    """What several models answered; `winner` is a request id."""

    id: str
    object: Literal["multi_generation"]
    mode: Literal["all", "first", "best"]
    results: list[MultiResult]
    winner: str | None
    reason: str | None
    cost_usd: float | None
    error: NotRequired[ErrorDetail]


class ChatChoice(TypedDict):
    """One answer."""

    index: int
    message: ChatMessage
    finish_reason: str


class ChatCompletion(TypedDict):
    """A whole chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage


class TextChoice(TypedDict):
    """One continuation."""

    index: int
    text: str
    finish_reason: str | None


class TextCompletion(TypedDict):
    """A whole old completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: TokenUsage


class ResponseObject(TypedDict):
    """A response."""

    id: str
    object: Literal["response"]
    status: str
    model: str
    output: list[dict[str, Any]]


class ResponseDeletion(TypedDict):
    """A response that its clients no longer see."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class ItemList(TypedDict):
    """A page of items."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Message(TypedDict):
    """A message of Anthropic's protocol."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: str | None
    usage: dict[str, Any]


class TokenCount(TypedDict):
    """Tokens of a prompt."""

    input_tokens: Count


class GeneratedContent(TypedDict):
    """An answer of Google's protocol."""

    candidates: list[dict[str, Any]]
    usageMetadata: dict[str, Count]
    modelVersion: str
    responseId: str


class StreamForm(TypedDict):
    """How a stream is written: server-sent events, else an array."""

    alt: NotRequired[Literal["sse", "json"]]


class TotalTokens(TypedDict):
    """Tokens of a prompt, as Google says it."""

    totalTokens: Count


class GoogleModel(TypedDict):
    """A model, as Google shows it."""

    name: str
    supportedGenerationMethods: list[str]


class GoogleModels(TypedDict):
    """The models."""

    models: list[GoogleModel]


class EmbeddingList(TypedDict):
    """Vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    model: str


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
    type: NotRequired[Literal["text-generation", "text-embedding"]]
    context_length: NotRequired[Count]
    capabilities: NotRequired[list[str]]
    strategy: NotRequired[str]
    members: NotRequired[list[str]]


class ModelList(TypedDict):
    """Every provider's models."""

    object: Literal["list"]
    data: list[Model]
    providers: list[ProviderState]


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


class Waiting(TypedDict, total=False):
    """How many seconds to wait for a session that is busy."""

    wait: Annotated[int, Field(ge=0, le=600)]


class Paging(TypedDict, total=False):
    """A page of a list: at most `limit`, after the item that `after` names."""

    limit: Annotated[int, Field(ge=1, le=10_000)]
    after: str


class FreshPaging(Paging, total=False):
    """The same of a list that is folded from the log, which must have seen this position."""

    min_position: Count


class Fresh(TypedDict, total=False):
    """The position of the log that must have been seen."""

    min_position: Count


class UsageQuery(FreshPaging, total=False):
    """`since` and `until`: ISO dates or times, or Unix seconds."""

    group_by: Literal["model", "provider", "key", "session", "day"]
    since: str
    until: str


class ModelsQuery(TypedDict, total=False):
    """Which models."""

    provider: str
    type: Literal["text-generation", "text-embedding"]


class EventsQuery(TypedDict, total=False):
    """Which events, from where."""

    types: str
    request_id: str
    session_id: str
    content: bool
    after: str


class StoredQuery(TypedDict, total=False):
    """A stored response as its events again."""

    stream: bool
    starting_after: Count


class ItemsQuery(TypedDict, total=False):
    """A page of items."""

    order: Literal["asc", "desc"]
    after: str
    limit: Annotated[int, Field(ge=1, le=100)]
