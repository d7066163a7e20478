"""What a protocol that callers speak must say of itself: their request as a chat completions body, the answer in their
words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import field
from typing import Any, ClassVar, Protocol

from eventstore.value import value
from gateway.wire.sse import PING
from gateway.wire.values import Fold, Piece


@value(kw_only=True)
class Form:
    """What an answer's form hangs on besides its content. All of it is recorded in `request_received`, so that a replay
    makes the same bytes. `created` is in seconds since 1970, `model` as the client named it, `options` the dialect's
    own."""

    request_id: str
    created: int
    model: str
    streamed: bool
    include_usage: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


class Renderer(Protocol):
    """One answer in one wire format. The bytes do not hang on how the pieces are batched."""

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """What these pieces add."""

    def completed(self, fold: Fold) -> bytes:
        """The end of a whole answer."""

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The error, after the answer began."""


class Dialect(Protocol):
    """A protocol that callers speak. `wire` is its name in `request_received`, `version` that of its renderer, recorded
    too: a change of bytes is a new version, and the old one stays. `as_chat`: whether its requests can be said as chat;
    those of any other go only to families that speak it themselves."""

    wire: ClassVar[str]
    version: ClassVar[int]
    as_chat: ClassVar[bool] = True
    checked: ClassVar[bool] = False
    """Whether a structured answer is checked here even where its provider promises one."""
    signs: ClassVar[bool] = False
    """Whether its chat bodies can hold `thinking_blocks`, which only providers with that trait take."""
    ping: ClassVar[bytes] = PING
    """What keeps a stream alive while it is silent. It is no part of the answer."""
    key_in_url: ClassVar[bool] = False
    """Whether its clients may put the server's API key into the URL, as `key`."""
    id_header: ClassVar[str | None] = None
    """The header in which its clients look for the request's id, beside ours."""

    def check(self, body: Mapping[str, Any]) -> None:
        """Raises `gateway.errors.InvalidRequest` for what this protocol does not allow."""

    def common(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """What every request can say, under chat completions' names: model, stream, stream_options, user,
        safety_identifier, metadata, session_id, api_key, base_url."""
        return body

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """The request as a chat completions body, with the gateway's extension fields. Never mutates.

        Called only where the upstream's family does not speak this protocol itself. Raises `InvalidRequest` where a
        part cannot be understood, `UnsupportedParameter` where it cannot be said as chat.
        """
        return body

    def ignored(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of what `chat` leaves out because it does not change the answer."""
        return ()

    def fitted(self, chat: dict[str, Any], traits: Set[str]) -> dict[str, Any]:
        """What `chat` gave, for a provider with these traits: without words that some have and this one has not. Never
        mutates, and does nothing to what was fitted before."""
        return chat

    def unfit(self, body: Mapping[str, Any], traits: Set[str]) -> tuple[str, ...]:
        """The names of what `fitted` leaves out."""
        return ()

    def options(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """For `Form.options`: small, and free of credentials."""
        return None

    def content_type(self, form: Form) -> str:
        """Of a whole answer."""
        return "application/json"

    def renderer(self, form: Form) -> Renderer:
        """A fresh one for an answer."""

    def error_body(self, status: int, error: Mapping[str, Any]) -> bytes:
        """The body of an error answer that had not begun. `error` is `{message, type, param, code}`."""

    def error_answer(self, status: int, error: Mapping[str, Any], request_id: str) -> bytes:
        """The same, for the request with this id, where a protocol's errors name it."""
        return self.error_body(status, error)
