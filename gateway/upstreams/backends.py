"""Local backends: what an installed package offers beside chat, such as images or speech made on this machine.

A package offers one by an entry point in the group `abstractcore.backends`, whose name is the provider's, and which is
a callable without arguments that gives a `Backend`:

    [project.entry-points."abstractcore.backends"]
    painter = "my_package:Painter"

It is loaded only where the setting `--backends` names it: `--backends painter` serves `painter/<model>` on the
endpoints of its wires. Its requests are exchanges like any other. It runs in the server's process, and is as trusted as
that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol

import orjson

from gateway.config import ConfigError
from gateway.upstreams.upstream import Answer, Call, ModelInfo, Provider, Speech
from gateway.wire.openai_chat import error_of
from gateway.wire.values import Decoder, Framer, Unsupported, UpstreamError
from gateway.wire.whole_answers import JsonDecoder, RerankDecoder, SpeechDecoder, TranscriptDecoder
from gateway.wire.whole_body import BodyFramer

GROUP = "abstractcore.backends"
WIRES: Mapping[str, Callable[[], Decoder]] = {
    "embeddings": JsonDecoder,
    "moderations": JsonDecoder,
    "rerank": RerankDecoder,
    "images_generations": JsonDecoder,
    "images_edits": JsonDecoder,
    "audio_transcriptions": TranscriptDecoder,
    "audio_translations": TranscriptDecoder,
    "audio_speech": SpeechDecoder,
}
"""What a backend can serve, and how its answers are read."""


class BackendError(Exception):
    """What a backend raises to refuse or to fail: `status` is that of the answer, `message` is shown to the caller."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Backend(Protocol):
    """What a package offers. `wires` are among `WIRES`."""

    wires: Collection[str]

    def models(self) -> Collection[str]:
        """The names of its models."""

    async def answer(self, wire: str, model: str, body: Mapping[str, Any]) -> bytes:
        """The body of the answer in OpenAI's words: JSON, or bytes of sound. `body` is the request's, files being
        `{"filename", "content_type", "data"}` with `data` in base64. Cancelled when the client leaves. Raises
        `BackendError`; anything else is a failure of the provider's. Must not block the event loop."""


class Backends(Speech):
    """The family of one backend. It has no chat."""

    def __init__(self, name: str, backend: Backend) -> None:
        self.family = f"backend:{name}"
        self.provider = Provider(name=name, family=self.family, base_url=f"{self.family}:", local=True)
        self._backend = backend

    def speeches(self) -> dict[tuple[str, str], Speech]:
        """For `gateway.upstreams.natives`: what it serves."""
        return {(self.family, wire): _Whole(wire) for wire in self._backend.wires}

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        raise Unsupported("model", f"{provider.name} does not chat.")

    def framer(self, streamed: bool) -> Framer:
        return BodyFramer()

    def decoder(self, streamed: bool) -> Decoder:
        return JsonDecoder()

    def auth_headers(self, provider: Provider, api_key: str | None) -> dict[str, str]:
        return {}

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return error_of(orjson.loads(body)["error"], status)

    async def open(self, provider: Provider, call: Call, api_key: str | None) -> Answer:
        asked = orjson.loads(call.body)
        try:
            return _Given(200, await self._backend.answer(call.path[1:], asked["model"], asked))
        except BackendError as error:
            return _Given(error.status, orjson.dumps({"error": {"message": error.message}}))

    async def models(self, provider: Provider, api_key: str | None) -> list[ModelInfo]:
        return [ModelInfo(name, owned_by=provider.name) for name in self._backend.models()]


class _Whole:
    """One wire of a backend."""

    def __init__(self, wire: str) -> None:
        self._wire = wire

    def encode(self, provider: Provider, model: str, body: Mapping[str, Any]) -> Call:
        return Call(f"/{self._wire}", orjson.dumps({**body, "model": model}), streamed=False)

    def framer(self, streamed: bool) -> Framer:
        return BodyFramer()

    def decoder(self, streamed: bool) -> Decoder:
        return WIRES[self._wire]()


class _Given:
    """An answer that is whole already."""

    headers: Mapping[str, str] = {}

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self._body = status, body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body

    async def close(self, ended: bool = False) -> None:
        """Nothing is open."""


def load_backends(names: Collection[str], taken: Collection[str]) -> list[Backends]:
    """The backends of these names. `taken` are providers' names. Raises `ConfigError`."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    loaded = []
    for name in sorted(names):
        if name in taken or name not in found:
            offered = ", ".join(sorted(found)) or "none"
            raise ConfigError(f"--backends: {name!r} cannot be loaded; installed packages offer: {offered}")
        backend: Backend = found[name].load()()
        if unknown := set(backend.wires) - WIRES.keys():
            raise ConfigError(f"--backends: {name} serves {', '.join(sorted(unknown))}, which nobody knows")
        loaded.append(Backends(name, backend))
    return loaded
