"""Upstreams that mean ill, through the whole server: every request ends in a typed failure, and costs little."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest

from eventstore.frames import FrameReader
from gateway.upstreams.http1 import Pool
from gateway.upstreams.http1_connection import Connection
from tests.crash.load import openai_body, openai_stream
from tests.gateway.raw import Received
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.test_bad_input import got
from tests.gateway.upstreams.http1.raw_server import Peer, Play, raw_server
from tests.gateway.whole import COMPATIBLE, Gateway, chat

pytestmark = pytest.mark.asyncio(loop_scope="module")

STREAM, SHORT = openai_stream(words=6), openai_stream(words=1)
MEBI = 1 << 20
AT_ONCE = 100


def sse(body: bytes, **changes: Any) -> Script:
    return Script(body, content_type="text/event-stream", **changes)


async def assert_failed(served: Gateway, answer: Received, kind: str) -> None:
    """The client was told, by status or at the end of its stream, and the log knows why."""
    assert answer.whole
    assert b"[DONE]" not in answer.body
    told = answer.body.strip().rpartition(b"\n\n")[2].removeprefix(b"data: ")
    assert json.loads(told)["error"]["code"] == kind
    assert answer.status in ((200, 502) if answer.headers["content-type"] == "text/event-stream" else (502,))
    assert (await served.end_of(answer.request_id))["type"] == "request_failed"
    assert (await served.generation(answer.request_id))["kind"] == kind


# Connections that break.


def head_of(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body)


async def test_a_reset_at_any_byte_is_a_lost_connection(served: Gateway) -> None:
    raw = head_of(SHORT) + SHORT
    finished = raw.index(b"\n\n", raw.index(b'"finish_reason": "stop"'))
    for at in range(0, finished, AT_ONCE):
        for answer in await reset_at(served, raw, range(at, min(at + AT_ONCE, finished))):
            await assert_failed(served, answer, "connection_lost")


class Trusting(Connection):
    """The bug: however a connection ends, its answer has ended."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.finished = True
        super().connection_lost(exc)


async def test_a_reset_that_is_taken_for_an_end_is_noticed(served: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pool, "connection", Trusting)
    raw = head_of(SHORT) + SHORT
    (answer,) = await reset_at(served, raw, [raw.index(b'"finish_reason": "stop"')])
    with pytest.raises(AssertionError):
        await assert_failed(served, answer, "connection_lost")


async def reset_at(served: Gateway, raw: bytes, places: Sequence[int]) -> list[Received]:
    """What the clients got of answers that are broken off after so many bytes each."""
    left = iter(places)

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.say(raw[: next(left)])
        peer.reset()

    async with raw_server(play) as breaking:
        return await asyncio.gather(*(asked(served, breaking.port) for _ in places))


async def asked(served: Gateway, port: int) -> Received:
    return await served.ask(chat(stream=True, base_url=f"http://127.0.0.1:{port}/v1"))


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %b\r\n" % (n, b"a" * 1000) for n in range(200)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * MEBI + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        head_of(STREAM).replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n"),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ],
)
async def test_what_is_no_http_is_a_bad_response(served: Gateway, raw: bytes) -> None:
    async with raw_server(answering(raw)) as wrong:
        await assert_failed(served, await asked(served, wrong.port), "bad_response")


def answering(raw: bytes) -> Play:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.say(raw)
        await peer.until_left()

    return play


# Answers that are too much.


@pytest.mark.parametrize("stream", [True, False])
async def test_a_line_of_50_mb_is_refused_before_it_is_there(
    served: Gateway, upstream: ScriptedServer, stream: bool
) -> None:
    upstream.requests.clear()
    upstream.script(COMPATIBLE, sse(b'data: {"a": "' + b"a" * (80 * MEBI), split=MEBI))
    await assert_failed(served, await served.ask(chat(stream=stream)), "bad_response")
    assert upstream.requests[0].sent < (10 if stream else 75) * MEBI


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "gzip, gzip", "unheard-of"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_compressed_answer_is_refused(
    served: Gateway, upstream: ScriptedServer, encoding: str, stream: bool
) -> None:
    """It was not asked for, and could be a bomb."""
    body = STREAM if stream else json.dumps(openai_body()).encode()
    upstream.script(COMPATIBLE, sse(gzip.compress(body), headers={"content-encoding": encoding}))
    await assert_failed(served, await served.ask(chat(stream=stream)), "bad_response")
    assert upstream.requests[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_compressed_error_keeps_its_status_and_when_to_try_again(
    served: Gateway, upstream: ScriptedServer, stream: bool
) -> None:
    """It is not read."""
    body, headers = gzip.compress(b'{"error":{"message":"Slower."}}'), {"content-encoding": "gzip", "retry-after": "7"}
    upstream.script(COMPATIBLE, Script(body, status=429, headers=headers))
    answer = await served.ask(chat(stream=stream))
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"] == {
        "message": "the provider answered 429", "type": "rate_limit_error", "param": None, "code": None,
    }  # fmt: skip
    assert (await served.generation(answer.request_id))["retry_after_s"] == 7


# Texts.


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (rb"a\u0000b", "a\0b"),
        (b"a\xffb", "a\ufffdb"),
        (b"a\xc3b\xe2\x82c", "a\ufffdb\ufffdc"),
        (b"a\xed\xa0\x80b", "a\ufffd\ufffd\ufffdb"),
        (rb"a\ud800b", "a\ufffdb"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_bytes_that_are_no_text_are_recorded_as_they_came_and_shown_mended(
    served: Gateway, upstream: ScriptedServer, text: bytes, shown: str, stream: bool
) -> None:
    body = (STREAM if stream else json.dumps(openai_body(" word3")).encode()).replace(b" word3", text)
    upstream.script(COMPATIBLE, sse(body, split=1))
    answer = await served.ask(chat(stream=stream))
    assert answer.status == 200
    assert content(answer, stream) == (" word0 word1 word2" + shown + " word4 word5" if stream else shown)
    recorded = b"\n\n".join(await frames(served, answer.request_id))
    assert recorded == body.removesuffix(b"\n\n")


def content(answer: Received, stream: bool) -> str:
    if not stream:
        return str(answer.json()["choices"][0]["message"]["content"])
    frames = [frame.removeprefix(b"data: ") for frame in answer.body.split(b"\n\n")]
    chunks = [json.loads(frame) for frame in frames if frame.startswith(b"{")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


async def frames(served: Gateway, request_id: str) -> list[bytes]:
    """The upstream's frames as the log has them."""
    started = (await served.events(request_id))[2]
    reader = FrameReader()
    rows = await served.server.log.read_frames(started.position, await served.server.log.head())
    return [frame for row in rows for frame in reader.unpack(row)]


async def test_a_control_character_in_a_text_is_no_json(served: Gateway, upstream: ScriptedServer) -> None:
    upstream.script(COMPATIBLE, sse(STREAM.replace(b" word3", b"a\0b")))
    answer = await served.ask(chat(stream=True))
    await assert_failed(served, answer, "bad_response")
    assert b"\0" not in answer.body


def said(key: str, escaped: bytes) -> bytes:
    delta = b'{"choices": [{"index": 0, "delta": {"%b":"%b"}}]}' % (key.encode(), escaped)
    return b"data: " + delta + b"\n\n"


BROKEN = rb"\q"
THOUGHT, WORD = said("reasoning", b"Hm.") * 3, said("content", b"Yes.") * 3
SEVERAL = {
    "thoughts": THOUGHT + said("reasoning", BROKEN) + THOUGHT + WORD + STREAM,
    "words": THOUGHT + WORD + said("content", BROKEN) + WORD + THOUGHT,
    "alone": WORD + b": \x1f\n" + said("content", BROKEN) + WORD + THOUGHT,
}
"""Answers that come to several rows at once, of which one means nothing."""


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", SEVERAL)
async def test_what_comes_with_frames_that_mean_nothing_is_told_as_it_was(
    served: Gateway, upstream: ScriptedServer, name: str, stream: bool
) -> None:
    for split in (None, 150, 1):
        upstream.script(COMPATIBLE, sse(SEVERAL[name], split=split))
        answer = await served.ask(chat(stream=stream))
        await assert_failed(served, answer, "bad_response")
        again = await got(served, f"/v1/requests/{answer.request_id}/stream")
        assert (again.status, again.body) == (answer.status, answer.body)


# When to try again.

IN_A_MINUTE = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "Sat, 01 Jan 2000 00:00:00 GMT"}, 0),
        ({"retry-after": IN_A_MINUTE}, "a minute"),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -2359"}, None),
        ({"retry-after": "99999999999"}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "7, 8"}, None),
        ({"retry-after": "\xff\xfe"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after-ms": "soon"}, None),
        ({}, None),
    ],
)
async def test_when_to_try_again_is_passed_on_and_understood_only_where_it_makes_sense(
    served: Gateway, upstream: ScriptedServer, said: dict[str, str], understood: float | str | None
) -> None:
    upstream.script(COMPATIBLE, Script.json({"error": {"message": "Slower."}}, status=429, headers=said))
    answer = await served.ask(chat())
    assert (answer.status, answer.json()["error"]["type"]) == (429, "rate_limit_error")
    for name, value in said.items():
        assert answer.headers[name] == value[:200] or not value.isascii()
    found = (await served.generation(answer.request_id)).get("retry_after_s")
    assert found == understood or (understood == "a minute" and 0 <= found <= 60)


async def test_a_refusal_with_more_headers_than_clients_read_is_still_one(
    served: Gateway, upstream: ScriptedServer
) -> None:
    many = {f"x-ratelimit-{number}": "1" * 100 for number in range(300)}
    error = {"error": {"message": "Slower."}}
    upstream.script(COMPATIBLE, Script.json(error, status=429, headers={**many, "retry-after": "7"}))
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"{served.url}/v1/chat/completions", json=chat()) as answer,
    ):
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert (await answer.json())["error"]["message"] == "Slower."
