"""What is asked of a server that is about to be killed: a request to each endpoint that calls a provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SOCKET = "/v1/stream"
"""Where a request is a message on a WebSocket."""
BOUNDARY = "end-of-a-part"
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
FIELDS = {"all": {"type": "string"}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "tide"}}
"""Of `tests/tools/functions.py`."""


@dataclass(frozen=True)
class Ask:
    """A request: `body` is a value for JSON, or bytes of the type that `headers` name."""

    path: str
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


def chat(model: str, text: str, stream: bool) -> Ask:
    asked = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, "max_tokens": 500}
    return Ask("/v1/chat/completions", asked)


def json_chat(model: str, text: str, stream: bool) -> Ask:
    """Two attempts, the first held back."""
    asked = chat("anthropic/claude", text, stream=False)
    return Ask(asked.path, asked.body | {"response_format": {"type": "json_object"}})


def tools(model: str, text: str, stream: bool) -> Ask:
    """Two rounds, and a tool of the server's between them."""
    asked = chat("openai-compatible/paced", text, stream)
    return Ask(asked.path, asked.body | {"tools": [TOOL], "execute_tools": True})


def on_socket(model: str, text: str, stream: bool) -> Ask:
    return Ask(SOCKET, chat(model, text, stream=True).body)


def completion(model: str, text: str, stream: bool) -> Ask:
    asked = {"model": "openai-compatible/base", "prompt": text, "stream": True, "echo": True}
    return Ask("/v1/completions", asked)


def embedding(model: str, text: str, stream: bool) -> Ask:
    return Ask("/v1/embeddings", {"model": "openai-compatible/e", "input": [text, text]})


def response(model: str, text: str, stream: bool) -> Ask:
    return Ask("/v1/responses", {"model": model, "input": text, "stream": stream})


def background(model: str, text: str, stream: bool) -> Ask:
    """Whole, its client is told no more than that it is recorded."""
    return Ask("/v1/responses", {"model": model, "input": text, "stream": stream, "background": True})


def message(model: str, text: str, stream: bool) -> Ask:
    """Models of Anthropic's give their own frames, the others get them made."""
    return Ask("/v1/messages", chat(model, text, stream).body)


def gemini(model: str, text: str, stream: bool) -> Ask:
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return Ask(f"/v1beta/models/{model}:{method}", {"contents": [{"role": "user", "parts": [{"text": text}]}]})


def structured(model: str, text: str, stream: bool) -> Ask:
    """Two attempts; nothing is shown before the second is right."""
    asked = {"model": "openai-compatible/fast", "prompt": text, "response_model": FIELDS}
    return Ask("/v1/generate/structured", asked)


def image(model: str, text: str, stream: bool) -> Ask:
    return Ask("/v1/images/generations", {"model": "openai-compatible/i", "prompt": text})


def edit(model: str, text: str, stream: bool) -> Ask:
    return _form("/v1/images/edits", "image", PICTURE, model="openai-compatible/i", prompt=text)


def speech(model: str, text: str, stream: bool) -> Ask:
    return Ask("/v1/audio/speech", {"model": "openai-compatible/s", "input": text, "voice": "alloy"})


def transcription(model: str, text: str, stream: bool) -> Ask:
    return _form("/v1/audio/transcriptions", "file", PICTURE, model="openai-compatible/t", prompt=text)


def moderation(model: str, text: str, stream: bool) -> Ask:
    return Ask("/v1/moderations", {"model": "openai-compatible/m", "input": text})


def reranking(model: str, text: str, stream: bool) -> Ask:
    asked = {"query": text, "documents": ["one", {"text": "two"}], "return_documents": True}
    return Ask("/v1/rerank", {"model": "openai-compatible/r", **asked})


def _form(path: str, name: str, data: bytes, **fields: str) -> Ask:
    """As RFC 7578 has it."""
    parts = [f'name="{key}"\r\n\r\n{value}'.encode() for key, value in fields.items()]
    parts.append(b'name="%b"; filename="a"\r\n\r\n%b' % (name.encode(), data))
    dashes = b"--" + BOUNDARY.encode()
    body = b"".join(b"%b\r\nContent-Disposition: form-data; %b\r\n" % (dashes, part) for part in parts)
    return Ask(path, body + dashes + b"--\r\n", {"content-type": f"multipart/form-data; boundary={BOUNDARY}"})


ENDPOINTS = (
    chat, gemini, response, speech, tools, message, background, image, on_socket, completion, chat, transcription,
    json_chat, edit, message, moderation, structured, embedding, response, reranking,
)  # fmt: skip
"""Those that stream stand apart, so that any few of them in a row have one."""
