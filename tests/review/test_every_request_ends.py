"""Whatever breaks, our own code included: a request has one terminal event, its client a true answer, and the log shows
both again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from eventstore.catalogue.event import Event
from eventstore.envelope import Appended, StreamWrite
from eventstore.errors import LogBusy
from eventstore.frames import FrameRun, Part, Template
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from gateway.exchange.decide import Price, Views, decide
from gateway.exchange.inputs import Submission, Submitted
from gateway.exchange.recover import interrupt, open_streams
from gateway.exchange.run import Exchanges
from gateway.exchange.state import Exchange
from gateway.routing.choose import Route
from gateway.server import Server
from gateway.upstreams.openai_compatible import OpenAICompatible
from gateway.upstreams.upstream import Call, Provider
from gateway.wire.decoders import DECODERS
from gateway.wire.openai_chat import ChatStreamDecoder
from gateway.wire.values import Decoder, Piece
from tests.crash.load import openai_stream
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, Gateway, chat, gateway

STREAM = Script(openai_stream(words=6), content_type="text/event-stream")
BROKEN = {"message": "The server failed on this request.", "type": "server_error", "param": None}


class Breaking(ChatStreamDecoder):
    """Fails, as no decoder should, on a certain word."""

    name = "breaking.1"
    __slots__ = ()

    def decode(self, parts: Sequence[Part], template: Template | None) -> list[Piece]:
        if any(b"word3" in (part if isinstance(part, bytes) else part.joined) for part in parts):
            raise RuntimeError("nobody foresaw this")
        return super().decode(parts, template)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder is one of those that a recorded generation may name."""
    monkeypatch.setitem(cast(dict[str, Any], DECODERS), Breaking.name, Breaking)


class BreakingFamily(OpenAICompatible):
    def decoder(self, streamed: bool) -> Decoder:
        return Breaking()


class BreakingDecoder(Server):
    def _compose(self) -> None:
        super()._compose()
        cast(dict[str, Any], self.upstreams)["openai_compatible"] = BreakingFamily(self.http)


class BreakingPrice(Server):
    def _compose(self) -> None:
        self.price = cast(Price, lambda *_: 1 // 0)
        super()._compose()


class BreakingEncoder(Server):
    def _compose(self) -> None:
        super()._compose()
        cast(dict[str, Any], self.upstreams)["openai_compatible"] = object()


class FullLog:
    """A log that admits nothing new."""

    def __init__(self, log: SQLiteLog) -> None:
        self._log = log

    def append(self, *writes: StreamWrite, admit: bool = False, **rest: Any) -> asyncio.Future[Appended]:
        if admit:
            raise LogBusy("2000 appends are waiting for the disk")
        return self._log.append(*writes, **rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class FullExchanges(Exchanges):
    def __init__(self, *, log: Any, **rest: Any) -> None:
        super().__init__(log=FullLog(log), **rest)


class Full(Server):
    runs = FullExchanges


async def shown_again(served: Gateway, request_id: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as client, client.get(f"{served.url}/v1/requests/{request_id}/stream") as answer:
        return answer.status, await answer.read()


async def failed_by_us(served: Gateway, request_id: str) -> None:
    end = await served.end_of(request_id)
    assert (end["type"], end["status"], end["fault_domain"]) == ("request_failed", 500, "gateway")
    assert end["error"] == {**BROKEN, "code": "internal_error"}
    assert not served.server.exchanges.open


async def test_a_decoder_that_breaks_before_the_answer_began(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url, kind=BreakingDecoder) as served:
        upstream.script(COMPATIBLE, STREAM)
        answer = await served.ask(chat(stream=True))
        assert answer.status == 500
        assert answer.json() == {"error": {**BROKEN, "code": "internal_error"}}
        await failed_by_us(served, answer.request_id)
        assert await shown_again(served, answer.request_id) == (500, answer.body)


async def test_a_decoder_that_breaks_in_the_middle(tmp_path: Path) -> None:
    """The frame that broke it is recorded, and means nothing when the answer is shown again, whatever reads it then."""
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url, kind=BreakingDecoder) as served:
        upstream.script(
            COMPATIBLE, lambda _: Script(STREAM.body, content_type="text/event-stream", split=40, pace_s=0.002)
        )
        answer = await served.ask(chat(stream=True))
        assert answer.status == 200
        assert b"word2" in answer.body
        assert b"word3" not in answer.body
        assert b'"code":"internal_error"' in answer.body.split(b"data: ")[-1]
        await failed_by_us(served, answer.request_id)
        assert await shown_again(served, answer.request_id) == (200, answer.body)


@pytest.mark.parametrize("streamed", [True, False])
async def test_prices_that_break_at_the_end(tmp_path: Path, streamed: bool) -> None:
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url, kind=BreakingPrice) as served:
        upstream.script(COMPATIBLE, STREAM if streamed else Script.file("openai/body.json"))
        answer = await served.ask(chat(stream=streamed))
        assert b'"code":"internal_error"' in answer.body
        assert b"[DONE]" not in answer.body
        await failed_by_us(served, answer.request_id)
        generation = await served.generation(answer.request_id)
        assert generation["cost_usd"] is None, "what was used without a known price must count as unpriced"
        assert await shown_again(served, answer.request_id) == (answer.status, answer.body)


async def test_a_family_that_breaks_before_anything_is_recorded(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url, kind=BreakingEncoder) as served:
        answer = await served.ask(chat(stream=True))
        assert (answer.status, answer.json()["error"]["code"]) == (500, "internal_error")
        end = await served.end_of(answer.request_id)
        assert (end["type"], end["fault_domain"]) == ("request_rejected", "gateway")


async def test_a_log_without_room_refuses_in_few_words(tmp_path: Path) -> None:
    """503 with Retry-After, before any call; what is recorded does not hold the body that had no room."""
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url, kind=Full) as served:
        upstream.script(COMPATIBLE, STREAM)
        answer = await served.ask(chat(stream=True))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert [event.type for event in await served.ended(answer.request_id)] == ["request_rejected"]
        assert not upstream.requests


async def test_recovery_survives_a_frame_that_breaks_its_decoder(tmp_path: Path) -> None:
    """Found open at the next start, such a request ends like any other, and the server starts."""
    log = await SQLiteLog.open(tmp_path, durability="process")
    submitted = await log.append(StreamWrite("request-X", 0, tuple(event.new() for event in begun("X"))))
    rows, _ = FrameRun(submitted.last).pack([b"data: {}", b"data: word3"], 0)
    await log.append(frames=rows)
    with Reader(tmp_path / "events.db") as reader:
        assert open_streams(reader, 0) == ["request-X"]
        await interrupt(log, reader, "request-X", lambda *_: (None, None), 0)
    failed, end = (await log.read_stream("request-X"))[-2:]
    assert (failed.body["frames"], end.type) == (2, "request_interrupted")
    await log.close()


def begun(request_id: str) -> list[Event]:
    """A request whose upstream was called."""
    submission = Submission(request_id=request_id, endpoint="/", wire="openai_chat", renderer=1, body={}, recorded={})
    provider = Provider(name="p", family="openai_compatible", base_url="http://p.test")
    submitted = Submitted(submission, Route(provider, "m", "named"), Call("/", b"", True), Breaking.name, "", "", 0)
    return decide(submitted, Exchange(request_id), Views(lambda *_: (None, None), 0))
