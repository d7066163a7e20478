"""Reranking as a caller's protocol: documents in the order of their relevance to a query.

The shape is Jina's (https://jina.ai/reranker, `POST /v1/rerank`) and Cohere's first
(https://docs.cohere.com/v1/reference/rerank). vLLM
(https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html#re-rank-api), llama.cpp
(https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, `POST /reranking`), Infinity and LiteLLM have
it too. They differ in whether they sort, cut at `top_n` and say the documents again; the client gets what it asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from gateway.errors import InvalidRequest, MissingParameter, openai_error_body
from gateway.wire.dialect import Dialect, Form, Renderer
from gateway.wire.fastlane import loads_lenient
from gateway.wire.openai_chat_request import Credential, Text, refuse_stream, validate
from gateway.wire.values import Fold, Piece, WireError

LONGEST_ECHO = 64 * 1024
"""Characters of all documents. Longer ones are not recorded once more, only to say them again: they are in the answer
if the provider says them."""

Positive = Annotated[int, Field(ge=1)]


@with_config(ConfigDict(extra="allow", strict=True))
class TextDocument(TypedDict):
    """A document as an object."""

    text: str


@with_config(ConfigDict(extra="allow", strict=True))
class RerankRequest(TypedDict, total=False):
    """A query and documents: the fields that are checked. Others pass."""

    model: Text | None
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[list[str | TextDocument], Field(min_length=1)]
    top_n: Positive | None
    return_documents: bool | None
    max_tokens_per_doc: Positive | None
    user: str | None
    metadata: dict[str, str] | None
    api_key: Credential | None
    base_url: str | None
    session_id: str | None


_ADAPTER: TypeAdapter[RerankRequest] = TypeAdapter(RerankRequest)


def texts_of(documents: Sequence[Any]) -> list[str]:
    """What is ranked of checked documents."""
    return [each if isinstance(each, str) else each["text"] for each in documents]


class RerankDialect(Dialect):
    """A query and documents in, their relevance out."""

    wire = "rerank"
    version = 1
    as_chat = False

    def check(self, body: Mapping[str, Any]) -> None:
        for name in ("query", "documents"):
            if body.get(name) is None:
                raise MissingParameter(name)
        _check_documents(body["documents"])
        validate(_ADAPTER, body)
        refuse_stream(body)

    def options(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        said: dict[str, Any] = {"documents": len(body["documents"])}
        said |= {name: body[name] for name in ("top_n", "return_documents") if body.get(name) is not None}
        if body.get("return_documents"):
            texts = texts_of(body["documents"])
            if sum(map(len, texts)) <= LONGEST_ECHO:
                said["texts"] = texts
        return said

    def renderer(self, form: Form) -> Renderer:
        return RerankBody(form)

    def error_body(self, status: int, error: Mapping[str, Any]) -> bytes:
        return orjson.dumps(openai_error_body(error))


def _check_documents(documents: Any) -> None:
    """Says which document is none, where the type of all would only say which of its members each one fails."""
    for index, each in enumerate(documents if isinstance(documents, list) else ()):
        if not isinstance(each, str) and not (isinstance(each, dict) and isinstance(each.get("text"), str)):
            where = f"documents[{index}]"
            said = f"Invalid value for '{where}': a document is a text, or an object with a 'text'."
            raise InvalidRequest(said, param=where, code="invalid_type")


class RerankBody:
    """Renders the documents' places, the most relevant first. What the provider says of its usage passes."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """Nothing: a body is released whole."""
        return b""

    def completed(self, fold: Fold) -> bytes:
        """The body. Raises `WireError` where the provider's is not one of results."""
        value = loads_lenient(fold.body or b"null")
        results = value.get("results") if isinstance(value, dict) else None
        if not isinstance(results, list):
            raise WireError("the upstream's answer has no results")
        ranked = sorted((self._result(each) for each in results), key=lambda each: -each["relevance_score"])
        said = {name: value[name] for name in ("usage", "meta") if isinstance(value.get(name), dict)}
        head = {"id": f"rerank-{self._form.request_id}", "model": self._form.model}
        return orjson.dumps({**head, "results": ranked[: self._form.options.get("top_n")], **said})

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The error body."""
        return orjson.dumps(openai_error_body(error))

    def _result(self, said: Any) -> dict[str, Any]:
        """One of them, its document said or left out as asked, else as the provider has it."""
        if not isinstance(said, dict) or not _is_place(said.get("index"), self._form.options["documents"]):
            raise WireError("the upstream sent a result for no document")
        score = said.get("relevance_score")
        if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
            raise WireError("the upstream sent a relevance score that is none")
        result = {name: value for name, value in said.items() if name != "document"}
        if (document := self._document(said)) is not None:
            result["document"] = document
        return result

    def _document(self, said: Mapping[str, Any]) -> dict[str, Any] | None:
        options = self._form.options
        if options.get("return_documents") is False:
            return None
        if "texts" in options:
            return {"text": options["texts"][said["index"]]}
        document = said.get("document")
        return {"text": document} if isinstance(document, str) else document if isinstance(document, dict) else None


def _is_place(index: Any, count: int) -> bool:
    return type(index) is int and 0 <= index < count
