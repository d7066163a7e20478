"""Many clients of one server at once, and what it costs the server."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gateway.api.outlet import USUAL
from tests.gateway.raw import RawClient, request
from tests.gateway.whole import chat
from tests.serverprocess import ServerProcess

AT_ONCE = 100
BUSY_S = 0.5
QUICK = ("--nats", "off", "--durability", "process")
"""Whether the disk has it in a power cut is not the question here."""
SOON_S = "3"


def impatient(behind: int = USUAL.behind, head_s: str = SOON_S, stalled_s: str = "5") -> tuple[str, ...]:
    """The command of a server with little patience; see `tests/load/impatient_server.py`."""
    return (sys.executable, "-m", "tests.load.impatient_server", str(behind), head_s, stalled_s)


ESTABLISHED = "01"
BEGIN = b"data: "
BUSY = (b"HTTP/1.1 503", b"HTTP/1.1 504")
"""The server has too much to do, or the upstream."""
T = TypeVar("T")


async def in_turns(work: Iterable[Callable[[], Awaitable[T]]], at_once: int = AT_ONCE) -> list[T]:
    """All of it, so many at a time; what it gave, in its order."""
    done: list[T] = []
    todo = iter(work)
    while turn := list(islice(todo, at_once)):
        done += await asyncio.gather(*(one() for one in turn))
    return done


async def asking(url: str, model: str, **options: Any) -> RawClient:
    """A client that has asked for a stream."""
    client = await RawClient.connect(url, **options)
    await client.send(request(chat(f"openai-compatible/{model}", stream=True)))
    return client


async def begun(url: str, model: str) -> RawClient:
    """A client whose stream has begun. Where somebody is too busy, it asks again later."""
    while True:
        client = await asking(url, model)
        while BEGIN not in client.raw and not client.raw.startswith(BUSY):
            if not await client.more():
                raise EOFError(bytes(client.raw[-500:]))
        if BEGIN in client.raw:
            return client
        client.leave()
        await asyncio.sleep(BUSY_S)


async def all_begun(url: str, models: Sequence[str]) -> list[RawClient]:
    """A client for each model, their streams begun."""
    return await in_turns(lambda model=model: begun(url, model) for model in models)


async def narrow(url: str, model: str, room: int = 4096) -> RawClient:
    """A client that has asked for a stream, reads nothing by itself, and has hardly any room for what comes."""
    client = await cramped(url, room)
    await client.send(request(chat(f"openai-compatible/{model}", stream=True)))
    return client


async def cramped(url: str, room: int = 4096) -> RawClient:
    """A connection with hardly any room for what comes."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    opened.setblocking(False)
    at = urlsplit(url)
    await asyncio.get_running_loop().sock_connect(opened, (at.hostname, at.port))
    return RawClient(*await asyncio.open_connection(sock=opened, limit=room))


def connections(server: ServerProcess) -> int:
    """How many connections of its clients the server has open. The format: proc_pid_net(5), `/proc/net/tcp`."""
    port = f":{urlsplit(server.url).port:04X}"
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(local.endswith(port) and state == ESTABLISHED for _, local, _, state, *_ in sockets)


def resident_kib(server: ServerProcess, name: str = "VmRSS") -> int:
    """The server's memory now; with `VmHWM` the most that it had."""
    found = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())
    assert found is not None
    return int(found[1])
