"""Ends that come while a commit is waited for: none is lost, and none is mistaken for the end of an attempt."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eventstore.envelope import Appended, StreamWrite
from gateway.exchange.inputs import Failure, Stop, Submission
from gateway.exchange.outlet import Outlet
from gateway.exchange.running import Leave, Limits, Running, Verdict, Watch
from tests.crash.load import openai_body
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import PATIENCE_S, Gateway, chat, gateway
from tests.sessions.talk import CHAT

TIMEOUT = Failure("idle_timeout", "the provider was silent")
STOPPED = Stop("stopped", "enough", "caller")
SILENT = Script(b"", content_type="text/event-stream", hold=True)


class Client:
    """An outlet whose client may be gone."""

    def __init__(self, gone: bool = False) -> None:
        self._gone = gone

    def gone(self) -> bool:
        return self._gone

    def tick(self, now: float) -> None:
        """No connection to keep alive."""


def running(outlet: Any = None, task: Any = None) -> Running:
    submission = Submission(request_id="r", endpoint="/", wire="openai_chat", renderer=1, body={}, recorded=None)
    outlet_: Outlet = outlet or Client()
    return Running(submission, outlet_, task, 0.0, 0)


def verdict_of(*verdicts: Verdict) -> Verdict | None:
    """What stands when these came in turn."""
    under_way = running()
    for verdict in verdicts:
        under_way.end(verdict)
    return under_way.verdict


def test_the_first_verdict_counts() -> None:
    assert verdict_of(TIMEOUT, Failure("total_timeout", "")) == TIMEOUT
    assert verdict_of(STOPPED, Leave("client_left")) == STOPPED
    assert verdict_of(Leave("client_left"), TIMEOUT) == Leave("client_left")


def test_one_that_ends_the_request_counts_for_more_than_one_of_an_attempt() -> None:
    assert verdict_of(TIMEOUT, STOPPED) == STOPPED
    assert verdict_of(TIMEOUT, Leave("client_left"), STOPPED) == Leave("client_left")


def test_a_client_that_leaves_is_seen_although_its_attempt_has_timed_out() -> None:
    under_way = running(Client(gone=True))
    under_way.end(TIMEOUT)
    Watch({under_way}, Limits(), lambda: 0.0).look(under_way, 0.0)
    assert under_way.verdict == Leave("client_left")


async def test_whoever_waits_is_interrupted_once() -> None:
    async def owner() -> int:
        try:
            await asyncio.sleep(PATIENCE_S)
        except asyncio.CancelledError:
            return task.uncancel()
        return -1

    task = asyncio.create_task(owner())
    under_way = running(task=task)
    await asyncio.sleep(0)
    under_way.waiting = True
    under_way.end(TIMEOUT)
    under_way.end(STOPPED)
    assert await task == 0


@pytest.mark.parametrize("verdict", [TIMEOUT, STOPPED])
async def test_a_wait_that_a_verdict_cuts_short_is_no_end_of_the_server(verdict: Verdict) -> None:
    async def owner() -> Verdict | None:
        try:
            await asyncio.sleep(PATIENCE_S)
        except asyncio.CancelledError:
            under_way.interrupted()
        return under_way.verdict

    task = asyncio.create_task(owner())
    under_way = running(task=task)
    await asyncio.sleep(0)
    under_way.waiting = True
    under_way.end(verdict)
    assert await task == verdict


async def test_a_race_that_nobody_wins_in_time_is_a_timeout(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(CHAT, SILENT)
        upstream.script("POST /v1/messages", SILENT)
        async with gateway(tmp_path, upstream.base_url, "--first-byte-timeout", "1") as whole:
            answer = await whole.ask(chat(stream=True, hedge={"after_ms": 20, "model": "anthropic/c"}))
            assert (answer.status, answer.json()["error"]["code"]) == (504, "first_byte_timeout")


SOUND = {
    "type": "input_audio",
    "input_audio": {"data": base64.b64encode(b"RIFF" + bytes(99)).decode(), "format": "wav"},
}


@pytest.mark.parametrize("model", ["openai-compatible/m", "several"])
async def test_the_deadline_holds_while_files_are_made_ready(tmp_path: Path, model: str) -> None:
    env = {"ABSTRACTCORE_AUDIO": "transcribe", "ABSTRACTCORE_TRANSCRIBE_MODEL": "openai-compatible/whisper"}
    named = tmp_path / "models.toml"
    named.write_text(
        '[models.several]\nstrategy = "fallback"\nmembers = ["openai-compatible/m", "openai-compatible/n"]\n'
    )
    async with ScriptedServer() as upstream:
        upstream.script("POST /v1/audio/transcriptions", Script.json({"text": "too late"}, delay_s=PATIENCE_S))
        async with gateway(tmp_path / "logs", upstream.base_url, "--config", str(named), env=env) as whole:
            body = {"model": model, "messages": [{"role": "user", "content": [SOUND]}], "deadline_s": 0.5}
            answer = await whole.ask(body)
            assert (answer.status, answer.json()["error"]["code"]) == (504, "total_timeout")
            assert (await whole.end_of(answer.request_id))["type"] == "request_rejected"


class SlowCommits:
    """A log whose commits with an event of one type take as long as somebody wants them to. All else is the log's."""

    def __init__(self, log: Any, type_: str) -> None:
        self._log, self._type = log, type_
        self.appending, self.go_on = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, *writes: StreamWrite, **more: Any) -> Appended:
        appended: Appended = await self._log.append(*writes, **more)
        if any(event.type == self._type for write in writes for event in write.events):
            self.appending.set()
            await self.go_on.wait()
        return appended


@asynccontextmanager
async def slow(
    tmp_path: Path, type_: str, *scripts: Script, args: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Gateway, SlowCommits, ScriptedServer]]:
    async with ScriptedServer() as upstream:
        upstream.script(CHAT, *scripts)
        upstream.script("POST /v1/messages", SILENT)
        async with gateway(tmp_path, upstream.base_url, *args) as whole:
            exchanges: Any = whole.server.exchanges
            exchanges._log = log = SlowCommits(whole.server.log, type_)
            yield whole, log, upstream


async def test_a_client_that_leaves_while_a_hedge_is_recorded_ends_its_request(tmp_path: Path) -> None:
    hedge = {"after_ms": 20, "model": "anthropic/c"}
    async with slow(tmp_path, "hedge_started", SILENT) as (whole, log, _):
        asking = asyncio.create_task(whole.ask(chat(stream=True, hedge=hedge)))
        await log.appending.wait()
        [under_way] = whole.server.exchanges.open
        asking.cancel()
        while under_way.verdict is None:
            await asyncio.sleep(0.02)
        log.go_on.set()
        assert (await whole.end_of(under_way.submission.request_id))["type"] == "request_cancelled"
        assert await whole.server.exchanges.settled(PATIENCE_S)


async def test_a_stop_while_a_retry_is_recorded_stops_it(tmp_path: Path) -> None:
    scripts = (SILENT, Script.json(openai_body("never asked for")))
    async with slow(tmp_path, "retry_attempted", *scripts, args=("--first-byte-timeout", "0.3")) as (whole, log, up):
        asking = asyncio.create_task(whole.ask(chat(stream=True, retries=1)))
        await log.appending.wait()
        [under_way] = whole.server.exchanges.open
        url = f"{whole.url}/v1/requests/{under_way.submission.request_id}/stop"
        async with aiohttp.ClientSession() as client:
            stopping = asyncio.create_task(client.post(url, json={"reason": "enough"}))
            while not isinstance(under_way.verdict, Stop):
                await asyncio.sleep(0.02)
            log.go_on.set()
            assert (await stopping).status == 200
        assert (await asking).status == 499
        assert (await whole.end_of(under_way.submission.request_id))["type"] == "request_cancelled"
        assert len(up.requests) == 1, "nothing is called any more"
