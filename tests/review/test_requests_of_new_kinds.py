"""Requests that the endpoints beside chat may not be broken by: whatever a client sends, it is refused in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.api.forms import MOST_PARTS
from gateway.wire.completions import LONGEST_ECHO
from replay.cli import run as replay
from tests.clients.front import Front, front
from tests.gateway.scripted import Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

EDIT: Any = {"model": "openai/gpt-image-1", "prompt": "x"}
PART = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
TRANSCRIPTIONS = "/audio/transcriptions"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("hostile")) as started:
        yield started


async def post(server: Front, path: str, body: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.post(f"{server.url}{path}", json=body) as answer:
        return answer.status, await answer.json(content_type=None)


@pytest.mark.parametrize("name", ["session_id", "base_url", "api_key", "user", "safety_identifier", "model"])
@pytest.mark.parametrize("value", [5, {"a": 1}, [1]], ids=str)
async def test_a_field_that_everybody_has_is_a_text_everywhere(server: Front, name: str, value: Any) -> None:
    status, body = await post(server, "/images/generations", {**EDIT, name: value})
    assert (status, body["error"]["param"]) == (400, name)


ELSEWHERE: dict[str, Any] = {
    "/completions": {"prompt": "x"},
    "/embeddings": {"input": "x"},
    "/messages": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5},
    "/rerank": {"query": "x", "documents": ["y"]},
}


@pytest.mark.parametrize("name", ["user", "safety_identifier"])
@pytest.mark.parametrize("path", ELSEWHERE)
async def test_who_the_user_is_said_to_be_is_a_text(server: Front, path: str, name: str) -> None:
    status, body = await post(server, path, {"model": "openai/gpt-5.2", **ELSEWHERE[path], name: [1]})
    assert status == 400
    assert name in body["error"]["message"]


@pytest.mark.parametrize("more", [{"stream": "True"}, {"stream": 1}, {"stream_format": "sse"}], ids=str)
async def test_what_cannot_be_streamed_says_so(server: Front, more: dict[str, Any]) -> None:
    status, body = await post(server, "/audio/speech", {"model": "openai/tts", "input": "x", "voice": "a", **more})
    assert (status, body["error"]["code"]) == (400, "unsupported_parameter")


async def test_a_file_that_is_no_base64_is_refused(server: Front) -> None:
    status, body = await post(server, "/images/edits", {**EDIT, "image": {"filename": "x", "data": "!!!"}})
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


async def test_an_object_in_a_form_is_json(server: Front) -> None:
    server.upstream.script("POST /openai/v1/images/edits", Script.json({"data": []}))
    status, _ = await post(server, "/images/edits", {**EDIT, "image": [{"image_url": "x", "filename": 5}]})
    assert status == 200
    assert b'{"image_url":"x","filename":5}' in server.upstream.requests[-1].body


@pytest.mark.parametrize(
    ("boundary", "form"),
    [
        (b"b", PART),
        (b"b", b""),
        (b"b", PART * (MOST_PARTS + 1) + b"--b--\r\n"),
        (b"\xff", PART + b"--b--\r\n"),
        (b"b", b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nabc'),
    ],
    ids=["cut", "empty", "many", "boundary", "cut file"],
)
async def test_a_form_that_is_none_is_refused(server: Front, boundary: bytes, form: bytes) -> None:
    port = int(server.process.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: multipart/form-data; boundary=" + boundary + b"\r\n"
        b"Content-Length: %d\r\n\r\n" % len(form) + form
    )
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"invalid_form" in answer


@pytest.mark.parametrize("sent", [b"<html>", b"\x1f\x8b\x00", b"[]"], ids=repr)
async def test_a_transcript_that_is_no_json_is_an_error(server: Front, sent: bytes) -> None:
    server.upstream.script(f"POST /openai/v1{TRANSCRIPTIONS}", Script(sent, content_type="text/html"))
    form = aiohttp.FormData({"model": "openai/whisper-1"})
    form.add_field("file", b"abc", filename="x.wav")
    async with aiohttp.ClientSession() as session, session.post(f"{server.url}{TRANSCRIPTIONS}", data=form) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (502, "bad_response")


async def test_a_number_that_no_vector_holds_is_the_providers_fault(server: Front) -> None:
    vector = Script.json({"object": "list", "data": [{"embedding": [1e300], "index": 0}]})
    server.upstream.script("POST /openai/v1/embeddings", vector)
    status, body = await post(server, "/embeddings", {"model": "openai/e", "input": "a", "encoding_format": "base64"})
    assert (status, body["error"]["code"]) == (502, "bad_response")


async def test_a_prompt_alone_in_a_list_is_echoed(server: Front) -> None:
    status, body = await post(server, "/completions", {"model": "demo/echo", "prompt": ["hello"], "echo": True})
    assert (status, body["choices"][0]["text"]) == (200, "hellohello")


async def test_a_long_prompt_is_not_recorded_twice(server: Front) -> None:
    asked = {"prompt": "x" * (LONGEST_ECHO + 1), "echo": True}
    status, body = await post(server, "/completions", {"model": "demo/echo", **asked})
    assert (status, body["error"]["param"]) == (400, "echo")
    text = {"id": "c", "object": "text_completion", "choices": [{"text": "y", "index": 0, "finish_reason": "stop"}]}
    server.upstream.script("POST /vllm/v1/completions", Script.json(text))
    assert (await post(server, "/completions", {"model": "vllm/base", **asked}))[0] == 200
    assert server.upstream.requests[-1].json()["echo"] is True


@pytest.mark.parametrize(
    "betas", ["a\r\nx-evil: 1", 5, "\N{GRINNING FACE}", "a" * 5000], ids=["lines", "5", "u", "long"]
)
async def test_betas_that_are_no_header_are_refused(server: Front, betas: Any) -> None:
    said: Any = {"model": "anthropic/m", "max_tokens": 4, "messages": [{"role": "user", "content": "x"}]}
    status, body = await post(server, "/messages", {**said, "anthropic_beta": betas})
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


async def test_a_key_for_another_host_counts_nothing_at_the_provider(server: Front) -> None:
    before = len(server.upstream.requests)
    said: Any = {"model": "anthropic/m", "messages": [{"role": "user", "content": "x"}]}
    theirs = {"base_url": "http://127.0.0.1:9", "api_key": "sk-for-another-host"}
    status, body = await post(server, "/messages/count_tokens", {**said, **theirs})
    assert (status, body["input_tokens"] > 0) == (200, True)
    assert len(server.upstream.requests) == before


async def test_no_word_of_an_error_comes_from_a_host_that_the_caller_named(server: Front) -> None:
    error = {"message": "inner words", "code": "inner code", "param": "inner param", "type": "inner type"}
    server.upstream.script("POST /inside/moderations", Script.json({"error": error}, status=400))
    url = f"{server.upstream.base_url}/inside"
    status, body = await post(server, "/moderations", {"model": "openai/m", "input": "x", "base_url": url})
    assert status == 400
    assert "inner" not in str(body)


async def test_every_answer_renders_again(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out
