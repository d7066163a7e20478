"""The scripted upstream itself: what it promises its tests."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from tests.gateway.scripted import Script, ScriptedServer


async def raw(base_url: str, sent: bytes) -> bytes:
    """All bytes that answer these."""
    url = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(sent)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def post(path: str, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)


async def test_a_cut_ends_the_connection_after_so_many_bytes() -> None:
    async with ScriptedServer() as server:
        server.script("POST /a", Script(b"0123456789", split=3, cut=7))
        answer = await raw(server.base_url, post("/a", b"{}"))
    assert answer.partition(b"\r\n\r\n")[2] == b"3\r\n012\r\n3\r\n345\r\n1\r\n6\r\n"
    assert server.requests[0].sent == 7


async def test_a_cut_before_the_head_answers_nothing() -> None:
    async with ScriptedServer() as server:
        server.script("POST /a", Script(b"x", cut=-1))
        assert await raw(server.base_url, post("/a", b"")) == b""


async def test_scripts_play_in_order_and_the_last_repeats() -> None:
    async with ScriptedServer() as server:
        server.script("POST /a", Script(b"1"), Script(b"2", framing="close"), lambda r: Script(r.body, framing="close"))
        first = await raw(server.base_url, post("/a", b"") + post("/a", b""))
        later = [await raw(server.base_url, post("/a?q=1", body)) for body in (b"3", b"4")]
    assert [first[-1:], later[0][-1:], later[1][-1:]] == [b"2", b"3", b"4"]
    assert b"1\r\n1\r\n0\r\n\r\n" in first
    assert server.requests[-1].query == {"q": ["1"]}


async def test_an_unknown_route_is_404_and_recorded() -> None:
    async with ScriptedServer() as server:
        server.script("POST /a", Script(b"", framing="close"))
        answer = await raw(server.base_url, post("/b", b"") + post("/a", b""))
    assert answer.startswith(b"HTTP/1.1 404")
    assert [request.path for request in server.requests] == ["/b", "/a"]
