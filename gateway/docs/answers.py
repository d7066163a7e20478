"""What models answer, and every route's errors, for the documents: the keys that clients rely on.

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
    request_id: str


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


class InputTokens(TokenCount):
    """The same, of a Responses request."""

    object: Literal["response.input_tokens"]


class GeneratedContent(TypedDict):
    """An answer of Google's protocol."""

    candidates: list[dict[str, Any]]
    usageMetadata: dict[str, Count]
    modelVersion: str
    responseId: str


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


class RankedText(TypedDict):
    """A document."""

    text: NotRequired[str]


class RankedResult(TypedDict):
    """A document's place among those of the request, and how relevant it is."""

    index: Count
    relevance_score: float
    document: NotRequired[RankedText]


class Ranking(TypedDict):
    """Documents, the most relevant first. `usage` or `meta` is there as the provider says it."""

    id: str
    model: str
    results: list[RankedResult]
    usage: NotRequired[dict[str, Any]]
    meta: NotRequired[dict[str, Any]]
