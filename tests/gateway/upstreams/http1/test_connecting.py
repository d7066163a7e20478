"""Reaching a server: names and addresses, refusals, silence, TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.upstreams.http1 import Pool
from gateway.upstreams.upstream import UpstreamFailure
from tests.gateway.upstreams.http1.calls import ask, outcome
from tests.gateway.upstreams.http1.raw_server import PATIENCE_S, Peer, Play, client_tls, once, raw_server, saying
from tests.ports import free_port

OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"content-length: 2\r\n\r\nhi"
OPEN_END = OK + b"\r\nhello"


class Hasty(Pool):
    connect_s = 0.2


@contextmanager
def silent(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """The port of a server whose queue is full: the kernel answers no further connection."""
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind((host, port))
        listening.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex((host, listening.getsockname()[1]))
        yield listening.getsockname()[1]


async def test_a_refused_connection_is_said_so() -> None:
    assert await outcome(Pool(), f"http://127.0.0.1:{free_port()}/") == "connect_failed"


async def test_a_connection_that_nobody_accepts_times_out() -> None:
    with silent() as port:
        assert await outcome(Hasty(), f"http://127.0.0.1:{port}/") == "connect_timeout"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 300 + ".invalid"])
async def test_a_host_that_is_none_cannot_be_reached(host: str) -> None:
    assert await outcome(Pool(), f"http://{host}/") == "connect_failed"


async def test_the_second_address_of_a_host_is_tried_while_the_first_is_silent() -> None:
    async with raw_server(saying(HI)) as server:

        class TwoAddresses(Pool):
            async def addresses(self, host: str, port: int) -> Any:
                found = [await super(TwoAddresses, self).addresses(each, port) for each in ("127.0.0.2", "127.0.0.1")]
                return [address for each in found for address in each]

        with silent("127.0.0.2", server.port):
            pool = TwoAddresses()
            assert await ask(pool, f"http://two.invalid:{server.port}/") == (200, b"hi")
            await pool.close()


async def test_a_call_cancelled_while_it_connects_leaves_no_socket() -> None:
    with silent() as port:
        pool = Pool()
        before = len(os.listdir("/proc/self/fd"))
        calls = [asyncio.create_task(ask(pool, f"http://127.0.0.1:{port}/")) for _ in range(5)]
        while len(os.listdir("/proc/self/fd")) < before + len(calls):
            await asyncio.sleep(0.001)
        for call in calls:
            call.cancel()
        assert all(isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*calls, return_exceptions=True))
        async with asyncio.timeout(PATIENCE_S):
            while len(os.listdir("/proc/self/fd")) > before:
                await asyncio.sleep(0.001)


async def test_what_the_server_gets() -> None:
    pool = Pool()
    async with raw_server(once(HI)) as server:
        url = server.url + "?api-version=2026 11&x=%20"
        answer = await pool.post(url, {"x-key": "k", "content-type": "application/json"}, b"{}")
        await answer.close()
        assert server.requests == [
            (
                b"POST /v1/chat/completions?api-version=2026%%2011&x=%%20 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
                b"x-key: k\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n" % server.port,
                b"{}",
            )
        ]
    await pool.close()


async def test_an_ipv6_host() -> None:
    pool = Pool()
    try:
        async with raw_server(once(HI), host="::1") as server:
            assert await ask(pool, server.url) == (200, b"hi")
            assert b"\r\nhost: [::1]:%d\r\n" % server.port in server.requests[0][0]
    except OSError:
        pytest.skip("this machine has no IPv6")
    await pool.close()


# TLS


async def tls_outcome(tls: ssl.SSLContext | None, host: str = "127.0.0.1", play: Play | None = None) -> bytes | str:
    """What a call to a server with a certificate for localhost and 127.0.0.1 comes to."""
    pool = Pool(tls)
    async with raw_server(play or saying(HI), host=host, tls=True) as server:
        try:
            return await outcome(pool, server.url)
        finally:
            await pool.close()


async def test_a_certificate_that_is_trusted() -> None:
    pool = Pool(client_tls())
    async with raw_server(saying(HI), tls=True) as server:
        for _ in range(3):
            assert await ask(pool, server.url) == (200, b"hi")
        assert await ask(pool, server.url.replace("127.0.0.1", "localhost")) == (200, b"hi")
        assert len([peer for peer in server.peers if peer.requests]) == 2
    await pool.close()


async def test_no_other_certificate_will_do() -> None:
    assert await tls_outcome(None) == "connect_failed"
    assert await tls_outcome(client_tls(), host="127.0.0.2") == "connect_failed"


async def test_the_check_of_certificates_sees_a_client_that_trusts_all() -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    assert await tls_outcome(trusting) == b"hi"


async def test_a_refused_certificate_gets_no_request() -> None:
    pool = Pool()
    async with raw_server(saying(HI), tls=True) as server:
        with pytest.raises(UpstreamFailure, match="no TLS connection to be trusted"):
            await pool.post(server.url, {"authorization": "Bearer canary"}, b"{}")
        assert server.requests == []
    await pool.close()


async def test_a_server_without_tls_where_tls_was_meant() -> None:
    async def play(peer: Peer) -> None:
        await peer.say(HI)
        await peer.until_left()

    pool = Pool(client_tls())
    async with raw_server(play) as server:
        assert await outcome(pool, server.url.replace("http:", "https:")) == "connect_failed"
    await pool.close()


async def test_a_silent_handshake_times_out_and_a_cancelled_one_closes() -> None:
    async def play(peer: Peer) -> None:
        await peer.until_left()

    async with raw_server(play) as server:
        url = server.url.replace("http:", "https:")
        assert await outcome(Hasty(client_tls()), url) == "connect_timeout"
        call = asyncio.create_task(outcome(Pool(client_tls()), url))
        while len(server.peers) < 2:
            await asyncio.sleep(0)
        call.cancel()
        for peer in server.peers:
            await asyncio.wait_for(peer.left.wait(), PATIENCE_S)


async def test_an_answer_until_the_end_of_tls() -> None:
    assert await tls_outcome(client_tls(), play=once(OPEN_END)) == b"hello"


async def test_a_long_unread_answer_over_tls_waits_and_comes_whole() -> None:
    size = 8 << 20

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"content-length: %d\r\n\r\n" % size, bytes(size))

    pool = Pool(client_tls())
    async with raw_server(play, tls=True) as server, asyncio.timeout(PATIENCE_S):
        answer = await pool.post(server.url, {}, b"")
        await asyncio.sleep(0.05)
        read = 0
        while part := await answer.read():
            read += len(part)
        assert read == size
        await answer.close()
    await pool.close()
