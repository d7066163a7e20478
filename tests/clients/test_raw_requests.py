"""What OpenAI's clients for Ruby, Go and .NET send, byte for byte, on a plain socket.

The requests (`requests/*.http`) are written from the clients' documentation and sources (github.com/openai/openai-ruby,
openai-go, openai-dotnet) and from what their HTTP libraries do: order and case of names, chunks, escapes. The head's
lines end in CRLF on the wire, `{host}` and `{length}` are filled in, and a body in chunks goes out in small ones.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.clients.front import Front
from tests.clients.texts import STREAMED_TEXT, WHOLE_TEXT
from tests.gateway.scripted import Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUESTS = Path(__file__).parent / "requests"
GREETING = 'Grüße an "alle" 🎉'
VECTORS = [[0.5, -0.25], [1.0, 0.125]]
CHUNK = 16
LIMIT_S = 180.0


def request(name: str, host: str) -> tuple[bytes, bytes]:
    """The head and the body of a request as they go over the wire."""
    lines = (REQUESTS / f"{name}.http").read_text(encoding="utf-8").split("\n", 1)[1]
    head, _, text = lines.partition("\n\n")
    text = text.removesuffix("\n")
    body = (text.replace("\n", "\r\n") + "\r\n" if "multipart/" in head else text).encode()
    if "Transfer-Encoding: chunked" in head:
        body = b"".join(chunked(body))
    head = head.replace("{host}", host).replace("{length}", str(len(body)))
    return head.replace("\n", "\r\n").encode() + b"\r\n\r\n", body


def chunked(body: bytes) -> Iterator[bytes]:
    for at in range(0, len(body), CHUNK):
        piece = body[at : at + CHUNK]
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def exchange(connection: socket.socket, name: str, host: str) -> tuple[HTTPResponse, bytes]:
    """The answer to one request; the connection stays open."""
    head, body = request(name, host)
    connection.sendall(head)
    if b"Expect: 100-continue" in head:
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(body)
    answer = HTTPResponse(connection, method="POST")
    answer.begin()
    return answer, answer.read()


async def play(server: Front, *names: str) -> list[tuple[HTTPResponse, bytes]]:
    """The answers to these requests, one after the other on one connection, as the clients' pools send them."""

    def on_one_connection() -> list[tuple[HTTPResponse, bytes]]:
        where = urlsplit(server.process.url)
        with socket.create_connection((where.hostname, where.port), timeout=LIMIT_S) as connection:
            return [exchange(connection, name, where.netloc) for name in names]

    return await asyncio.to_thread(on_one_connection)


def said(body: bytes) -> str:
    """The text of a stream, which must be whole."""
    *frames, done, rest = body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames if frame.startswith("data: ")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def asked(server: Front) -> Any:
    """What was last asked of the provider, its first message as plain text."""
    content = server.asked("openai")[-1].json()["messages"][0]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@pytest.mark.parametrize("client", ["ruby", "go", "dotnet"])
async def test_chat_whole_and_streamed_on_one_connection(server: Front, client: str) -> None:
    (whole, body), (streamed, events), (again, _) = await play(
        server, f"{client}_chat", f"{client}_stream", f"{client}_chat"
    )
    assert (whole.status, whole.getheader("content-type")) == (200, "application/json")
    assert json.loads(body)["choices"][0]["message"]["content"] == WHOLE_TEXT["openai"]
    assert streamed.status == 200
    assert (streamed.getheader("content-type") or "").startswith("text/event-stream")
    assert said(events) == STREAMED_TEXT["openai"]
    assert again.status == 200
    assert asked(server) == GREETING


async def test_a_client_that_waits_to_be_told_to_go_on(server: Front) -> None:
    ((answer, body),) = await play(server, "dotnet_framework_chat")
    assert (answer.status, json.loads(body)["object"]) == (200, "chat.completion")
    assert asked(server) == GREETING


@pytest.mark.parametrize("client", ["go", "dotnet"])
@pytest.mark.parametrize("provider_sends", ["numbers", "base64"])
async def test_vectors_in_base64_asked_for_in_chunks(server: Front, client: str, provider_sends: str) -> None:
    coded = [base64.b64encode(struct.pack("<2f", *vector)).decode() for vector in VECTORS]
    vectors: list[Any] = list(coded if provider_sends == "base64" else VECTORS)
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    script = Script.json({"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage})
    server.upstream.script("POST /openai/v1/embeddings", script)
    ((answer, body),) = await play(server, f"{client}_embeddings")
    assert answer.status == 200
    assert [item["embedding"] for item in json.loads(body)["data"]] == coded
    assert server.upstream.requests[-1].json()["input"] == ["a cat", "ein Käfer"]


async def test_a_form_in_chunks(server: Front) -> None:
    server.upstream.script("POST /openai/v1/audio/transcriptions", Script.json({"text": "hello"}))
    ((answer, body),) = await play(server, "ruby_transcription")
    assert (answer.status, json.loads(body)["text"]) == (200, "hello")
    assert b"ID3 these are the sounds" in server.upstream.requests[-1].body
