"""What is said of each route beside its own docstring: what it takes, what it answers. A route that is not here is in
the document all the same, with an object in and anything out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.api.providers import ProviderChange, ProviderTest
from gateway.api.session_turns import Compaction
from gateway.api.sessions import NewFork, NewSession, Rewind
from gateway.api.stop import StopRequest
from gateway.api.tools import REQUIRED as TOOL_NEEDS
from gateway.api.tools import ToolExecution, ToolRegistration
from gateway.docs import answers, queries, reports
from gateway.docs.bodies import ChatFields, OwnFields
from gateway.docs.headers import ANSWERED, ESTIMATED, SHARED, TURN, Asking, Labels, Resuming
from gateway.multi.request import MultiRequest
from gateway.wire.completions import CompletionsRequest
from gateway.wire.embeddings import EmbeddingsRequest
from gateway.wire.forwarded import SPEECH_TYPES, ForwardedRequest
from gateway.wire.gemini.request import GenerateContentRequest
from gateway.wire.messages.request import MessagesRequest
from gateway.wire.openai_chat_request import ChatRequest
from gateway.wire.rerank import RerankRequest
from gateway.wire.responses.request import ResponsesRequest
from gateway.wire.structured import StructuredRequest

JSON, SSE, TEXT, HTML, FORM = "application/json", "text/event-stream", "text/plain", "text/html", "multipart/form-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route's documents. `body`, `query`, `answer`, `error` are types that pydantic can describe; no answer is any
    JSON. `own` are fields that the body may have beside its protocol's. `required` fields of the body are checked by
    more than their type. `media` are the content types of an answer, the first being the usual one; only JSON has a
    schema. `headers` are types too, of those that are read, and `told` names those of an answer. `example` is a body to
    try."""

    body: Any = None
    own: Any = None
    required: tuple[str, ...] = ()
    forms: bool = False
    query: Any = None
    headers: tuple[Any, ...] = ()
    answer: Any = None
    told: tuple[str, ...] = ()
    media: tuple[str, ...] = (JSON,)
    status: tuple[int, ...] = (200,)
    error: Any = answers.Error
    example: Mapping[str, Any] | None = None


EXCHANGE: Mapping[str, Any] = {"own": OwnFields, "headers": (Labels, Asking), "told": (*ANSWERED, *SHARED)}
"""What is so of every route whose requests are exchanges."""
CHAT: Mapping[str, Any] = {**EXCHANGE, "own": ChatFields}


@dataclass(frozen=True, slots=True)
class Tag:
    """A chapter: the paths that begin so, the first match counting."""

    name: str
    prefixes: tuple[str, ...] = field(default=("",))


TAGS = (
    Tag("Chat and text", ("/v1/chat", "/{provider}", "/v1/responses", "/v1/messages", "/v1/completions",
                          "/v1/generate", "/v1/stream", "/v1beta", "/v1/models/{model}:")),
    Tag("Sessions", ("/v1/sessions",)),
    Tag("Tools", ("/v1/tools",)),
    Tag("Embeddings, images, audio", ("/v1/embeddings", "/v1/images", "/v1/audio", "/v1/moderations", "/v1/rerank")),
    Tag("Models and providers", ("/v1/models", "/v1/providers", "/providers", "/v1/circuit-breakers")),
    Tag("The log", ("/v1/events", "/v1/requests", "/v1/usage", "/v1/tickets")),
    Tag("The server"),
)  # fmt: skip

_HELLO = {"model": "demo/echo", "messages": [{"role": "user", "content": "Hello!"}]}
_SAY_HELLO = {"contents": [{"role": "user", "parts": [{"text": "Hello!"}]}]}
_GOOGLES = {
    "generateContent": Operation(
        body=GenerateContentRequest, required=("contents",), answer=answers.GeneratedContent, error=answers.GoogleError,
        example=_SAY_HELLO, **EXCHANGE,
    ),
    "streamGenerateContent": Operation(
        body=GenerateContentRequest, required=("contents",), query=queries.StreamForm,
        answer=list[answers.GeneratedContent], media=(JSON, SSE), error=answers.GoogleError, example=_SAY_HELLO,
        **EXCHANGE,
    ),
    "countTokens": Operation(
        body=GenerateContentRequest, required=("contents",), answer=answers.TotalTokens, error=answers.GoogleError,
        example=_SAY_HELLO, told=ESTIMATED,
    ),
}  # fmt: skip
_CHAT = Operation(
    body=ChatRequest, required=("messages",), answer=answers.ChatCompletion, media=(JSON, SSE), example=_HELLO,
    **CHAT,
)  # fmt: skip
_TURN = Operation(
    body=ChatRequest, required=("messages",), query=queries.Waiting, answer=answers.ChatCompletion, media=(JSON, SSE),
    **{**CHAT, "told": (*ANSWERED, *SHARED, *TURN)},
)  # fmt: skip
_SESSION = Operation(query=queries.Fresh, answer=reports.Session)
_RESPONSE = Operation(answer=answers.ResponseObject)
_METRICS = Operation(media=(TEXT,))

OPERATIONS: Mapping[str, Operation] = {
    "POST /v1/chat/completions": _CHAT,
    "POST /{provider}/v1/chat/completions": _CHAT,
    "POST /v1/responses": Operation(
        body=ResponsesRequest, required=("input",), answer=answers.ResponseObject, media=(JSON, SSE),
        example={"model": "demo/echo", "input": "Hello!"}, **CHAT,
    ),
    "POST /v1/responses/input_tokens": Operation(
        body=ResponsesRequest, required=("input",), answer=answers.InputTokens,
        example={"model": "demo/echo", "input": "Hello!"}, told=ESTIMATED,
    ),
    "GET /v1/responses/{id}": Operation(query=queries.StoredQuery, answer=answers.ResponseObject, media=(JSON, SSE)),
    "DELETE /v1/responses/{id}": Operation(answer=answers.ResponseDeletion),
    "POST /v1/responses/{id}/cancel": _RESPONSE,
    "GET /v1/responses/{id}/input_items": Operation(query=queries.ItemsQuery, answer=answers.ItemList),
    "POST /v1/messages": Operation(
        body=MessagesRequest, required=("messages", "max_tokens"), answer=answers.Message, media=(JSON, SSE),
        error=answers.MessagesError, example={**_HELLO, "max_tokens": 100}, **EXCHANGE,
    ),
    "POST /v1/messages/count_tokens": Operation(
        body=MessagesRequest, required=("messages",), answer=answers.TokenCount, error=answers.MessagesError,
        example=_HELLO, told=ESTIMATED,
    ),
    **{
        f"POST /{version}/models/{{model}}:{method}": operation
        for version in ("v1", "v1beta")
        for method, operation in _GOOGLES.items()
    },
    "GET /v1beta/models": Operation(answer=answers.GoogleModels, error=answers.GoogleError),
    "GET /v1beta/models/{model}": Operation(answer=answers.GoogleModel, error=answers.GoogleError),
    "POST /v1/completions": Operation(
        body=CompletionsRequest, answer=answers.TextCompletion, media=(JSON, SSE),
        example={"model": "demo/echo", "prompt": "Hello!"}, **EXCHANGE,
    ),
    "POST /v1/generate/structured": Operation(
        body=StructuredRequest, required=("response_model",),
        example={
            "model": "demo/echo",
            "prompt": '{"name": "Ada", "age": 36}',
            "response_model": {"name": {"type": "string"}, "age": {"type": "integer"}},
        },
        **EXCHANGE,
    ),
    "POST /v1/generate/multi": Operation(
        body=MultiRequest, required=("models",), answer=answers.MultiGeneration, media=(JSON, SSE), status=(200, 502),
        own=ChatFields, headers=(Labels,), told=ANSWERED[:1],
        example={"models": ["demo/echo", "demo/echo"], "prompt": "Hello!", "mode": "first"},
    ),
    "GET /v1/generate/multi/{id}": Operation(answer=answers.MultiGeneration),
    "POST /v1/embeddings": Operation(
        body=EmbeddingsRequest, required=("input",), answer=answers.EmbeddingList, **EXCHANGE
    ),
    "POST /v1/images/generations": Operation(body=ForwardedRequest, required=("prompt",), **EXCHANGE),
    "POST /v1/images/edits": Operation(body=ForwardedRequest, required=("prompt", "image"), forms=True, **EXCHANGE),
    "POST /v1/audio/transcriptions": Operation(
        body=ForwardedRequest, required=("file",), forms=True, media=(JSON, TEXT), **EXCHANGE
    ),
    "POST /v1/audio/translations": Operation(
        body=ForwardedRequest, required=("file",), forms=True, media=(JSON, TEXT), **EXCHANGE
    ),
    "POST /v1/audio/speech": Operation(
        body=ForwardedRequest, required=("input",), media=tuple(SPEECH_TYPES.values()), **EXCHANGE
    ),
    "POST /v1/moderations": Operation(body=ForwardedRequest, required=("input",), **EXCHANGE),
    "POST /v1/rerank": Operation(
        body=RerankRequest, required=("query", "documents"), answer=answers.Ranking, **EXCHANGE
    ),
    "POST /v1/sessions": Operation(
        body=NewSession, answer=reports.Session, example={"model": "demo/echo", "system_prompt": "You are helpful."}
    ),
    "GET /v1/sessions": Operation(query=queries.FreshPaging, answer=reports.Page),
    "GET /v1/sessions/{id}": _SESSION,
    "DELETE /v1/sessions/{id}": Operation(answer=reports.SessionDeletion),
    "POST /v1/sessions/{id}/chat": _TURN,
    "POST /v1/sessions/{id}/chat/completions": _TURN,
    "POST /v1/sessions/{id}/compact": Operation(
        body=Compaction, query=queries.Waiting, answer=answers.ChatCompletion, media=(JSON, SSE),
        headers=(Labels, Asking), told=(*ANSWERED, *SHARED, *TURN),
    ),
    "POST /v1/sessions/{id}/fork": Operation(body=NewFork, answer=reports.Session),
    "POST /v1/sessions/{id}/clear": Operation(body=Rewind, answer=reports.Session),
    "GET /v1/sessions/{id}/turns": Operation(query=queries.FreshPaging, answer=reports.Page),
    "GET /v1/sessions/{id}/messages": Operation(query=queries.Paging, answer=reports.Page),
    "GET /v1/models": Operation(query=queries.ModelsQuery, answer=reports.ModelList),
    "GET /v1/models/{id}": Operation(answer=reports.Model),
    "GET /v1/tools": Operation(query=queries.Paging, answer=reports.ToolPage),
    "POST /v1/tools/register": Operation(body=ToolRegistration, required=TOOL_NEEDS, answer=reports.Tool),
    "POST /v1/tools/execute": Operation(body=ToolExecution, required=("name",), answer=reports.ToolOutcome),
    "DELETE /v1/tools/{name}": Operation(answer=reports.ToolDeletion),
    "GET /v1/providers": Operation(query=queries.Paging, answer=reports.ProviderPage),
    "POST /v1/providers/test": Operation(
        body=ProviderTest, required=("name",), answer=reports.ProviderTrial, example={"name": "demo"}
    ),
    "PUT /v1/providers/{name}": Operation(body=ProviderChange, required=("base_url",), answer=reports.Provider),
    "GET /v1/providers/{name}": Operation(answer=reports.Provider),
    "DELETE /v1/providers/{name}": Operation(answer=reports.ProviderRemoval),
    "GET /v1/providers/{name}/status": Operation(answer=reports.Provider),
    "GET /v1/providers/{name}/models": Operation(answer=reports.ProviderModels),
    "GET /providers": Operation(answer=reports.ProviderStates),
    "GET /v1/stream": Operation(status=(101,), media=()),
    "GET /v1/events/stream": Operation(query=queries.EventsQuery, headers=(Resuming,), media=(SSE,)),
    "POST /v1/tickets": Operation(answer=reports.Ticket),
    "GET /v1/requests": Operation(query=queries.RequestsQuery, answer=reports.Page),
    "GET /v1/requests/{id}": Operation(query=queries.Fresh, answer=reports.RequestState),
    "GET /v1/requests/{id}/events": Operation(query=queries.Paging, answer=reports.Page),
    "GET /v1/requests/{id}/stream": Operation(media=(JSON, SSE, TEXT, *SPEECH_TYPES.values())),
    "POST /v1/requests/{id}/stop": Operation(body=StopRequest, answer=reports.RequestEnd, example={"reason": "enough"}),
    "GET /v1/usage": Operation(query=queries.UsageQuery, answer=reports.UsageReport),
    "GET /v1/metrics": _METRICS,
    "GET /metrics": _METRICS,
    "GET /v1/status": Operation(query=queries.Fresh, answer=reports.Status),
    "GET /v1/circuit-breakers": Operation(answer=reports.CircuitBreakers),
    "GET /health": Operation(answer=reports.Health, status=(200, 503)),
    "GET /": Operation(media=(HTML,)),
    "GET /docs": Operation(media=(HTML,)),
    "GET /redoc": Operation(media=(HTML,)),
    "GET /docs/assets/{name}": Operation(media=("text/javascript", "text/css")),
    "GET /openapi.json": Operation(answer=dict[str, Any]),
}  # fmt: skip
