"""The hot path's client reads answers: whole, cut at every byte, malformed, endless, or more than was asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from gateway.upstreams.http1 import Pool
from gateway.upstreams.http1_connection import BARE_LIMIT, UNREAD_LIMIT, Connection
from gateway.upstreams.upstream import UpstreamFailure
from tests.gateway.upstreams.http1.calls import ask, outcome
from tests.gateway.upstreams.http1.raw_server import PATIENCE_S, Peer, once, raw_server, saying

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MEBI = 1 << 20


@dataclass(frozen=True)
class Case:
    """An answer, what it means, and whether its connection is kept. `open_end`: the connection's end is the body's."""

    raw: bytes
    body: bytes = b""
    status: int = 200
    kept: bool = True
    open_end: bool = False


WHOLE = {
    "length": Case(OK + b"Content-Length: 5\r\nX-Two: 1\r\nX-Two: 2 \r\n\r\nhello", b"hello"),
    "empty": Case(OK + b"content-length: 0\r\n\r\n"),
    "chunked": Case(CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
    "extensions": Case(CHUNKED + b'3;a=b;c="d"\r\nhel\r\n02\r\nlo\r\n0;last\r\n\r\n', b"hello"),
    "trailers": Case(CHUNKED + b"5\r\nhello\r\n0\r\nX-Two: 3\r\nContent-Type: evil\r\n\r\n", b"hello"),
    "interim": Case(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        + OK
        + b"content-length: 2\r\n\r\nhi",
        b"hi",
    ),
    "no reason": Case(b"HTTP/1.1 429 \r\ncontent-length: 2\r\nretry-after: 7\r\n\r\n{}", b"{}", 429),
    "no content": Case(b"HTTP/1.1 204 No Content\r\n\r\n", status=204),
    "no body": Case(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", status=304),
    "close": Case(OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi", b"hi", kept=False),
    "old": Case(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"hi", kept=False),
    "old, kept": Case(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi", b"hi"),
    "until the end": Case(OK + b"content-type: text/event-stream\r\n\r\nhello", b"hello", kept=False, open_end=True),
}
CUTTABLE = [name for name, case in WHOLE.items() if not case.open_end]


@pytest.mark.parametrize("name", WHOLE)
async def test_an_answer_in_two_pieces_cut_at_every_byte_and_in_single_bytes(name: str) -> None:
    case, raw = WHOLE[name], WHOLE[name].raw
    ways = [(raw[:at], raw[at:]) for at in range(len(raw))] + [tuple(raw[at : at + 1] for at in range(len(raw)))]

    async def play(peer: Peer) -> None:
        while True:
            await peer.say(*ways[int(await peer.request())])
            if case.open_end:
                return

    pool = Pool()
    async with raw_server(play) as server:
        for way in range(len(ways)):
            assert await ask(pool, server.url, b"%d" % way) == (case.status, case.body), ways[way]
        assert len(server.peers) == (1 if case.kept else len(ways))
    await pool.close()


async def test_headers_have_lower_case_names_and_trailers_change_none_of_them() -> None:
    pool = Pool()
    async with raw_server(once(WHOLE["length"].raw)) as server:
        answer = await pool.post(server.url, {}, b"")
        assert answer.headers == {"content-length": "5", "x-two": "2"}
    async with raw_server(once(WHOLE["trailers"].raw)) as server:
        answer = await pool.post(server.url, {}, b"")
        while await answer.read():
            pass
        assert answer.headers == {"transfer-encoding": "chunked"}
    await pool.close()


async def test_many_chunks_of_one_read_come_as_one_piece() -> None:
    chunks = b"".join(b"%x\r\n%d\r\n" % (len(b"%d" % n), n) for n in range(500))
    pool = Pool()
    async with raw_server(once(CHUNKED, chunks, b"0\r\n\r\n")) as server:
        answer = await pool.post(server.url, {}, b"")
        assert await answer.read() == b"".join(b"%d" % n for n in range(500))
        assert await answer.read() == b""
        await answer.close()
    await pool.close()


class Gullible(Connection):
    """The bug: a connection's end is taken for the answer's."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.finished = self.finished or self._has_head
        super().connection_lost(exc)


async def cuts_taken_for_whole(name: str, made_of: type[Connection], broken: bool = False) -> list[int]:
    """At which bytes an answer can end without its client noticing; `broken` by a reset, else in order."""
    raw = WHOLE[name].raw

    class Cutting(Pool):
        connection = made_of

    async def play(peer: Peer) -> None:
        await peer.say(raw[: int(await peer.request())])
        if broken:
            peer.reset()

    pool = Cutting()
    async with raw_server(play) as server:
        outcomes = [await outcome(pool, server.url, b"%d" % at) for at in range(len(raw))]
    await pool.close()
    return [at for at, came in enumerate(outcomes) if came != "connection_lost"]


@pytest.mark.parametrize("broken", [False, True], ids=["ended", "broken"])
@pytest.mark.parametrize("name", CUTTABLE)
async def test_no_cut_answer_is_taken_for_whole(name: str, broken: bool) -> None:
    assert await cuts_taken_for_whole(name, Connection, broken) == []


async def test_the_check_of_cuts_sees_a_client_that_takes_any_end_for_the_answers() -> None:
    assert await cuts_taken_for_whole("length", Gullible) != []


async def test_a_connection_that_has_ended_takes_no_request() -> None:
    """Its end was said once; a request would wait for ever."""
    async with raw_server(saying(WHOLE["empty"].raw)) as server, asyncio.timeout(PATIENCE_S):
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(set()), server.host, server.port)
        connection.abort()
        await asyncio.sleep(0.01)
        with pytest.raises(UpstreamFailure, match="at once"):
            await connection.send(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", b"")


async def test_an_answer_until_the_end_is_whole_at_an_orderly_end_only() -> None:
    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.say(WHOLE["until the end"].raw)
        peer.reset()

    pool = Pool()
    async with raw_server(play) as server:
        assert await outcome(pool, server.url) == "connection_lost"
    async with raw_server(saying(WHOLE["until the end"].raw)) as server:
        answer = await pool.post(server.url, {}, b"")
        assert await answer.read() == b"hello"
        await pool.close()
        with pytest.raises(UpstreamFailure, match="broke"):  # our own end is not the server's
            await answer.read()


GARBAGE = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "a folded header": OK + b"a: b\r\n c\r\n\r\n",
    "a space in a name": OK + b"a b: c\r\n\r\n",
    "a NUL in a value": OK + b"a: b\0c\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi",
    "a length and chunks": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": OK + b"content-length: -1\r\n\r\n",
    "a length beyond numbers": OK + b"content-length: 99999999999999999999\r\n\r\n",
    "no chunk size": CHUNKED + b"zz\r\n",
    "a chunk size beyond numbers": CHUNKED + b"fffffffffffffffff\r\n",
    "a chunk longer than it says": CHUNKED + b"2\r\nhello\r\n",
    "another protocol from here on": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + OK,
    "a switch without a word": b"HTTP/1.1 101 Switching\r\n\r\n" + OK,
    "interim answers without end": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 2000,
    "a head without end": OK + b"a: b\r\n" * 12000,
    "a header without end": OK + b"a: " + b"b" * (BARE_LIMIT + 1),
    "a trailer without end": CHUNKED + b"2\r\nhi\r\n0\r\na: " + b"b" * (BARE_LIMIT + UNREAD_LIMIT),
    "extensions without end": CHUNKED + b"2;" + b"b" * (BARE_LIMIT + UNREAD_LIMIT),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_what_is_no_answer_fails_at_once_and_ends_the_connection(name: str) -> None:
    raw = GARBAGE[name]

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.say(*(raw[at : at + 32768] for at in range(0, len(raw), 32768)))
        await peer.until_left()

    pool = Pool()
    async with raw_server(play) as server:
        assert await outcome(pool, server.url) == "bad_response"
        await asyncio.wait_for(server.peers[0].left.wait(), PATIENCE_S)
    await pool.close()


async def test_what_came_before_the_malformed_part_is_given_first() -> None:
    pool = Pool()
    async with raw_server(once(CHUNKED + b"5\r\nhello\r\nzz")) as server:
        answer = await pool.post(server.url, {}, b"")
        assert await answer.read() == b"hello"
        with pytest.raises(UpstreamFailure, match="not valid HTTP"):
            await answer.read()
        await answer.close()
    await pool.close()


FIRST = OK + b"x: mine\r\ncontent-length: 5\r\n\r\nfirst"
SECOND = OK + b"x: evil\r\ncontent-length: 6\r\n\r\nsecond"
MORE = {
    "another answer": (FIRST + SECOND,),
    "half of another answer": (FIRST + SECOND[:30],),
    "a letter": (FIRST + b"H",),
    "another answer after a close": (FIRST.replace(b"x: mine", b"connection: close") + SECOND,),
    "another answer later": (FIRST, SECOND),
    "an end of chunks": (FIRST, b"0\r\n\r\n"),
    "another after chunks": (CHUNKED + b"5\r\nfirst\r\n0\r\n\r\n" + SECOND,),
}


class Greedy(Connection):
    """The bug: whatever the connection brings is read as if it had been asked for."""

    def data_received(self, data: bytes) -> None:
        self.finished = False
        super().data_received(data)

    def on_message_begin(self) -> None:
        pass


async def answers_to_three_calls(pieces: tuple[bytes, ...], made_of: type[Connection]) -> list[bytes | str]:
    """What three calls in a row give where each answer has something behind it."""

    class Asking(Pool):
        connection = made_of

    pool = Asking()
    async with raw_server(saying(*pieces)) as server:
        given = []
        for _ in range(3):
            given.append(await outcome(pool, server.url))
            for _ in range(20):
                await asyncio.sleep(0)
    await pool.close()
    return given


@pytest.mark.parametrize("name", MORE)
async def test_what_follows_an_answer_is_nobodys(name: str) -> None:
    assert await answers_to_three_calls(MORE[name], Connection) == [b"first"] * 3


async def test_the_check_of_what_follows_sees_a_client_that_reads_it() -> None:
    assert await answers_to_three_calls(MORE["another answer"], Greedy) != [b"first"] * 3


class Hoarder(Connection):
    """The bug: it reads on, however much waits unread."""

    def data_received(self, data: bytes) -> None:
        self._paused = True
        super().data_received(data)
        self._paused = False


async def stands_still(peer: Peer) -> int:
    """Wait until a server can send no more; how much it has sent."""
    seen = [-1, 0]
    while seen[-10:] != [peer.sent] * 10:
        seen.append(peer.sent)
        await asyncio.sleep(0.01)
    return peer.sent


async def taken_unread(made_of: type[Connection], size: int) -> tuple[int, int]:
    """How much of an answer its server could send while nobody read it, and how much there is to read afterwards."""
    piece = bytes(MEBI)

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"content-length: %d\r\n\r\n" % size)
        for _ in range(size // len(piece)):
            await peer.say(piece)

    class Reading(Pool):
        connection = made_of

    pool = Reading()
    async with raw_server(play) as server, asyncio.timeout(PATIENCE_S):
        answer = await pool.post(server.url, {}, b"")
        taken = await stands_still(server.peers[0])
        read, longest = 0, 0
        while part := await answer.read():
            read, longest = read + len(part), max(longest, len(part))
        await answer.close()
        assert made_of is not Connection or longest <= 2 * UNREAD_LIMIT
    await pool.close()
    return taken, read


async def test_an_unread_answer_waits_at_its_server() -> None:
    taken, read = await taken_unread(Connection, 50 * MEBI)
    assert taken < 25 * MEBI  # what the two sockets hold
    assert read == 50 * MEBI


async def test_the_check_of_unread_answers_sees_a_client_that_takes_all() -> None:
    taken, _ = await taken_unread(Hoarder, 50 * MEBI)
    assert taken >= 50 * MEBI


async def test_tiny_chunks_are_counted_for_what_they_cost() -> None:
    chunks = b"1\r\nx\r\n" * 20_000
    pool = Pool()
    async with raw_server(once(CHUNKED, *[chunks] * 20, b"0\r\n\r\n")) as server, asyncio.timeout(PATIENCE_S):
        answer = await pool.post(server.url, {}, b"")
        await stands_still(server.peers[0])
        first = read = len(await answer.read())
        while part := await answer.read():
            read += len(part)
        await answer.close()
    assert read == 400_000
    assert first < UNREAD_LIMIT // 2
    await pool.close()
