"""Clients that read slowly or not at all, and streams that are silent: nobody waits for them, nothing piles up."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.api.outlet import Pace
from gateway.connection import Connection
from tests.crash.load import openai_stream
from tests.gateway.raw import RawClient, request
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, Gateway, Paced, chat, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = 6_000
LONG = openai_stream(WORDS)
"""A megabyte: more than the sockets of both sides take, and than a client may be behind."""
NARROW = 4096
GROWTH_KIB = 40 << 10
SILENCE_S = 0.3


STALLED_S = 2.0
"""More than a busy machine lets pass between two reads of a slow client, and the kernel between two of its words."""


class Restless(Connection):
    stalled_s = 0.5


class LessRestless(Connection):
    stalled_s = STALLED_S


class Impatient(Paced):
    connection = Restless
    pace = Pace(stalled_s=0.5, ping_s=SILENCE_S)


class LessImpatient(Paced):
    connection = LessRestless
    pace = Pace(stalled_s=STALLED_S)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def patient(upstream: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("patient") / "logs", upstream.base_url, kind=Paced) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def impatient(upstream: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("impatient") / "logs", upstream.base_url, kind=Impatient) as running:
        yield running


def sse(body: bytes, **changes: Any) -> Script:
    return Script(body, content_type="text/event-stream", **changes)


async def narrow(served: Gateway, room: int = NARROW, **headers: str) -> RawClient:
    """A client that has asked for a stream, reads nothing by itself, and has hardly any room for what comes."""
    return await asking(served, request(chat(stream=True), headers=headers), room)


async def asking(served: Gateway, asked: bytes, room: int = NARROW) -> RawClient:
    """The same, of another request."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    opened.setblocking(False)
    host, port = served.url.removeprefix("http://").split(":")
    await asyncio.get_running_loop().sock_connect(opened, (host, int(port)))
    client = RawClient(*await asyncio.open_connection(sock=opened, limit=room))
    await client.send(asked)
    return client


async def open_id(served: Gateway) -> str:
    """The id of the request that is open now."""
    async with asyncio.timeout(PATIENCE_S):
        while not served.server.exchanges.open:
            await asyncio.sleep(0.01)
    return next(iter(served.server.exchanges.open)).submission.request_id


async def test_an_answer_is_recorded_whole_long_before_its_slow_reader_has_it(
    patient: Gateway, upstream: ScriptedServer
) -> None:
    upstream.script(COMPATIBLE, sse(LONG, split=60_000, pace_s=0.005))
    client = await narrow(patient)
    request_id = await open_id(patient)
    assert (await patient.end_of(request_id))["type"] == "request_completed"
    assert len(client.raw) == 0
    async with asyncio.timeout(PATIENCE_S):
        answer = await client.answer()
    assert answer.whole
    assert answer.body.count(b" word") == WORDS
    assert answer.recorded == await again(patient, request_id)


async def again(served: Gateway, request_id: str) -> bytes:
    """The same answer, from the log."""
    client = await RawClient.connect(served.url)
    await client.send(f"GET /v1/requests/{request_id}/stream HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    return (await client.answer()).body


@pytest.mark.parametrize("retention", ["full", "none"])
async def test_a_reader_that_stalls_has_left(impatient: Gateway, upstream: ScriptedServer, retention: str) -> None:
    """Its upstream, which would go on for ever, is closed; what it did not read was not kept for it."""
    upstream.requests.clear()
    upstream.script(COMPATIBLE, sse(LONG[: -len(b"data: [DONE]\n\n")], split=30_000, pace_s=0.001, hold=True))
    before = resident_kib()
    client = await narrow(impatient, NARROW, **{"x-abstractcore-retention": retention})
    request_id = await open_id(impatient)
    end = await impatient.end_of(request_id)
    assert (end["type"], end["reason"]) == ("request_cancelled", "client_left")
    async with asyncio.timeout(PATIENCE_S):
        await upstream.requests[0].left.wait()
    assert resident_kib() - before < GROWTH_KIB
    client.leave()


async def test_a_reader_that_is_slow_and_reads_has_not_left(tmp_path: Path, upstream: ScriptedServer) -> None:
    """It takes longer in all than a stalled one may, but takes something all the time."""
    upstream.script(COMPATIBLE, sse(LONG, split=60_000))
    async with gateway(tmp_path / "logs", upstream.base_url, kind=LessImpatient) as served:
        client = await narrow(served, 32 << 10)
        begun = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            while time.monotonic() - begun < 1.5 * STALLED_S:
                await asyncio.sleep(0.05)
                await client.more(NARROW)
            answer = await client.answer()
        assert answer.whole
        assert answer.recorded == await again(served, answer.request_id)


def whole(length: int) -> Script:
    """An answer that is not streamed, of a text of so many bytes."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "x" * length}, "finish_reason": "stop"}
    return Script.json({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})


def streamed_again(response_id: str) -> bytes:
    """The request for a stored response's events."""
    return f"GET /v1/responses/{response_id}?stream=true HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()


async def stored(served: Gateway, upstream: ScriptedServer) -> str:
    """The id of a response that no socket takes at once."""
    upstream.script(COMPATIBLE, sse(openai_stream(WORDS // 3), split=60_000))
    client = await RawClient.connect(served.url)
    body = {"model": "openai-compatible/m", "input": "Tell me.", "stream": True}
    await client.send(request(body, "/v1/responses"))
    async with asyncio.timeout(PATIENCE_S):
        return f"resp_{(await client.answer()).request_id}"


@pytest.mark.parametrize("extra", [{}, {"connection": "close"}])
async def test_who_takes_nothing_of_a_whole_answer_has_left(
    impatient: Gateway, upstream: ScriptedServer, extra: dict[str, str]
) -> None:
    upstream.script(COMPATIBLE, whole(1_000_000))
    client = await asking(impatient, request(chat(), headers=extra))
    await dropped(impatient)
    assert not (await client.answer()).whole


async def test_who_takes_nothing_of_a_stored_response_has_left(impatient: Gateway, upstream: ScriptedServer) -> None:
    client = await asking(impatient, streamed_again(await stored(impatient, upstream)))
    await dropped(impatient)
    assert not (await client.answer()).whole


async def dropped(served: Gateway) -> None:
    """Wait until the server has begun to answer its one client that does not read, and has closed its connection."""
    connections = served.server._runner.server
    assert connections is not None
    async with asyncio.timeout(PATIENCE_S):
        for crowded in (True, False):
            while crowded != any(each.writing_paused for each in connections.connections):
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["whole", "stored"])
async def test_who_takes_an_answer_slowly_has_not_left(tmp_path: Path, upstream: ScriptedServer, kind: str) -> None:
    async with gateway(tmp_path / "logs", upstream.base_url, kind=LessImpatient) as served:
        if kind == "stored":
            asked = streamed_again(await stored(served, upstream))
        else:
            upstream.script(COMPATIBLE, whole(1_000_000))
            asked = request(chat())
        client = await asking(served, asked, 32 << 10)
        begun = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            while time.monotonic() - begun < 1.5 * STALLED_S:
                await asyncio.sleep(0.05)
                await client.more(NARROW)
            assert (await client.answer()).whole


async def test_a_client_that_fell_behind_a_cut_answer_gets_its_error(
    patient: Gateway, upstream: ScriptedServer
) -> None:
    upstream.script(COMPATIBLE, sse(LONG, split=60_000, pace_s=0.001, cut=LONG.index(b'"finish_reason": "stop"')))
    client = await narrow(patient)
    request_id = await open_id(patient)
    assert (await patient.end_of(request_id))["type"] == "request_failed"
    async with asyncio.timeout(PATIENCE_S):
        answer = await client.answer()
    assert answer.whole
    assert b'"connection_lost"' in answer.body[-300:]
    assert b"[DONE]" not in answer.body


def resident_kib() -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


async def test_a_silent_stream_is_kept_alive_from_its_start(impatient: Gateway, upstream: ScriptedServer) -> None:
    """Pings begin before the first token, go on between tokens, and are not part of the answer."""
    stream = openai_stream(words=2)
    upstream.script(COMPATIBLE, sse(stream, split=len(stream) * 2 // 3, delay_s=3 * SILENCE_S, pace_s=3 * SILENCE_S))
    answer = await impatient.ask(chat(stream=True))
    first, _, rest = answer.body.partition(b"data: ")
    assert first.startswith(b": ping\n\n")
    assert b": ping\n\n" in rest
    assert answer.recorded == await again(impatient, answer.request_id)
    assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_a_failure_behind_a_ping_is_told_in_the_stream(impatient: Gateway, upstream: ScriptedServer) -> None:
    error = {"error": {"message": "No.", "type": "t", "param": None, "code": None}}
    upstream.script(COMPATIBLE, Script.json(error, status=429, delay_s=3 * SILENCE_S))
    answer = await impatient.ask(chat(stream=True))
    assert (answer.status, answer.whole) == (200, True)
    assert answer.recorded.startswith(b'data: {"error":')
    end = await impatient.end_of(answer.request_id)
    assert (end["type"], end["began"], end["payload_length"]) == ("request_failed", True, len(answer.recorded))


async def test_an_answer_that_is_not_streamed_gets_no_ping(impatient: Gateway, upstream: ScriptedServer) -> None:
    upstream.script(COMPATIBLE, Script.json({"error": {"message": "No."}}, status=500, delay_s=3 * SILENCE_S))
    answer = await impatient.ask(chat())
    assert (answer.status, answer.json()["error"]["message"]) == (500, "No.")
