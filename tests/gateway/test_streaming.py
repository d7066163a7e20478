"""Streams over real sockets: clients that leave or lag, upstreams that break, refuse or fall silent."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.server import Server
from gateway.upstreams.openai_compatible import OpenAICompatible
from gateway.upstreams.upstream import Upstream
from gateway.wire.openai_chat import ChatStreamDecoder
from gateway.wire.values import Decoder
from tests.crash.load import openai_body, openai_stream
from tests.gateway.raw import RawClient, Received, request
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, Gateway, chat, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENT_STREAM = "text/event-stream"
STREAM = openai_stream(words=6)
FRAMES = [frame + b"\n\n" for frame in openai_stream(words=46).split(b"\n\n")[:-1]]
SAID = STREAM.index(b"\n\n", STREAM.index(b'"finish_reason": "stop"')) + 2
COUNTED = STREAM.index(b"\n\n", SAID) + 2
"""Bytes until the answer is whole, and until its usage is known: behind them are only `[DONE]` and the end."""
AT_ONCE = 40
LIMITS = {
    "first_byte_timeout": ("--first-byte-timeout", "0.5"),
    "idle_timeout": ("--idle-timeout", "0.5"),
    "total_timeout": ("--total-timeout", "2"),
}
"""One for each server: where they are short, a busy machine may meet another one first."""


@asynccontextmanager
async def hasty(upstream: ScriptedServer, tmp_path: Path, code: str) -> AsyncIterator[Gateway]:
    """A server with little patience for one thing."""
    async with gateway(tmp_path / "logs", upstream.base_url, *LIMITS[code]) as running:
        yield running


def sse(body: bytes, **changes: Any) -> Script:
    return Script(body, content_type=EVENT_STREAM, **changes)


async def begun(served: Gateway, word: bytes, **fields: Any) -> RawClient:
    """A streaming client that has read up to a word."""
    client = await RawClient.connect(served.url)
    await client.send(request(chat(stream=True, **fields)))
    async with asyncio.timeout(PATIENCE_S):
        await client.until(word)
    return client


# Clients that leave.


async def test_a_client_that_leaves_at_any_frame_ends_the_upstream_call(
    served: Gateway, upstream: ScriptedServer
) -> None:
    """49 places, at once: after the role, after each word, after the finish reason, after the usage."""
    places = range(1, len(FRAMES))
    upstream.requests.clear()
    upstream.script(COMPATIBLE, lambda asked: sse(b"".join(FRAMES[: asked.json()["max_tokens"]]), hold=True))
    await asyncio.gather(*(_left_after(served, frames) for frames in places))
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(asked.left.wait() for asked in upstream.requests))
    assert len(upstream.requests) == len(places)


async def _left_after(served: Gateway, frames: int) -> None:
    last = b'"content":" word%d"' % (min(frames, 47) - 2) if frames > 1 else b'"role":"assistant"'
    client = await begun(served, last, max_tokens=frames)
    if frames > 47:  # what the client sees of the rest comes with the end; the log has it now
        await _recorded(served, client.received.request_id, frames)
    client.leave()
    end = await served.end_of(client.received.request_id)
    failed = await served.generation(client.received.request_id)
    assert (end["type"], end["reason"]) == ("request_cancelled", "client_left")
    assert failed["kind"] == "client_left"
    assert failed["frames"] == frames
    if frames == len(FRAMES) - 1:
        assert (failed["usage_source"], failed["tokens_output"]) == ("provider", 46)
    else:
        assert failed["usage_source"] == ("estimated" if frames > 1 else "none")
        assert bool(failed["tokens_output"]) == (frames > 1)


async def _recorded(served: Gateway, request_id: str, frames: int) -> None:
    started = (await served.events(request_id))[2].position
    async for head in served.server.log.follow(0):
        if sum(row.count for row in await served.server.log.read_frames(started, head)) >= frames:
            return


async def test_a_client_that_leaves_before_the_answer_begins(served: Gateway, upstream: ScriptedServer) -> None:
    upstream.requests.clear()
    upstream.script(COMPATIBLE, Script(hold=True))
    client = await RawClient.connect(served.url)
    await client.send(request(chat()))
    async with asyncio.timeout(PATIENCE_S):
        while not upstream.requests:
            await asyncio.sleep(0.01)
        client.leave()
        await upstream.requests[0].left.wait()
    async for _ in served.server.log.follow(0):
        if not served.server.exchanges.open:
            break


# Upstreams that break.


async def test_an_answer_cut_at_any_byte_is_never_whole(served: Gateway, upstream: ScriptedServer) -> None:
    upstream.script(COMPATIBLE, lambda asked: sse(STREAM, cut=asked.json()["max_tokens"]))
    await each_cut(served, "openai-compatible/m", range(SAID))
    whole = await served.ask(chat(stream=True, max_tokens=len(STREAM)))
    assert whole.whole
    assert whole.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("cut", [SAID, COUNTED - 1, COUNTED, len(STREAM) - 3])
async def test_an_answer_that_is_whole_outlives_its_connection(
    served: Gateway, upstream: ScriptedServer, cut: int
) -> None:
    """Its finish reason came. So did its usage, or it is estimated."""
    upstream.script(COMPATIBLE, sse(STREAM, cut=cut))
    await assert_whole(served, counted=cut >= COUNTED)


@pytest.mark.parametrize(("choices", "whole"), [(1, False), (2, True)])
@pytest.mark.parametrize("framing", ["close", "chunked"])
async def test_choices_that_come_one_after_another_are_whole_together(
    served: Gateway, upstream: ScriptedServer, choices: int, whole: bool, framing: Any
) -> None:
    """The first has its finish reason; that is no end of the second."""
    one = STREAM[:SAID]
    both = one + one.replace(b'"index": 0', b'"index": 1')
    body = both if choices == 2 else one
    cut = {"cut": len(body)} if framing == "chunked" else {}
    upstream.script(COMPATIBLE, sse(body, framing=framing, **cut))
    answer = await served.ask(chat(stream=True, n=2))
    assert (b"[DONE]" in answer.body) is whole
    assert ((await served.end_of(answer.request_id))["type"] == "request_completed") is whole


@pytest.mark.parametrize("code", ["idle_timeout", "total_timeout"])
@pytest.mark.parametrize("said", [SAID, COUNTED])
async def test_an_answer_that_is_whole_outlives_the_patience_with_its_end(
    upstream: ScriptedServer, tmp_path: Path, said: int, code: str
) -> None:
    upstream.script(COMPATIBLE, sse(STREAM[:said], hold=True))
    async with hasty(upstream, tmp_path, code) as served:
        await assert_whole(served, counted=said >= COUNTED)


async def assert_whole(served: Gateway, counted: bool) -> None:
    answer = await served.ask(chat(stream=True))
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert b"word5" in answer.body
    assert b'"finish_reason":"stop"' in answer.body
    assert (await served.end_of(answer.request_id))["type"] == "request_completed"
    generation = await served.generation(answer.request_id)
    assert generation["usage_source"] == ("provider" if counted else "estimated")


@pytest.mark.parametrize(
    ("model", "route", "file"),
    [
        ("anthropic/m", "POST /v1/messages", "anthropic/text.sse"),
        ("anthropic/m", "POST /v1/messages", "anthropic/tools.sse"),
        ("ollama/m", "POST /api/chat", "ollama/text.ndjson"),
        ("ollama/m", "POST /api/chat", "ollama/tools.ndjson"),
    ],
)
async def test_so_in_every_family(served: Gateway, upstream: ScriptedServer, model: str, route: str, file: str) -> None:
    script = Script.file(file)
    places = range(0, len(script.body), max(1, len(script.body) // 60))
    places_left = iter(places)
    upstream.script(route, lambda _: Script.file(file, cut=next(places_left)))
    await each_cut(served, model, places)


async def test_an_end_that_the_framing_does_not_tell_is_no_success(served: Gateway, upstream: ScriptedServer) -> None:
    """Where the end of the connection is the end of the body, only the format says whether it is whole."""
    finished = STREAM.index(b'"finish_reason": "stop"')
    upstream.script(COMPATIBLE, lambda asked: sse(STREAM, cut=asked.json()["max_tokens"], framing="close"))
    await each_cut(served, "openai-compatible/m", range(0, finished, 9))


async def each_cut(served: Gateway, model: str, places: range) -> None:
    """Each of these requests fails, and its client is told."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(cut: int) -> None:
        async with gate:
            answer = await served.ask(chat(model, stream=True, max_tokens=cut))
        assert_failed(answer)
        end = await served.end_of(answer.request_id)
        assert (end["type"], end["status"]) == ("request_failed", 502), (cut, end)
        assert end["began"] == (answer.status == 200)

    await asyncio.gather(*(one(cut) for cut in places))


def assert_failed(answer: Received) -> None:
    """An error frame at the end of a stream without `[DONE]`, or else an error answer."""
    assert answer.whole
    assert b"[DONE]" not in answer.body
    if answer.status == 200:
        assert answer.headers["content-type"] == EVENT_STREAM
        error = json.loads(answer.body.strip().rpartition(b"\n\n")[2].removeprefix(b"data: "))["error"]
    else:
        error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}


class Gullible(ChatStreamDecoder):
    """The deliberate bug: whatever came is whole."""

    complete = True


class GullibleFamily(OpenAICompatible):
    """Reads streams so."""

    def decoder(self, streamed: bool) -> Decoder:
        return Gullible()


class GullibleServer(Server):
    """A server that calls its upstreams so."""

    def _compose(self) -> None:
        super()._compose()
        cast(dict[str, Upstream], self.upstreams)["openai_compatible"] = GullibleFamily(self.http)


async def test_a_server_that_takes_a_cut_answer_for_whole_is_caught(upstream: ScriptedServer, tmp_path: Path) -> None:
    between_frames = STREAM.index(b"\n\n", 700) + 2
    upstream.script(COMPATIBLE, lambda asked: sse(STREAM, cut=asked.json()["max_tokens"], framing="close"))
    async with gateway(tmp_path / "logs", upstream.base_url, kind=GullibleServer) as gullible:
        with pytest.raises(AssertionError):
            await each_cut(gullible, "openai-compatible/m", range(between_frames, between_frames + 1))


async def test_an_upstream_that_refuses_the_connection(served: Gateway) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        answer = await served.ask(chat(stream=True, base_url=url))
    assert (answer.status, answer.json()["error"]["code"]) == (502, "connect_failed")
    assert (await served.end_of(answer.request_id))["fault_domain"] == "provider"


async def test_an_upstream_that_accepts_no_connection(upstream: ScriptedServer, tmp_path: Path) -> None:
    with socket.socket() as full, socket.socket() as last:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        last.connect(full.getsockname())  # the queue is full: the kernel answers no more
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        async with hasty(upstream, tmp_path, "first_byte_timeout") as served:
            answer = await served.ask(chat(stream=True, base_url=url))
    assert (answer.status, answer.json()["error"]["code"]) == (504, "first_byte_timeout")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (sse(STREAM, delay_s=60), "first_byte_timeout"),
        (sse(b"", hold=True), "first_byte_timeout"),
        (sse(STREAM[: SAID - 1], hold=True), "idle_timeout"),
        (sse(openai_stream(words=400), split=100, pace_s=0.05), "total_timeout"),
    ],
)
async def test_an_upstream_that_takes_too_long(
    upstream: ScriptedServer, tmp_path: Path, script: Script, code: str
) -> None:
    upstream.script(COMPATIBLE, script)
    async with hasty(upstream, tmp_path, code) as served:
        answer = await served.ask(chat(stream=True))
        assert_failed(answer)
        assert answer.status == (504 if code == "first_byte_timeout" else 200)
        assert code.encode() in answer.body
        assert (await served.generation(answer.request_id))["kind"] == code


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503, 529])
async def test_a_refusal_is_passed_on(served: Gateway, upstream: ScriptedServer, status: int, stream: bool) -> None:
    upstream.script(
        COMPATIBLE,
        Script.json(
            {"error": {"message": "No.", "type": "some_type", "param": "p", "code": "some_code"}},
            status=status,
            headers={"Retry-After": "7", "X-RateLimit-Remaining-Requests": "0", "Set-Cookie": "a=b", "Server": "x"},
        ),
    )
    answer = await served.ask(chat(stream=stream))
    assert answer.status == status
    assert answer.json() == {"error": {"message": "No.", "type": "some_type", "param": "p", "code": "some_code"}}
    assert (answer.headers["retry-after"], answer.headers["x-ratelimit-remaining-requests"]) == ("7", "0")
    assert "set-cookie" not in answer.headers
    failed = await served.generation(answer.request_id)
    assert (failed["status"], failed["retry_after_s"], failed["usage_source"]) == (status, 7, "none")
    assert failed["cost_usd"] == 0


async def test_an_error_in_the_stream_ends_it(served: Gateway, upstream: ScriptedServer) -> None:
    error = b'data: {"error": {"message": "Overloaded", "type": "server_error", "param": null, "code": "busy"}}\n\n'
    upstream.script(COMPATIBLE, sse(b"".join(FRAMES[:5]) + error, hold=True))
    answer = await served.ask(chat(stream=True))
    assert_failed(answer)
    assert b"word3" in answer.body
    assert b"Overloaded" in answer.body
    assert (await served.end_of(answer.request_id))["type"] == "request_failed"


async def test_a_body_for_a_stream_is_streamed_and_a_stream_for_a_body_is_put_together(
    served: Gateway, upstream: ScriptedServer
) -> None:
    upstream.script(COMPATIBLE, Script.json(openai_body()))
    streamed = await served.ask(chat(stream=True, stream_options={"include_usage": True}))
    assert streamed.headers["content-type"] == EVENT_STREAM
    assert b"All of it." in streamed.body
    assert b'"finish_reason":"stop"' in streamed.body
    assert b'"total_tokens":10' in streamed.body
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    upstream.script(COMPATIBLE, sse(STREAM))
    whole = await served.ask(chat())
    assert whole.json()["choices"][0]["message"]["content"] == "".join(f" word{n}" for n in range(6))
    assert whole.json()["usage"]["completion_tokens"] == 6
    for answer in (streamed, whole):
        assert (await served.generation(answer.request_id))["usage_source"] == "provider"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_with_status_200_is_answered_with_its_own(
    served: Gateway, upstream: ScriptedServer, stream: bool
) -> None:
    upstream.script(COMPATIBLE, Script.json({"error": {"message": "model is loading", "code": 503}}))
    answer = await served.ask(chat(stream=stream))
    assert (answer.status, answer.json()["error"]["message"]) == (503, "model is loading")


@pytest.mark.parametrize(("reason", "status"), [("abort", 502), ("insufficient_system_resource", 503), ("error", 502)])
async def test_an_answer_that_the_provider_gave_up_is_no_success(
    served: Gateway, upstream: ScriptedServer, reason: str, status: int
) -> None:
    upstream.script(COMPATIBLE, sse(STREAM.replace(b'"stop"', b'"%b"' % reason.encode())))
    told = await served.ask(chat(stream=True))
    whole = openai_body()
    whole["choices"][0]["finish_reason"] = reason
    upstream.script(COMPATIBLE, Script.json(whole))
    answer = await served.ask(chat())
    assert answer.status == status
    for each in (told, answer):
        assert_failed(each)
        failed = await served.generation(each.request_id)
        assert (failed["kind"], failed["status"], failed["fault_domain"]) == ("upstream_error", status, "provider")
        assert failed["choices"][0]["finish_reason"] is None
        assert (await served.end_of(each.request_id))["type"] == "request_failed"


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"choices": ', b"[]", b"{}", b"\xff", b"null"])
async def test_a_whole_answer_that_is_none(served: Gateway, upstream: ScriptedServer, body: bytes) -> None:
    upstream.script(COMPATIBLE, Script(body))
    answer = await served.ask(chat())
    assert answer.status == 502
    assert_failed(answer)
    assert (await served.end_of(answer.request_id))["type"] == "request_failed"


async def test_a_whole_answer_cut_at_any_byte(served: Gateway, upstream: ScriptedServer) -> None:
    body = json.dumps(openai_body()).encode()
    upstream.script(COMPATIBLE, lambda asked: Script(body, cut=asked.json()["max_tokens"], framing="length"))

    async def one(cut: int) -> None:
        answer = await served.ask(chat(max_tokens=cut))
        assert answer.status == 502
        assert_failed(answer)

    await asyncio.gather(*(one(cut) for cut in range(-1, len(body), 5)))
