"""The HTTP/1.1 client of the hot path: a POST on a kept-alive connection, its answer as it arrives.

httptools parses, asyncio does TLS, aiohappyeyeballs connects; what is here is a pool and the order of things. It is
here because of what it spares: a call by aiohttp's client costs 80 µs of processor time, this one 13. It speaks no
proxy, no redirect, no cookie, no compression: an upstream call wants none of them.

A connection is used again only after an answer that was read to its end. A POST is never sent twice.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cached_property

from aiohappyeyeballs import AddrInfoType, start_connection

from gateway.upstreams.http1_connection import Connection
from gateway.upstreams.http1_request import Origin, place_of, request_head
from gateway.upstreams.upstream import UpstreamFailure

CONNECT_S = 5.0
SECOND_ADDRESS_S = 0.25
"""A host's next address is tried too when one says nothing for so long (RFC 8305)."""
IDLE_S = 15.0
"""A connection idle for longer is not used again: many servers close theirs soon after."""
IDLE_KEPT = 256
LINGER_S = 1.0


class Pool:
    """Connections to any origin. `post` gives an `Http1Answer` once its head is here. `tls`: the system's certificates,
    unless told otherwise."""

    connection = Connection
    """The class of its connections; tests prove their worth with a broken one."""
    connect_s = CONNECT_S
    idle_s = IDLE_S
    linger_s = LINGER_S
    """Tests have less patience."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._given_tls = tls
        self._idle: dict[Origin, deque[Connection]] = {}
        self._open: set[Connection] = set()
        self._lingering: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Http1Answer:
        """Raises `UpstreamFailure`: connect_failed, connect_timeout, connection_lost, bad_response."""
        place = place_of(url)
        head = request_head(place, headers, len(body))
        connection = self._reusable(place.origin) or await self._connect(place.origin)
        try:
            await connection.send(head, body)
        except BaseException:
            connection.abort()
            raise
        return Http1Answer(self, place.origin, connection)

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end, if it may be kept; end any other."""
        if not connection.reusable or len(self._idle.get(origin, ())) >= IDLE_KEPT:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        self._idle.setdefault(origin, deque()).append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self.idle_s, self._drop_idle)

    def linger(self, origin: Origin, connection: Connection) -> None:
        """Keep a connection whose answer has said all it has to say, once its body has ended too, if that is soon."""
        task = asyncio.get_running_loop().create_task(self._end_of(origin, connection))
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)

    async def close(self) -> None:
        """Every connection ends, and whoever waits for one hears it."""
        if self._sweep is not None:
            self._sweep.cancel()
        self._idle.clear()
        for connection in list(self._open):
            connection.abort()
        await asyncio.gather(*self._lingering)

    async def _end_of(self, origin: Origin, connection: Connection) -> None:
        try:
            async with asyncio.timeout(self.linger_s):
                while await connection.read():
                    pass
        except (TimeoutError, UpstreamFailure):
            pass  # it does not end well: `give_back` ends it
        finally:
            self.give_back(origin, connection)

    def _reusable(self, origin: Origin) -> Connection | None:
        """The connection used last: the others may grow old."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            fresh = time.monotonic() - connection.idle_since < self.idle_s
            if fresh and connection.reusable and connection.quiet:
                return connection
            connection.abort()
        return None

    def _drop_idle(self) -> None:
        """End the connections that grew old, and look again later while there are others."""
        oldest = time.monotonic() - self.idle_s
        for origin, idle in list(self._idle.items()):
            while idle and idle[0].idle_since <= oldest:
                idle.popleft().abort()
            if not idle:
                del self._idle[origin]
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(self.idle_s, self._drop_idle) if self._idle else None

    async def _connect(self, origin: Origin) -> Connection:
        try:
            async with asyncio.timeout(self.connect_s):
                return await self._dial(origin)
        except TimeoutError as e:
            said = f"the provider did not accept a connection in {self.connect_s:g} s"
            raise UpstreamFailure("connect_timeout", said) from e
        except ssl.SSLError as e:
            raise UpstreamFailure("connect_failed", "the provider offered no TLS connection to be trusted") from e
        except (OSError, ValueError) as e:
            raise UpstreamFailure("connect_failed", "the provider could not be reached") from e

    async def _dial(self, origin: Origin) -> Connection:
        host, port, tls = origin
        loop = asyncio.get_running_loop()
        connected = await start_connection(await self.addresses(host, port), happy_eyeballs_delay=SECOND_ADDRESS_S)
        _, connection = await loop.create_connection(
            lambda: self.connection(self._open),
            sock=connected,
            ssl=self._tls if tls else None,
            server_hostname=host if tls else None,
        )
        return connection

    async def addresses(self, host: str, port: int) -> Sequence[AddrInfoType]:
        """Where a host is, in the system's order. Raises `OSError`, `ValueError`."""
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Loaded at the first call that needs it."""
        return self._given_tls or ssl.create_default_context()


class Http1Answer:
    """An answer, its head read. `headers` have lower-case names; of repeated ones the last counts."""

    __slots__ = ("_connection", "_origin", "_pool", "headers", "status")

    def __init__(self, pool: Pool, origin: Origin, connection: Connection) -> None:
        self._pool, self._origin = pool, origin
        self._connection: Connection | None = connection
        self.status, self.headers = connection.status, connection.headers

    async def read(self) -> bytes:
        """As `Answer.read`. Raises `UpstreamFailure` where the connection broke before the body's end."""
        assert self._connection is not None, "a closed answer is not read"
        return await self._connection.read()

    async def close(self, ended: bool = False) -> None:
        """Ends the call: an answer read to its end leaves the connection for the next one, another one is cut. Only the
        first call counts: the connection may be another's by the second."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if ended and not connection.finished:
            self._pool.linger(self._origin, connection)
        else:
            self._pool.give_back(self._origin, connection)
