"""A group that its server did not settle: killed in the middle, or failed in a way that nobody foresaw. It gets its one
end all the same."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from eventstore.rows import FILE
from gateway.api.groups import OpenGroups, unsettled
from gateway.exchange.inputs import Submission
from gateway.exchange.outlet import Outlet
from gateway.exchange.run import Exchanges
from gateway.server import Server
from replay.cli import run as replay
from tests.crash.load import environ, openai_body
from tests.gateway.scripted import Request, Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, gateway
from tests.serverprocess import server_process

PATH = "/v1/generate/multi"
GROUP = {
    "models": ["openai-compatible/a", "openai-compatible/b"], "prompt": "Is it so?", "mode": "best",
    "judge": "openai-compatible/judge",
}  # fmt: skip


def answers(asked: Request) -> Script:
    """The members answer at once; their judge never does."""
    return Script(hold=True) if asked.json()["model"] == "judge" else Script.json(openai_body())


async def judged(upstream: ScriptedServer) -> None:
    """Wait until the judge was asked: then every member has ended, and the group goes on."""
    async with asyncio.timeout(PATIENCE_S):
        while len(upstream.requests) < 3:
            await asyncio.sleep(0.01)


def groups(data_dir: Path) -> list[RecordedEvent]:
    """All events of groups."""
    with Reader(data_dir / FILE) as reader:
        events = [event for event in reader.read(0, 1_000) if isinstance(event, RecordedEvent)]
    return [event for event in events if event.stream.startswith("group-")]


async def test_killed_while_its_judge_is_asked(tmp_path: Path) -> None:
    data_dir = tmp_path / "logs"
    async with ScriptedServer() as upstream, aiohttp.ClientSession() as client:
        upstream.script(COMPATIBLE, answers)
        async with server_process(data_dir, env=environ(upstream.base_url)) as server:
            asked = asyncio.create_task(client.post(server.url + PATH, json=GROUP))
            await judged(upstream)
            await server.kill()
            await asyncio.wait((asked,))
            await server.restart()
            started, settled = groups(data_dir)
            async with client.get(f"{server.url}{PATH}/{started.body['group_id']}") as answer:
                shown = json.loads(await answer.read())
            await server.restart()
            assert len(groups(data_dir)) == 2, "settled once"
    assert (settled.body["type"], settled.body["reason"], settled.body["winner"]) == ("group_settled", "restart", None)
    assert settled.body["judge_request"] not in started.body["members"]
    assert [result["content"] for result in shown["results"]] == ["All of it."] * 2
    assert shown["judge"]["request_id"] == settled.body["judge_request"]
    assert replay(["verify", "--data-dir", str(data_dir)], {}) == 0


class Marking(Server):
    """Moves its low-water mark often, and keeps each."""

    mark_s = 0.01
    marks: tuple[int, ...] = ()

    def _positions(self) -> Iterator[int]:
        positions = list(super()._positions())
        self.marks = (*self.marks, min(positions, default=sys.maxsize))
        return iter(positions)


class Lost(OpenGroups):
    """What is put here is not found again."""

    def values(self) -> Any:
        return ()


class Forgetful(Marking):
    """The deliberate bug: its mark minds no group."""

    def _compose(self) -> None:
        super()._compose()
        self.desk = replace(self.desk, groups=Lost())


@pytest.mark.parametrize(("kind", "found"), [(Marking, True), (Forgetful, False)])
async def test_the_next_start_looks_far_enough_back(tmp_path: Path, kind: type[Marking], found: bool) -> None:
    async with ScriptedServer() as upstream, aiohttp.ClientSession() as client:
        upstream.script(COMPATIBLE, answers)
        async with gateway(tmp_path / "logs", upstream.base_url, "--drain-timeout", "0", kind=kind) as served:
            asked = asyncio.create_task(client.post(served.url + PATH, json=GROUP))
            await judged(upstream)
            assert isinstance(served.server, Marking)
            before = len(served.server.marks)
            async with asyncio.timeout(PATIENCE_S):
                while len(marks := served.server.marks) < before + 2:
                    await asyncio.sleep(0.01)
            (started,) = groups(tmp_path / "logs")
            assert (marks[-1] < started.position) is found
        await asyncio.wait((asked,))


class Broken(Exchanges):
    """The deliberate bug: members end in a way that nobody foresaw."""

    async def run(self, submission: Submission, outlet: Outlet) -> None:
        raise RuntimeError("nobody foresaw this")


class Breaking(Server):
    runs = Broken


async def test_what_nobody_foresaw_settles_it_too(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, aiohttp.ClientSession() as client:
        async with (
            gateway(tmp_path / "logs", upstream.base_url, kind=Breaking) as served,
            client.post(served.url + PATH, json=GROUP) as answer,
        ):
            assert answer.status == 502
            assert json.loads(await answer.read())["reason"] == "internal_error"
        assert [event.type for event in groups(tmp_path / "logs")] == ["group_started", "group_settled"]


def event(type_: str, **body: Any) -> RecordedEvent:
    """One as the log has it, as far as this is concerned."""
    stream = f"group-{body['group_id']}" if "group_id" in body else f"request-{body['request_id']}"
    data = json.dumps({"type": type_, "schema": 1, "stream": stream, **body}).encode()
    return RecordedEvent(1, "o", 1, stream, 1, type_, 0, 0, data, b"")


STARTED = event(
    "group_started", group_id="g", key="k", mode="all", members=["m"], models=["a/b"], body_length=0, body_digest=""
)
SETTLED = event("group_settled", group_id="g", reason="all", winner=None)
MEMBER, JUDGE, OTHER = (event("request_received", request_id=n, parent=p) for n, p in ("mg", "jg", "ox"))
ENDS: list[tuple[list[RecordedEvent], list[str | None]]] = [
    ([], []),
    ([STARTED], [None]),
    ([STARTED, MEMBER, OTHER], [None]),
    ([STARTED, MEMBER, JUDGE], ["j"]),
    ([STARTED, MEMBER, JUDGE, SETTLED], []),
    ([SETTLED], []),
    ([MEMBER], []),
]


@pytest.mark.parametrize(("recorded", "judges"), ENDS)
def test_the_ends_of_what_was_begun(recorded: list[RecordedEvent], judges: list[str | None]) -> None:
    found = unsettled(recorded)
    assert [settled.judge_request for settled in found] == judges
    assert {(settled.group_id, settled.reason, settled.winner) for settled in found} <= {("g", "restart", None)}
