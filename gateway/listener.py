"""The socket that the server listens on, and the class of the connections that it takes there."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

from aiohttp import web

from gateway.connection import Connection

KEEPALIVE_S = 75.0
LINGER_S = 2.0
"""How long an answered request's body is still read, so that its client can hear the answer."""
BACKLOG = 4096


def bound(host: str, port: int) -> socket.socket:
    """A bound socket; nobody is taken in yet. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setblocking(False)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def url_of(host: str, listening: socket.socket) -> str:
    """Where a socket listens, for clients."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"


async def take(kind: type[Connection], runner: web.AppRunner, listening: socket.socket) -> asyncio.Server:
    """Take connections, of this class; the runner ends them as if it had made them."""
    manager = runner.server
    assert manager is not None
    loop = asyncio.get_running_loop()
    made = partial(
        kind,
        manager,
        loop=loop,
        access_log=None,  # type: ignore[arg-type]  # None turns it off, which the annotation forgets
        keepalive_timeout=KEEPALIVE_S,
        lingering_time=LINGER_S,
        auto_decompress=False,  # no compressed body is taken, so none shall cost its decompression
    )
    return await loop.create_server(made, sock=listening, backlog=BACKLOG)
