"""Two calls that race: which of them is read on, what both cost, and what the log says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from gateway.exchange.run import Exchanges
from gateway.server import Server
from replay.cli import run as replay
from tests.cache.calls import CHAT, serving
from tests.clients.front import Front, front
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import PATIENCE_S
from tests.routing.test_failures import BODY, CHUNK, GOOD, OTHER, SECOND, asked, refusing, types

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEDGE = {"hedge": {"after_ms": 50, "model": SECOND}, "max_tokens": 9}
SILENT = Script(b"", content_type="text/event-stream", hold=True)
COMMENTS = Script(b": still thinking\n\n", content_type="text/event-stream", hold=True)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("hedge"), args=("--nats", "off", "--circuit", "off")) as started:
        yield started


class Race:
    """Moments of the next race, for scripts that wait for them."""

    def __init__(self, server: Front) -> None:
        self._server = server
        self._asked, self._failures = len(server.asked("anthropic")), self._recorded()

    def joined(self) -> bool:
        """The second call is made."""
        return len(self._server.asked("anthropic")) > self._asked

    def failed(self) -> bool:
        """One of the calls has failed, and the log says so."""
        return self._recorded() > self._failures

    def _recorded(self) -> int:
        with Reader(self._server.process.data_dir) as reader:
            rows = [row for row in reader.rows(frames=False) if isinstance(row, RecordedEvent)]
        return sum(row.type == "generation_failed" for row in rows)


async def test_a_first_call_that_is_quick_has_no_second(server: Front) -> None:
    server.answer("openai", GOOD)
    before = len(server.asked("anthropic"))
    _, body, events = await asked(server, hedge={"after_ms": 60_000, "model": SECOND})
    assert types(events) == ["generation_completed", "request_completed"]
    assert b"from the first" in body
    assert b"hedge" not in server.asked("openai")[-1].body
    assert len(server.asked("anthropic")) == before


@pytest.mark.parametrize("slow", [SILENT, COMMENTS, replace(GOOD, delay_s=30)], ids=["silent", "comments", "no head"])
async def test_the_second_wins_where_the_first_brings_nothing(server: Front, slow: Script) -> None:
    server.answer("openai", slow)
    server.play("anthropic")
    _, body, events = await asked(server, stream=True, **HEDGE)
    assert types(events) == [
        "hedge_started", "generation_failed", "generation_started", "generation_completed", "request_completed",
    ]  # fmt: skip
    started, lost, won, whole, end = events[3:]
    assert [event["attempt"] for event in (started, lost, won, whole)] == [2, 1, 2, 2]
    assert (lost["kind"], lost["provider"], lost["frames"]) == ("hedge_lost", "openai", 0)
    assert (lost["usage_source"], lost["tokens_output"], lost["cost_usd"] > 0) == ("estimated", 0, True)
    assert (started["call_digest"], started["after_ms"]) == (won["call_digest"], 50)
    assert (end["provider"], end["attempts"]) == ("anthropic", 2)
    assert end["cost_usd"] == pytest.approx(lost["cost_usd"] + whole["cost_usd"])
    assert body.endswith(b"data: [DONE]\n\n")
    await asyncio.wait_for(server.asked("openai")[-1].left.wait(), PATIENCE_S) if slow.hold else None


async def test_the_first_wins_where_it_is_first_after_all(server: Front) -> None:
    server.answer("openai", Script.file("openai/text.sse", once=Race(server).joined))
    server.answer("anthropic", SILENT)
    _, body, events = await asked(server, stream=True, **HEDGE)
    assert types(events) == ["hedge_started", "generation_failed", "generation_completed", "request_completed"]
    started, lost, whole, end = events[3:]
    assert [event["attempt"] for event in (started, lost, whole)] == [2, 2, 1]
    assert (lost["kind"], lost["provider"], lost["usage_source"]) == ("hedge_lost", "anthropic", "estimated")
    assert (end["provider"], end["attempts"]) == ("openai", 2)
    assert end["cost_usd"] == pytest.approx(lost["cost_usd"] + whole["cost_usd"])
    assert body.endswith(b"data: [DONE]\n\n")
    await asyncio.wait_for(server.asked("anthropic")[-1].left.wait(), PATIENCE_S)


async def test_the_second_takes_over_from_a_first_that_fails(server: Front) -> None:
    race = Race(server)
    server.answer("openai", replace(refusing(500), once=race.joined))
    server.answer("anthropic", replace(OTHER, once=race.failed))
    _, body, events = await asked(server, **HEDGE)
    assert types(events)[:3] == ["hedge_started", "generation_failed", "generation_started"]
    assert (events[4]["kind"], events[4]["status"], events[4]["cost_usd"]) == ("upstream_error", 500, 0)
    assert b"from the second" in body


async def test_a_second_that_fails_leaves_the_first_alone(server: Front) -> None:
    server.answer("openai", replace(GOOD, once=Race(server).failed))
    server.answer("anthropic", refusing(529))
    _, body, events = await asked(server, **HEDGE)
    assert types(events) == ["hedge_started", "generation_failed", "generation_completed", "request_completed"]
    assert (events[4]["status"], events[4]["attempt"], events[4]["cost_usd"]) == (529, 2, 0)
    assert b"from the first" in body


async def test_where_both_fail_the_policy_goes_on(server: Front) -> None:
    race = Race(server)
    server.answer("openai", replace(refusing(500), once=race.joined))
    server.answer("anthropic", replace(refusing(529), once=race.failed))
    server.say("ollama", "from the third")
    _, body, events = await asked(server, fallback=["ollama/qwen3:4b"], **HEDGE)
    assert types(events) == [
        "hedge_started", "generation_failed", "generation_started", "generation_failed",
        "fallback_selected", "generation_started", "generation_completed", "request_completed",
    ]  # fmt: skip
    assert [event["attempt"] for event in events[3:10]] == [2, 1, 2, 2, 3, 3, 3]
    assert b"from the third" in body


async def test_what_breaks_after_it_won_is_an_error(server: Front) -> None:
    server.answer("openai", SILENT)
    server.answer("anthropic", Script(CHUNK, content_type="text/event-stream", framing="close"))
    _, _, events = await asked(server, stream=True, **HEDGE)
    assert types(events)[:3] == ["hedge_started", "generation_failed", "generation_started"]
    assert types(events)[-1] == "request_failed"


@pytest.mark.parametrize(
    "hedge", [{"after_ms": -1, "model": SECOND}, {"model": SECOND}, "soon", {"after_ms": True, "model": "x"}]
)
async def test_a_hedge_that_is_none_is_refused(server: Front, hedge: Any) -> None:
    status, body, _ = await asked(server, hedge=hedge)
    assert (status, b"hedge" in body) == (400, True)


async def test_a_hedge_to_a_model_that_there_is_not_is_refused(server: Front) -> None:
    status, _, events = await asked(server, hedge={"after_ms": 50, "model": "nobody/x"})
    assert (status, [event["type"] for event in events][-1]) == (404, "request_rejected")


async def test_what_stood_in_is_no_answer_for_others(server: Front) -> None:
    server.answer("openai", replace(GOOD, delay_s=30), GOOD)
    server.answer("anthropic", OTHER)
    told = []
    async with aiohttp.ClientSession(headers={"x-abstractcore-cache": "use"}) as session:
        for _ in range(2):
            async with session.post(f"{server.url}/chat/completions", json={**BODY, **HEDGE, "seed": 1}) as answer:
                told.append((answer.headers["x-abstractcore-cache"], answer.headers.get("x-abstractcore-fallback")))
    assert told == [("miss", SECOND), ("miss", None)]


class Forgetful(Exchanges):
    """The deliberate bug: the call that lost has no end."""

    async def _lost(self, *race: Any) -> None:
        return


async def raced_and_left(tmp_path: Path, kind: type[Exchanges]) -> list[dict[str, Any]]:
    """The events of a request whose client leaves while two calls race; neither goes on behind that."""
    async with ScriptedServer() as upstream:
        upstream.script(CHAT, SILENT)
        async with serving(tmp_path, upstream, kind=type("Raced", (Server,), {"runs": kind})) as (served, caller):
            hedge = {"after_ms": 1, "model": "openai/gpt-4.1"}
            asking = asyncio.create_task(caller.begin(stream=True, hedge=hedge))
            while len(upstream.requests) < 2:
                await asyncio.sleep(0.01)
            (one,) = served.server.exchanges.open
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            for request in upstream.requests:
                await asyncio.wait_for(request.left.wait(), PATIENCE_S)
            assert await served.server.exchanges.settled(PATIENCE_S)
            recorded = await served.server.log.read_stream(f"request-{one.submission.request_id}")
            return [event.body for event in recorded]


def unsettled(events: list[dict[str, Any]]) -> list[int]:
    """The calls without exactly one end, by their numbers."""
    begun = {event["attempt"] for event in events if event["type"] in ("generation_started", "hedge_started")}
    ends = [event["attempt"] for event in events if event["type"] in ("generation_failed", "generation_completed")]
    return [number for number in begun if ends.count(number) != 1]


async def test_a_client_that_leaves_ends_both_calls(tmp_path: Path) -> None:
    events = await raced_and_left(tmp_path, Exchanges)
    assert (unsettled(events), events[-1]["type"]) == ([], "request_cancelled")
    assert events[-1]["cost_usd"] > 0


async def test_a_call_that_has_no_end_is_noticed(tmp_path: Path) -> None:
    assert unsettled(await raced_and_left(tmp_path, Forgetful)) == [2]


async def test_all_of_it_is_verified(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    """Last: the server ends here."""
    await server.process.terminate()
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out
