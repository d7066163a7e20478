"""Killed in the middle of an answer that a retry waits for: both are ended at the next start, and the key is free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eventstore.reader import Reader
from replay.verify import verified
from tests.cache.calls import CHAT, Caller, environ_priced
from tests.crash.load import openai_stream
from tests.gateway.scripted import Script, ScriptedServer
from tests.serverprocess import server_process

KEYED = {"Idempotency-Key": "order-1"}
WHOLE = openai_stream(words=6)
BEGUN = Script(b"\n\n".join(WHOLE.split(b"\n\n")[:4]) + b"\n\n", content_type="text/event-stream", hold=True)


async def test_a_kill_under_a_waiting_retry_leaves_the_key_free(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(CHAT, BEGUN, Script(WHOLE, content_type="text/event-stream"))
        env = environ_priced(upstream.base_url)
        async with server_process(tmp_path / "logs", env=env) as server, aiohttp.ClientSession() as client:
            caller = Caller(server.url, client)
            first = await caller.begin(headers=KEYED, stream=True)
            retry = await caller.begin(headers=KEYED, stream=True)
            await retry.until(b"word1")
            await server.kill()
            with pytest.raises(aiohttp.ClientPayloadError):
                await retry.rest()
            await server.start()
            caller = Caller(server.url, client)
            again = await caller.ask(headers=KEYED, stream=True)
            assert b"word5" in again.body
            assert (await caller.ask(headers=KEYED, stream=True)).body == again.body
            assert len(upstream.requests) == 2
            ends = [await ended(caller, each) for each in (first.request_id, retry.request_id)]
            assert [end["type"] for end in ends] == ["request_interrupted"] * 2
            assert ends[0]["cost_usd"] > 0
            assert ends[1]["cost_usd"] == 0
            assert await server.terminate() == 0
    with Reader(tmp_path / "logs") as reader:
        report = verified(reader)
        assert (report["listed"], report["open"]) == ([], [])


async def ended(caller: Caller, request_id: str) -> dict[str, Any]:
    events: list[dict[str, Any]] = (await caller.get(f"/v1/requests/{request_id}/events")).json["data"]
    return events[-1]
