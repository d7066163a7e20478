"""The server is killed while requests wait for the answer of another: all of them end at the next start, and their key
is free for one more call, not for two."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from eventstore.reader import Reader
from eventstore.rows import FILE
from replay.cli import run as replay
from tests.cache.calls import CHAT, PRICED, Answer, Caller, Coming, environ_priced
from tests.crash.load import openai_stream
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import PATIENCE_S
from tests.serverprocess import ServerProcess, server_process

KEYED = {"Idempotency-Key": "order-1"}
WHOLE = openai_stream(words=20)
HALF = Script(WHOLE[: len(WHOLE) // 2], content_type="text/event-stream", hold=True)
REST = Script(WHOLE, content_type="text/event-stream")


def types(data_dir: Path, request_id: str) -> list[str]:
    with Reader(data_dir / FILE) as reader:
        return [event.type for event in reader.read_stream(f"request-{request_id}")]


async def two_streams(client: aiohttp.ClientSession, server: ServerProcess) -> tuple[Coming, Coming]:
    """One that calls, and one with the same key that follows it; both have heard something."""
    caller = Caller(server.url, client)
    first = await caller.begin(headers=KEYED, stream=True)
    await first.until(b"word1")
    second = await caller.begin(headers=KEYED, stream=True)
    await second.until(b"word1")
    return first, second


async def asked_again(client: aiohttp.ClientSession, server: ServerProcess, headers: Mapping[str, str]) -> list[Answer]:
    """The same by four clients at once."""
    caller = Caller(server.url, client)
    return await asyncio.gather(*(caller.ask(headers=headers, stream=True) for _ in range(4)))


async def test_killed_while_a_retry_waits(tmp_path: Path) -> None:
    data_dir, timeout = tmp_path / "logs", aiohttp.ClientTimeout(total=PATIENCE_S)
    async with ScriptedServer() as upstream, aiohttp.ClientSession(timeout=timeout) as client:
        upstream.script(CHAT, HALF, REST)
        environ = environ_priced(upstream.base_url)
        async with server_process(data_dir, env=environ, args=("--nats", "off", "--model", PRICED)) as server:
            first, second = await two_streams(client, server)
            assert len(upstream.requests) == 1
            await server.kill()
            await server.start()
            assert types(data_dir, first.request_id)[-1] == "request_interrupted"
            assert types(data_dir, second.request_id) == [
                "request_received", "request_attached", "request_interrupted",
            ]  # fmt: skip
            answers = await asked_again(client, server, KEYED)
            assert len(upstream.requests) == 2, "one call more, whoever came first"
            assert {answer.body for answer in answers} == {answers[0].body}
            assert b"word19" in answers[0].body
            assert sum("idempotent-replayed" in answer.headers for answer in answers) == 3
            await server.kill()
            await server.start()
            (late, *_) = await asked_again(client, server, KEYED)
            assert late.body == answers[0].body
            assert len(upstream.requests) == 2
        assert replay(["verify", "--data-dir", str(data_dir)], {}) == 0
