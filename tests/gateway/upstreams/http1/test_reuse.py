"""Which connections are used again, and which end: by their answers, their age, their server, or their caller."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.upstreams.http1 import Pool
from gateway.upstreams.http1_connection import UNREAD_LIMIT, Connection
from gateway.upstreams.upstream import UpstreamFailure
from tests.gateway.upstreams.http1.calls import ask, outcome
from tests.gateway.upstreams.http1.raw_server import PATIENCE_S, Peer, once, raw_server, saying

OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"content-length: 2\r\n\r\nhi"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
SAID = b"9\r\nall said\n\r\n"
END = b"0\r\n\r\n"
MEBI = 1 << 20


async def left(peer: Peer) -> None:
    """Wait until the server saw the client close."""
    await asyncio.wait_for(peer.left.wait(), PATIENCE_S)


async def test_calls_in_a_row_share_a_connection() -> None:
    pool = Pool()
    async with raw_server(saying(HI)) as server:
        for _ in range(20):
            assert await ask(pool, server.url) == (200, b"hi")
        assert len(server.peers) == 1
    await pool.close()


async def test_calls_at_once_have_connections_of_their_own_and_their_own_answers() -> None:
    async def echo(peer: Peer) -> None:
        while True:
            body = await peer.request()
            await peer.say(OK + b"content-length: %d\r\n\r\n" % len(body), body[:2], body[2:])

    pool = Pool()
    async with raw_server(echo) as server:
        for turn in range(4):
            asked = [b"%d of %d" % (n, turn) for n in range(50)]
            assert await asyncio.gather(*(ask(pool, server.url, body) for body in asked)) == [(200, b) for b in asked]
        assert len(server.peers) == 50
    await pool.close()


async def test_servers_do_not_share() -> None:
    pool = Pool()
    async with raw_server(saying(HI)) as one, raw_server(saying(HI)) as other:
        for server in (one, other, one, other):
            await ask(pool, server.url)
        assert [len(server.peers) for server in (one, other)] == [1, 1]
    await pool.close()


async def test_a_connection_is_not_used_again_once_it_was_idle_for_long_and_ends_then() -> None:
    class Forgetful(Pool):
        idle_s = 0.0

    pool = Forgetful()
    async with raw_server(saying(HI)) as server:
        await ask(pool, server.url)
        await left(server.peers[0])  # though nobody calls
        await ask(pool, server.url)
        await ask(pool, server.url)
        assert len(server.peers) == 3
    await pool.close()


async def test_a_young_idle_connection_outlives_an_old_one() -> None:
    class Hasty(Pool):
        idle_s = 1.5

    pool = Hasty()
    async with raw_server(saying(HI)) as server:
        await asyncio.gather(ask(pool, server.url), ask(pool, server.url))
        first, second = server.peers
        while not (first.left.is_set() or second.left.is_set()):
            await ask(pool, server.url)
            await asyncio.sleep(0.01)
        assert len(server.peers) == 2
    await pool.close()


async def test_a_connection_that_its_server_closed_meanwhile_is_not_used_again() -> None:
    pool = Pool()
    async with raw_server(once(HI)) as server:
        for _ in range(3):
            assert await outcome(pool, server.url) == b"hi"
            for _ in range(20):
                await asyncio.sleep(0)
        assert len(server.peers) == 3
    await pool.close()


class Unwary(Connection):
    """The bug: only what the event loop has already said counts."""

    @property
    def quiet(self) -> bool:
        return True


async def after_an_unseen_word(word: bytes, made_of: type[Connection]) -> bytes | str:
    """What a call gives when the kernel already holds a server's word, or its end where there is none, and the event
    loop has had no turn to see it: the server's sockets are blocking ones, in the same task."""

    class Calling(Pool):
        connection = made_of

    pool = Calling()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        serving = asyncio.create_task(_serve(server))
        assert await outcome(pool, url) == b"hi"
        peer = await serving
        serving = asyncio.create_task(_serve(server))
        await asyncio.sleep(0.01)
        peer.sendall(word)
        if not word:
            peer.close()
        given = await outcome(pool, url)
        serving.cancel()
        for each in (peer, *await asyncio.gather(serving, return_exceptions=True)):
            if isinstance(each, socket.socket):
                each.close()
    await pool.close()
    return given


async def _serve(server: socket.socket) -> socket.socket:
    """Answer a request on the next connection."""
    loop = asyncio.get_running_loop()
    peer, _ = await loop.sock_accept(server)
    await loop.sock_recv(peer, 65536)
    await loop.sock_sendall(peer, HI)
    return peer


@pytest.mark.parametrize("word", [b"", OK + b"content-length: 4\r\n\r\nevil"], ids=["its end", "an unasked answer"])
async def test_a_connection_with_something_unseen_on_it_is_not_used_again(word: bytes) -> None:
    assert await after_an_unseen_word(word, Connection) == b"hi"


async def test_the_check_of_the_unseen_sees_a_client_that_does_not_look() -> None:
    assert await after_an_unseen_word(OK + b"content-length: 4\r\n\r\nevil", Unwary) == b"evil"


async def test_a_post_is_sent_once_though_its_connection_was_used_before() -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.say(HI)
        await peer.request()

    pool = Pool()
    async with raw_server(play) as server:
        assert await outcome(pool, server.url) == b"hi"
        assert await outcome(pool, server.url, b"once") == "connection_lost"
        assert [body for _, body in server.requests].count(b"once") == 1
    await pool.close()


async def test_an_answer_before_the_whole_request_ends_the_connection() -> None:
    async def play(peer: Peer) -> None:
        await peer.head()
        await peer.say(OK.replace(b"200 OK", b"413 Too Large") + b"content-length: 2\r\n\r\n{}")
        await peer.until_left()

    pool = Pool()
    async with raw_server(play) as server:
        assert await ask(pool, server.url, bytes(32 * MEBI)) == (413, b"{}")
        await left(server.peers[0])
    await pool.close()


async def test_a_long_error_of_which_only_the_beginning_is_read_does_not_hang_the_next_call() -> None:
    size = UNREAD_LIMIT  # with what its pieces cost, more than may wait
    pool = Pool()
    async with raw_server(saying(OK + b"content-length: %d\r\n\r\n" % size + bytes(size))) as server:
        for _ in range(3):
            async with asyncio.timeout(PATIENCE_S):
                answer = await pool.post(server.url, {}, b"")
                for _ in range(20):  # let it arrive
                    await asyncio.sleep(0)
                await answer.close()
    await pool.close()


async def test_an_answer_before_the_request_is_none() -> None:
    async def play(peer: Peer) -> None:
        await peer.say(HI)
        await peer.until_left()

    pool = Pool()
    async with raw_server(play) as server:
        assert await outcome(pool, server.url) in {"connection_lost", b"hi"}  # it may as well arrive just after
    await pool.close()


async def test_an_answer_closed_early_ends_its_connection() -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED, SAID)
        await peer.until_left()

    pool = Pool()
    async with raw_server(play) as server:
        answer = await pool.post(server.url, {}, b"")
        assert await answer.read() == b"all said\n"
        await answer.close()
        await left(server.peers[0])
    await pool.close()


async def test_an_answer_closed_twice_is_closed_once() -> None:
    """By the second time its connection may have an answer of somebody else."""

    async def play(peer: Peer) -> None:
        while True:
            body = await peer.request()
            await peer.say(OK + b"content-length: %d\r\n\r\n" % len(body), body)

    pool = Pool()
    async with raw_server(play) as server:
        first = await pool.post(server.url, {}, b"")
        await first.close()
        second = await pool.post(server.url, {}, b"second")
        await first.close()
        third = await pool.post(server.url, {}, b"third")
        assert [await second.read(), await third.read()] == [b"second", b"third"]
        assert len(server.peers) == 2
    await pool.close()


# The format has said all, but the last chunk is still to come.


class Patient(Pool):
    linger_s = PATIENCE_S


class Impatient(Pool):
    linger_s = 0.01


async def close_after_the_word(pool: Pool, url: str) -> None:
    answer = await pool.post(url, {}, b"")
    assert await answer.read() == b"all said\n"
    await answer.close(ended=True)


async def test_a_connection_lingers_for_its_last_chunk_and_is_used_again() -> None:
    closed = asyncio.Event()

    async def play(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(CHUNKED, SAID)
            await closed.wait()
            await peer.say(END)

    pool = Patient()
    async with raw_server(play) as server:
        await close_after_the_word(pool, server.url)
        assert not pool._idle
        closed.set()
        while not pool._idle:
            await asyncio.sleep(0)
        await close_after_the_word(pool, server.url)
        assert len(server.peers) == 1
    await pool.close()


@pytest.mark.parametrize("rest", [b"", b"2\r\nhi\r\n", b"zz\r\n"], ids=["nothing", "more", "nonsense"])
async def test_a_connection_whose_last_chunk_never_comes_ends(rest: bytes) -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED + SAID, rest)
        await peer.until_left()

    pool = Impatient()
    async with raw_server(play) as server:
        await close_after_the_word(pool, server.url)
        await left(server.peers[0])
    await pool.close()


async def test_the_end_of_the_pool_ends_those_that_linger_idle_or_wait() -> None:
    async def play(peer: Peer) -> None:
        body = await peer.request()
        if body == b"idle":
            await peer.say(HI)
        elif not body:
            await peer.say(CHUNKED, SAID)
        await peer.until_left()

    pool = Patient()
    async with raw_server(play) as server:
        await close_after_the_word(pool, server.url)
        waiting = asyncio.create_task(outcome(pool, server.url, b"wait"))
        while len(server.requests) < 2:
            await asyncio.sleep(0)
        assert await outcome(pool, server.url, b"idle") == b"hi"
        await pool.close()
        assert not pool._lingering  # no task outlives it
        assert await waiting == "connection_lost"
        for peer in server.peers:
            await left(peer)


# Callers that are cancelled.


@pytest.mark.parametrize("said", [b"", OK, CHUNKED, CHUNKED + SAID], ids=["nothing", "half a head", "head", "a part"])
async def test_a_cancelled_call_closes_its_connection(said: bytes) -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.say(said)
        await peer.until_left()

    pool = Pool()
    async with raw_server(play) as server:
        call = asyncio.create_task(ask(pool, server.url))
        while not server.peers or server.peers[0].sent < len(said) or not server.requests:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await left(server.peers[0])
    await pool.close()


async def test_a_closed_answer_is_not_read() -> None:
    pool = Pool()
    async with raw_server(saying(HI)) as server:
        answer = await pool.post(server.url, {}, b"")
        await answer.close()
        with pytest.raises(AssertionError, match="closed"):
            await answer.read()
    await pool.close()


async def test_a_server_that_ends_at_once_is_a_failure_and_no_hanging() -> None:
    async def play(peer: Peer) -> None:
        peer.reset()

    pool = Pool()
    async with raw_server(play) as server, asyncio.timeout(PATIENCE_S):
        for _ in range(50):
            with pytest.raises(UpstreamFailure) as failed:
                await pool.post(server.url, {}, b"{}")
            assert failed.value.kind in {"connection_lost", "connect_failed"}
    await pool.close()
