"""Clients of a shared connection that do not read: what they miss is in the log, and nobody waits for them. And what
they hear is recorded before."""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from eventstore.envelope import RecordedFrames
from gateway.api.channels import ChannelPace
from gateway.api.generated import TokenReader
from gateway.json_guard import LARGEST_BODY
from gateway.server import Server
from tests.crash.careless_server import Careless
from tests.crash.load import openai_stream
from tests.gateway.scripted import ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, Gateway, Paced, chat, gateway
from tests.streams.sockets import Client, socket, sse, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = 4_000
LONG = openai_stream(WORDS)
NARROW = 4096
SHORTLY = aiohttp.ClientWSTimeout(ws_close=0.1)


class Hoarding(Paced):
    """The deliberate bug: a client may be behind by any number of bytes, which are kept for it."""

    def _compose(self) -> None:
        super()._compose()
        self.desk = replace(self.desk, shared=ChannelPace(behind=1 << 30))


class Impatient(Paced):
    def _compose(self) -> None:
        super()._compose()
        self.desk = replace(self.desk, shared=ChannelPace(stalled_s=0.3, ping_s=0.2))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(upstream: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("shared") / "logs", upstream.base_url, kind=Paced) as running:
        yield running


class NarrowConnector(aiohttp.TCPConnector):
    """Opens sockets with hardly any room for what comes."""

    def __init__(self) -> None:
        super().__init__(socket_factory=self._narrow)

    @staticmethod
    def _narrow(info: Any) -> sockets.socket:
        opened = sockets.socket(info[0], info[1], info[2])
        opened.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, NARROW)
        return opened


async def recorded_before_it_is_read(
    served: Gateway, upstream: ScriptedServer, patience_s: float = PATIENCE_S
) -> tuple[bool, str]:
    """Two long answers for a client that reads nothing until both are recorded, and then reads them: whether they were
    recorded, and the text of the first."""
    upstream.script(COMPATIBLE, sse(LONG, split=60_000, pace_s=0.002))
    async with (
        aiohttp.ClientSession(connector=NarrowConnector()) as session,
        session.ws_connect(served.url + "/v1/stream", max_msg_size=0, timeout=SHORTLY) as opened,
    ):
        client = Client(opened)
        opened._response.connection.transport.pause_reading()  # type: ignore[union-attr]  # the client reads nothing
        await client.generate("a", chat())
        await client.generate("b", chat())
        try:
            async with asyncio.timeout(patience_s):
                await _both_recorded(served)
        except TimeoutError:
            return False, ""
        opened._response.connection.transport.resume_reading()  # type: ignore[union-attr]
        for _ in range(2):
            await client.until("done")
        return True, client.text("a") if client.text("a") == client.text("b") else "differ"


async def _both_recorded(served: Gateway) -> None:
    completed = 0
    after = await served.server.log.head()
    async for head in served.server.log.follow(after):
        rows = await served.server.log.read(after, head - after, frames=False)
        completed += sum(getattr(row, "type", "") == "request_completed" for row in rows)
        after = head
        if completed == 2:
            return


async def test_answers_are_recorded_long_before_their_slow_reader_has_them(
    served: Gateway, upstream: ScriptedServer
) -> None:
    recorded, text = await recorded_before_it_is_read(served, upstream)
    assert recorded
    assert text == "".join(f" word{n}" for n in range(WORDS))


async def test_a_server_that_keeps_what_is_not_read_is_noticed(tmp_path: Any, upstream: ScriptedServer) -> None:
    async with gateway(tmp_path / "logs", upstream.base_url, "--drain-timeout", "0", kind=Hoarding) as hoarding:
        recorded, _ = await recorded_before_it_is_read(hoarding, upstream, 1.5)
    assert not recorded


async def test_a_reader_that_takes_nothing_has_left(tmp_path: Any, upstream: ScriptedServer) -> None:
    upstream.requests.clear()
    upstream.script(COMPATIBLE, sse(LONG[:-14], split=60_000, hold=True))
    async with (
        gateway(tmp_path / "logs", upstream.base_url, kind=Impatient) as impatient,
        aiohttp.ClientSession(connector=NarrowConnector()) as session,
        session.ws_connect(impatient.url + "/v1/stream", max_msg_size=0, timeout=SHORTLY) as opened,
    ):
        await Client(opened).generate("a", chat())
        opened._response.connection.transport.pause_reading()  # type: ignore[union-attr]
        async with asyncio.timeout(PATIENCE_S):
            while not upstream.requests:
                await asyncio.sleep(0.01)
            await upstream.requests[0].left.wait()


async def test_a_silent_group_is_kept_alive(tmp_path: Any, upstream: ScriptedServer) -> None:
    upstream.script(COMPATIBLE, sse(openai_stream(words=2), delay_s=0.8))
    body = {"models": ["openai-compatible/m"], "prompt": "Hm?", "stream": True}
    async with (
        gateway(tmp_path / "logs", upstream.base_url, kind=Impatient) as impatient,
        aiohttp.ClientSession() as session,
        session.post(impatient.url + "/v1/generate/multi", json=body) as answer,
    ):
        events = (await answer.text()).split("\n\n")
    assert ": ping" in events
    assert [event.split("\n")[0] for event in events if event.startswith("event")][-1] == "event: result"


async def heard_too_early(served: Gateway, upstream: ScriptedServer) -> int:
    """How many tokens a client heard that the log did not have yet."""
    upstream.script(COMPATIBLE, sse(openai_stream(words=6), split=600, pace_s=0.05))
    early, text = 0, ""
    async with socket(served.url) as client:
        await client.generate("a", chat())
        accepted = await client.until("accepted")
        while (message := await client.hear())["type"] == "token":
            text += text_of(message["chunk"])
            early += not (await _recorded_text(served, accepted["request_id"])).startswith(text)
    return early


async def _recorded_text(served: Gateway, request_id: str) -> str:
    log = served.server.log
    started = next(event for event in await served.events(request_id) if event.type == "generation_started")
    rows: list[RecordedFrames] = await log.read_frames(started.position, await log.head())
    reader = TokenReader(log)
    return "".join([body.get("text", "") for row in rows for body in await reader.objects(row)])


async def test_no_token_is_heard_before_it_is_recorded(served: Gateway, upstream: ScriptedServer) -> None:
    assert await heard_too_early(served, upstream) == 0


async def test_a_server_that_speaks_first_is_noticed(tmp_path: Any, upstream: ScriptedServer) -> None:
    careless: type[Server] = Careless
    async with gateway(tmp_path / "logs", upstream.base_url, kind=careless) as hasty:
        assert await heard_too_early(hasty, upstream) > 0


async def test_a_message_beyond_the_limit_closes_the_socket(served: Gateway, upstream: ScriptedServer) -> None:
    """Others go on."""
    upstream.script(COMPATIBLE, sse(openai_stream(words=2)))
    async with socket(served.url) as other, socket(served.url) as client:
        try:
            await client.say(type="cancel", id="x" * LARGEST_BODY)
            closed = await client.socket.receive()
            assert closed.type is aiohttp.WSMsgType.CLOSE
        except ConnectionError:
            pass  # the end came while the rest of the message was on its way
        await other.generate("a", chat())
        await other.until("done")
