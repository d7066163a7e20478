"""Embeddings, old completions, images, audio and moderations, with the official client and scripted providers."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from replay.cli import run as replay
from tests.clients.front import Front, front
from tests.gateway.scripted import Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPENAI = "/openai/v1"
VECTOR = [0.5, -0.25, 1.0]
USAGE = {"prompt_tokens": 4, "total_tokens": 4}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("operations")) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(server: Front) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.url, api_key="not-needed", max_retries=0) as made:
        yield made


def play(server: Front, path: str, *scripts: Script) -> None:
    server.upstream.script(f"POST {path}", *scripts)


def asked(server: Front, path: str) -> Any:
    return [r for r in server.upstream.requests if r.path == path][-1]


def vectors(*vectors: Any) -> Script:
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    return Script.json({"object": "list", "data": data, "model": "m", "usage": USAGE})


async def events(server: Front, request_id: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/requests/{request_id}/events") as answer:
        found: list[dict[str, Any]] = (await answer.json())["data"]
        return found


async def again(server: Front, request_id: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/requests/{request_id}/stream") as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()


@pytest.mark.parametrize("sent", [VECTOR, b64encode(struct.pack("<3f", *VECTOR)).decode()], ids=["numbers", "base64"])
@pytest.mark.parametrize("format", ["float", "base64"])
async def test_vectors_come_as_they_were_asked_for(server: Front, client: AsyncOpenAI, sent: Any, format: Any) -> None:
    play(server, f"{OPENAI}/embeddings", vectors(sent, sent))
    raw = await client.embeddings.with_raw_response.create(
        model="openai/text-embedding-3-small", input=["a", "b"], encoding_format=format, dimensions=3
    )
    answer = raw.http_response.json()
    expected = VECTOR if format == "float" else b64encode(struct.pack("<3f", *VECTOR)).decode()
    assert [item["embedding"] for item in answer["data"]] == [expected, expected]
    assert (answer["model"], answer["usage"]) == ("openai/text-embedding-3-small", USAGE)
    passed = asked(server, f"{OPENAI}/embeddings").json()
    assert passed == {
        "model": "text-embedding-3-small",
        "input": ["a", "b"],
        "encoding_format": format,
        "dimensions": 3,
    }
    request_id = raw.headers["x-request-id"]
    assert await again(server, request_id) == raw.http_response.content
    [completed] = [e for e in await events(server, request_id) if e["type"] == "generation_completed"]
    assert (completed["tokens_input"], completed["usage_source"]) == (4, "provider")
    assert completed["cost_usd"] == pytest.approx(4 * 0.02e-6)


async def test_the_clients_own_default_gives_numbers(server: Front, client: AsyncOpenAI) -> None:
    play(server, f"{OPENAI}/embeddings", vectors(VECTOR))
    answer = await client.embeddings.create(model="openai/text-embedding-3-small", input="a")
    assert answer.data[0].embedding == VECTOR


@pytest.mark.parametrize("sent", ["AAA", [1, "x"], None, {"a": 1}], ids=str)
@pytest.mark.parametrize("format", ["float", "base64"])
async def test_a_vector_that_is_none_is_an_error(server: Front, client: AsyncOpenAI, sent: Any, format: Any) -> None:
    play(server, f"{OPENAI}/embeddings", vectors(sent))
    if (sent, format) in (("AAA", "base64"), ([1, "x"], "float")):
        return  # what is passed on as it came is not looked into
    with pytest.raises(openai.InternalServerError) as failed:
        await client.embeddings.create(model="openai/text-embedding-3-small", input="a", encoding_format=format)
    assert failed.value.code == "bad_response"


@pytest.mark.parametrize("sent", [b'{"data": [{"embedding": [NaN]}]}', b'{"data": [{"embedding": [1e999]}]}'])
@pytest.mark.parametrize("format", ["float", "base64"])
async def test_numbers_that_json_has_not_are_an_error(
    server: Front, client: AsyncOpenAI, sent: bytes, format: Any
) -> None:
    play(server, f"{OPENAI}/embeddings", Script(sent))
    with pytest.raises(openai.InternalServerError) as failed:
        await client.embeddings.create(model="openai/text-embedding-3-small", input="a", encoding_format=format)
    assert (failed.value.status_code, failed.value.code) == (502, "bad_response")


async def test_ollama_gives_vectors_too(server: Front, client: AsyncOpenAI) -> None:
    play(server, "/ollama/api/embed", Script.json({"model": "e", "embeddings": [VECTOR], "prompt_eval_count": 7}))
    answer = await client.embeddings.create(model="ollama/embeddinggemma", input="a")
    assert (answer.data[0].embedding, answer.usage.prompt_tokens) == (VECTOR, 7)
    assert asked(server, "/ollama/api/embed").json() == {"model": "embeddinggemma", "input": ["a"]}
    with pytest.raises(openai.BadRequestError, match="not tokens"):
        await client.embeddings.create(model="ollama/embeddinggemma", input=[1, 2, 3])


async def test_a_provider_without_vectors_says_so(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match=r"anthropic does not serve /v1/embeddings\. Name") as no:
        await client.embeddings.create(model="anthropic/claude-sonnet-4-5", input="a")
    assert (no.value.status_code, no.value.code) == (501, "not_implemented")
    assert "openai" in no.value.message.rpartition("does: ")[2]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": ""},
        {"input": []},
        {"input": [[]]},
        {"input": "a", "dimensions": 0},
        {"input": {"a": 1}},
        {"input": "a", "metadata": "b"},
        {"input": "a", "stream": True},
    ],
    ids=str,
)
async def test_what_is_no_input_is_refused(client: AsyncOpenAI, body: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        await client.post("/embeddings", body={"model": "openai/e", **body}, cast_to=object)


def text_completion(text: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m",
        "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": None, **more}],
    }  # fmt: skip


async def test_an_old_completion_passes_natively(server: Front, client: AsyncOpenAI) -> None:
    whole = text_completion(" there", finish_reason="length")
    whole["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    play(server, "/vllm/v1/completions", Script.json(whole))
    raw = await client.completions.with_raw_response.create(
        model="vllm/base", prompt="Hi", echo=True, suffix="!", max_tokens=1
    )
    answer = raw.parse()
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Hi there", "length")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 2
    assert asked(server, "/vllm/v1/completions").json() == {
        "model": "base", "prompt": "Hi", "suffix": "!", "max_tokens": 1
    }  # fmt: skip
    assert await again(server, raw.headers["x-request-id"]) == raw.http_response.content


async def test_an_old_completion_streams_natively(server: Front, client: AsyncOpenAI) -> None:
    chunks = [text_completion(" th"), text_completion("ere"), text_completion("", finish_reason="stop")]
    sse = b"".join(Script.json(chunk).body.join([b"data: ", b"\n\n"]) for chunk in chunks) + b"data: [DONE]\n\n"
    play(server, "/vllm/v1/completions", Script(sse, content_type="text/event-stream", split=7))
    stream = await client.completions.create(model="vllm/base", prompt=[1, 2], stream=True)
    said = [(c.choices[0].text, c.choices[0].finish_reason) async for c in stream]
    assert said == [(" th", None), ("ere", None), ("", "stop")]


@pytest.mark.parametrize("model", ["anthropic/claude-sonnet-4-5", "ollama/qwen3:4b"])
async def test_a_model_that_only_chats_continues_a_prompt(server: Front, client: AsyncOpenAI, model: str) -> None:
    whole = await client.completions.create(model=model, prompt=["Once upon"], echo=False, max_tokens=9)
    stream = await client.completions.create(
        model=model, prompt="Once upon", echo=True, stream=True, stream_options={"include_usage": True}, max_tokens=9
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert text.startswith("Once uponHello")
    assert whole.choices[0].text.startswith(("Let me check", "No, 27"))
    assert chunks[-1].usage is not None
    with pytest.raises(openai.BadRequestError, match="only chats"):
        await client.completions.create(model=model, prompt="a", suffix="b")
    with pytest.raises(openai.BadRequestError, match="one prompt"):
        await client.completions.create(model=model, prompt=["a", "b"])


async def test_labels_that_are_none_are_refused(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="metadata"):
        await client.completions.create(model="demo/echo", prompt="Hi", extra_body={"metadata": "a"})


async def test_images_are_made_and_changed(server: Front, client: AsyncOpenAI) -> None:
    made = Script.json({"created": 1, "data": [{"b64_json": "aGk="}], "usage": {"input_tokens": 3, "output_tokens": 9}})
    play(server, f"{OPENAI}/images/generations", made)
    play(server, f"{OPENAI}/images/edits", made)
    answer = await client.images.generate(model="openai/gpt-image-1", prompt="a cat")
    assert answer.data is not None
    assert answer.data[0].b64_json == "aGk="
    picture = b"\x89PNG\r\n\x1a\n--" + bytes(range(256)) * 9
    await client.images.edit(model="openai/gpt-image-1", prompt="a dog", image=[("a.png", picture), ("b.png", b"\r\n")])
    form = asked(server, f"{OPENAI}/images/edits")
    assert form.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert form.body.count(b'name="image[]"; filename=') == 2
    assert picture in form.body
    assert b'name="model"\r\n\r\ngpt-image-1\r\n' in form.body


async def test_speech_is_heard_and_spoken(server: Front, client: AsyncOpenAI) -> None:
    sound = bytes(range(256)) + b"\r\n\x1e\x1f"
    play(server, f"{OPENAI}/audio/speech", Script(sound, content_type="audio/wav"))
    said = await client.audio.speech.with_raw_response.create(
        model="openai/gpt-4o-mini-tts", voice="alloy", input="hi", response_format="wav"
    )
    assert (said.http_response.content, said.headers["content-type"]) == (sound, "audio/wav")
    assert await again(server, said.headers["x-request-id"]) == sound
    [done] = [e for e in await events(server, said.headers["x-request-id"]) if e["type"] == "generation_completed"]
    assert (done["usage_source"], done["cost_usd"]) == ("none", None)  # nobody said what it came to

    async with aiohttp.ClientSession() as session:  # as the original server's documents have it
        asking = {"model": "openai/tts-1", "input": "Hello!", "format": "wav"}
        async with session.post(f"{server.url}/audio/speech", json=asking) as wav:
            assert (wav.status, wav.headers["content-type"]) == (200, "audio/wav")
    sent = asked(server, f"{OPENAI}/audio/speech").json()
    assert sent == {"model": "tts-1", "input": "Hello!", "response_format": "wav"}

    play(server, f"{OPENAI}/audio/transcriptions", Script.json({"text": "hi", "usage": {"type": "duration"}}))
    heard = await client.audio.transcriptions.create(model="openai/whisper-1", file=("a.wav", sound))
    assert heard.text == "hi"
    assert sound in asked(server, f"{OPENAI}/audio/transcriptions").body
    play(server, f"{OPENAI}/audio/transcriptions", Script(b"hi\n", content_type="text/plain"))
    text = await client.audio.transcriptions.create(
        model="openai/whisper-1", file=("a.wav", sound), response_format="text"
    )
    assert text == "hi\n"
    play(server, f"{OPENAI}/audio/translations", Script.json({"text": "hello"}))
    form = aiohttp.FormData({"model": "openai/whisper-1"})
    form.add_field("file", sound, filename="a.wav")
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/audio/translations", data=form) as said_so,
    ):
        assert await said_so.json() == {"text": "hello"}
    assert sound in asked(server, f"{OPENAI}/audio/translations").body


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (Script(b"<!DOCTYPE html><p>Sign in", content_type="text/html"), "page"),
        (Script.json({"error": {"message": "no such voice"}}), "no such voice"),
        (Script.json({"detail": "busy"}), "JSON"),
    ],
)
async def test_a_page_in_place_of_sound_is_an_error(
    server: Front, client: AsyncOpenAI, script: Script, said: str
) -> None:
    server.upstream.script("POST /openai/v1/audio/speech", script)
    with pytest.raises(openai.InternalServerError, match=said) as caught:
        await client.audio.speech.create(model="openai/tts-1", voice="alloy", input="Hi")
    assert caught.value.status_code == 502


async def test_sound_that_begins_like_json_is_sound(server: Front, client: AsyncOpenAI) -> None:
    server.upstream.script("POST /openai/v1/audio/speech", Script(b"{\x00\xff", content_type="audio/pcm"))
    said = await client.audio.speech.create(model="openai/tts-1", voice="alloy", input="Hi", response_format="pcm")
    assert said.content == b"{\x00\xff"


async def test_what_is_held_against_a_text_comes_back(server: Front, client: AsyncOpenAI) -> None:
    play(server, f"{OPENAI}/moderations", Script.json({"id": "m", "model": "omni", "results": []}))
    assert (await client.moderations.create(model="openai/omni-moderation-latest", input="hi")).results == []


async def test_a_form_that_cannot_be_read_is_refused(server: Front) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with aiohttp.ClientSession() as session:
        for body in (b"--x\r\nbroken", b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n\xff\r\n--x--\r\n'):
            async with session.post(f"{server.url}/audio/transcriptions", data=body, headers=headers) as answer:
                assert answer.status == 400, await answer.text()


async def test_a_provider_can_stand_in_the_path(server: Front) -> None:
    body = {"model": "qwen3:4b", "messages": [{"role": "user", "content": "hi"}]}
    base = server.process.url
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{base}/ollama/v1/chat/completions", json=body) as answer:
            assert (answer.status, (await answer.json())["object"]) == (200, "chat.completion")
        async with session.post(f"{base}/nobody/v1/chat/completions", json=body) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (404, "provider_not_found")


async def test_every_answer_renders_again(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out
