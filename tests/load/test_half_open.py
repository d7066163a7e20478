"""Clients that begin to ask and go no further: they are closed in time, and others are served meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.gateway.raw import RawClient, ask
from tests.gateway.whole import PATIENCE_S, chat
from tests.load.crowd import SOON_S, connections, impatient, in_turns
from tests.serverprocess import COMMAND, ServerProcess, server_process

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-long: aaaaaaaaaaaaaaaaaaaa"
DRIP_S = 0.2


async def half_open(server: ServerProcess, clients: int) -> list[RawClient]:
    """So many connections, each with another part of a head, from nothing on."""

    async def one(sent: int) -> RawClient:
        client = await RawClient.connect(server.url)
        await client.send(HEAD[: sent % len(HEAD)])
        return client

    return await in_turns(lambda sent=sent: one(sent) for sent in range(clients))


async def assert_they_go(server: ServerProcess, clients: Sequence[RawClient], patience_s: float) -> None:
    """The server closes them all, though a part of them goes on to say more, and answers somebody else all the time."""
    answered = 0
    async with asyncio.timeout(patience_s):
        while connections(server):
            for client in clients[::10]:
                await dripped(client)
            answer = await ask(server.url, chat("demo/echo"))
            assert answer.status == 200
            answered += 1
            await asyncio.sleep(DRIP_S)
    assert answered
    assert not any(await in_turns(client.more for client in clients))


async def dripped(client: RawClient) -> None:
    try:
        await client.send(b"a")
    except ConnectionError:
        pass  # it is closed: that is what the test waits for


async def test_half_a_head_does_not_keep_a_connection(tmp_path: Path) -> None:
    async with server_process(tmp_path / "logs", command=impatient()) as server:
        await assert_they_go(server, await half_open(server, 1_000), PATIENCE_S)


@pytest.mark.soak
async def test_nor_one_of_the_server_as_it_is(tmp_path: Path) -> None:
    async with server_process(tmp_path / "logs", command=COMMAND) as server:
        await assert_they_go(server, await half_open(server, 2_000), 6 * PATIENCE_S)


async def test_a_server_that_waits_for_them_is_caught(tmp_path: Path) -> None:
    async with server_process(tmp_path / "logs", command=impatient(head_s="3600")) as server:
        with pytest.raises(TimeoutError):
            await assert_they_go(server, await half_open(server, 20), 1.5 * float(SOON_S))
