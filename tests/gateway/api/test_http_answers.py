"""Answers that are written in as few pieces as they can: the same HTTP as aiohttp's own, on real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.api.http_answers import StreamedAnswer, WholeAnswer, fits
from gateway.api.outlet import HttpOutlet, Pace

HEADERS = {"content-type": "application/json", "x-request-id": "01"}
CROWD = 8_000_000
"""Bytes, more than the sockets between two processes take."""


async def answered(request: web.Request) -> web.StreamResponse:
    body = b"x" * int(request.query.get("length", "2"))
    headers = {**HEADERS, **({"x-named": request.query["named"]} if "named" in request.query else {})}
    made = WholeAnswer if fits(request, headers) else web.Response
    return made(status=int(request.query.get("status", "200")), headers=headers, body=body)


async def streamed(request: web.Request) -> web.StreamResponse:
    """Each `piece` is written by itself, the last one with the end."""
    headers = {**HEADERS, **({"x-named": request.query["named"]} if "named" in request.query else {})}
    made = StreamedAnswer(headers) if fits(request, headers) else web.StreamResponse(headers=headers)
    *pieces, last = request.query.getall("piece", [""])
    writer = await made.prepare(request)
    assert writer is not None
    for piece in pieces:
        await writer.write(piece.encode())
    await made.write_eof(last.encode())
    return made


@asynccontextmanager
async def server() -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/", answered)
    app.router.add_post("/streamed", streamed)
    app.router.add_post("/fallen", fallen)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def asked(port: int, *requests: bytes) -> list[tuple[bytes, dict[bytes, bytes], bytes]]:
    """Status line, headers and body of each answer, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    try:
        for request in requests:
            writer.write(request)
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).strip().split(b"\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
            answers.append((status, headers, await reader.readexactly(int(headers[b"content-length"]))))
    finally:
        writer.close()
    return answers


def post(path: str, version: str = "1.1", extra: str = "") -> bytes:
    return f"POST {path} HTTP/{version}\r\nHost: localhost\r\n{extra}Content-Length: 0\r\n\r\n".encode()


async def test_a_connection_serves_answer_after_answer() -> None:
    async with server() as port:
        first, second = await asked(port, post("/"), post("/?status=529&length=5"))
    assert first[0] == b"HTTP/1.1 200 OK"
    assert first[2] == b"xx"
    assert first[1][b"content-type"] == b"application/json"
    assert first[1][b"x-request-id"] == b"01"
    assert {b"date", b"server"} <= first[1].keys()
    assert second[0].startswith(b"HTTP/1.1 529")
    assert second[2] == b"xxxxx"


async def test_it_says_what_aiohttp_says() -> None:
    """The same request, which one header keeps from the short way, gets the same headers."""
    async with server() as port:
        (short,), (long,) = await asked(port, post("/")), await asked(port, post("/?named=%C3%A9"))
    named = long[1].pop(b"x-named")
    assert named == "é".encode()
    assert short[1].keys() == long[1].keys()
    assert short[0] == long[0]
    assert short[2] == long[2]


async def test_others_take_the_long_way() -> None:
    async with server() as port:
        (old,) = await asked(port, post("/", "1.0"))
        (closing,) = await asked(port, post("/", extra="Connection: close\r\n"))
    assert old[0] == b"HTTP/1.0 200 OK"
    assert closing[1][b"connection"] == b"close"


async def test_a_slow_client_is_waited_for() -> None:
    """The next request of the same connection is not read before the answer is out."""
    async with server() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(f"/?length={CROWD}") + post("/?length=3"))
        await asyncio.sleep(0.2)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(CROWD) == b"x" * CROWD
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(3) == b"xxx"
        writer.close()


async def test_a_line_break_never_becomes_a_header() -> None:
    async with server() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/?named=a%0d%0ax-evil:%201"))
        assert b"x-evil" not in await reader.read()  # aiohttp ends the connection without an answer
        writer.close()


CHUNKED = b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"


@pytest.mark.parametrize("query", ["piece=a&piece=bc", "piece=a&piece=bc&named=%C3%A9"])
async def test_a_stream_is_what_aiohttp_makes_of_it(query: str) -> None:
    """Two on one connection, the second of one piece: what one header keeps from the short way is the same."""
    async with server() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        heads = []
        for path, body in ((query, CHUNKED), ("piece=abc", b"3\r\nabc\r\n0\r\n\r\n")):
            writer.write(post(f"/streamed?{path}"))
            heads.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
            assert await reader.readexactly(len(body)) == body
        writer.close()
    assert heads[0][0] == b"HTTP/1.1 200 OK"
    names = {line.partition(b":")[0].lower() for line in heads[0][1:] if line} - {b"x-named"}
    assert names == {b"content-type", b"x-request-id", b"date", b"server", b"transfer-encoding"}


class Crowded(HttpOutlet):
    """Its client has not taken the answer before this one."""

    def _unread(self) -> int:
        return 60_000


async def lost(skip: int) -> AsyncIterator[bytes]:
    raise RuntimeError("the log cannot be read")
    yield b""


async def fallen(request: web.Request) -> web.StreamResponse:
    outlet = Crowded(request, lost, time.monotonic, Pace(behind=1))
    await outlet.release(b"first")
    await outlet.finish(b"")
    return outlet.response


async def test_a_client_that_is_behind_from_the_start_has_the_head() -> None:
    """What fails then ends the connection, and never becomes another answer."""
    async with server() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/fallen"))
        async with asyncio.timeout(10):
            raw = await reader.read()
        writer.close()
    assert raw.startswith(b"HTTP/1.1 200 OK")
    assert raw.count(b"HTTP/1.1") == 1
    assert not raw.endswith(b"0\r\n\r\n")
