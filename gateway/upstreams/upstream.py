"""What the exchange asks of a family of upstreams: say the request in its format (pure), then call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Protocol, runtime_checkable

from eventstore.value import value
from gateway.wire.values import Decoder, Framer, UpstreamError


@value(kw_only=True)
class Provider:
    """One configured provider. `base_url` has no trailing slash; `api_key_env` names the variable of its key.
    `local`: tokens cost nothing. `prices`: the provider's id in the price table, None where it has no fixed prices.
    `traits`: the differences inside a family, as data (see each family's file)."""

    name: str
    family: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    api_key_env: str | None = None
    needs_key: bool = False
    local: bool = False
    probed: bool = False
    prices: str | None = None
    traits: frozenset[str] = frozenset()


@value
class Call:
    """A request in the upstream's words. `headers` carry no credential; `ignored` names advisory fields left out."""

    path: str
    body: bytes
    streamed: bool
    headers: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


@value
class ModelInfo:
    """A model that a provider lists. `type` is `text-generation`, `text-embedding` or `text-reranking`, None where it
    is none of these, or cannot be told."""

    id: str
    type: str | None = None
    created: int | None = None
    owned_by: str | None = None
    context_length: int | None = None
    capabilities: tuple[str, ...] = ()


class UpstreamFailure(Exception):
    """The call failed on the way: `kind` is connect_failed, connect_timeout, first_byte_timeout, idle_timeout,
    total_timeout, connection_lost, bad_response. `message` is safe to show; `status` is that of an answer, where that
    is what was wrong."""

    def __init__(self, kind: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.kind, self.message, self.status = kind, message, status


class Answer(Protocol):
    """An upstream's answer, its head read. Always `close()` it; closing early ends the upstream's work, unless its
    format's end was seen (`ended`) and only the connection's end of the body is missing."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self) -> bytes:
        """What has arrived of the body, at least a byte; nothing at its end. Raises `UpstreamFailure`."""

    async def close(self, ended: bool = False) -> None: ...


class Speech(Protocol):
    """One protocol that a family speaks. Pure."""

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        """A request's body in this family's words, for streaming iff `body["stream"]`.

        Never mutates `body`, injects nothing the client did not ask for (except what is needed to account for the
        answer, such as asking for usage). Raises `Unsupported` for a field that changes the answer and cannot be
        carried, `gateway.wire.values.WireError` for a message that cannot be understood.
        """

    def framer(self, streamed: bool) -> Framer:
        """How this family's answer bodies are cut into frames."""

    def decoder(self, streamed: bool) -> Decoder:
        """How its frames are read, in the newest version."""


@runtime_checkable
class Counts(Protocol):
    """A family that counts a prompt's tokens for whoever asks in Anthropic's Messages."""

    async def count_tokens(self, provider: Provider, model: str, body: Mapping[str, Any], api_key: str | None) -> int:
        """Raises `UpstreamFailure`."""


class Upstream(Speech, Protocol):
    """A protocol family. What it says by itself is OpenAI's chat completions; `gateway.upstreams.natives` lists what
    else it speaks."""

    family: str

    def auth_headers(self, provider: Provider, api_key: str | None) -> dict[str, str]:
        """The credential-bearing headers of a call. Never recorded."""

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """What a non-2xx answer means, in OpenAI's words."""

    async def open(self, provider: Provider, call: Call, api_key: str | None) -> Answer:
        """Make the call. Returns when the answer's head is here, whatever its status. Raises `UpstreamFailure`."""

    async def models(self, provider: Provider, api_key: str | None) -> list[ModelInfo]:
        """What the provider lists now. Raises `UpstreamFailure`."""
