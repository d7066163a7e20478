"""What is left of sessions when their history is dropped: how they were opened and where they stand, but no words. The
same before the server's next start and after it, and to every route."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

from gateway import archivist
from gateway.server import Server
from tests.crash.load import openai_body
from tests.gateway.scripted import Script
from tests.replay.conftest import ROOT
from tests.sessions.talk import CHAT, MODEL, Conversation, Place, assistant, place, system, user

ALL = 1 << 40
GONE = (400, "history_gone")
FINE = (200, None)


async def archive(here: Place) -> None:
    assert (await here.gateway.server.archivist.asked("archive", ALL))["segments"]


async def drop(here: Place) -> None:
    await here.get("/v1/sessions")  # waits for what is made of the log
    assert (await here.gateway.server.archivist.asked("drop", ALL))["dropped"]


def there(here: Place, session: Conversation) -> Conversation:
    """The same session, asked of this server."""
    return Conversation(here, session.id)


async def told_of(here: Place, session: Conversation) -> Mapping[str, Any]:
    """What each route says of it. A turn that is taken changes it, so none is taken here."""
    found = {
        "session": await here.get(session.path),
        "turns": await here.get(f"{session.path}/turns"),
        "messages": await here.get(f"{session.path}/messages"),
        "fork": await here.post(f"{session.path}/fork", {}),
    }
    listed = [each["id"] for each in (await here.get("/v1/sessions")).body["data"]]
    return {"listed": session.id in listed} | {name: result(answer) for name, answer in found.items()}


def result(answer: Any) -> tuple[int, str | None]:
    return answer.status, None if answer.status == 200 else answer.body["error"]["code"]


KNOWN = {"listed": True, "session": FINE, "turns": FINE, "messages": GONE, "fork": FINE}
UNKNOWN = dict.fromkeys(KNOWN, (404, "session_not_found")) | {"listed": False}


async def test_a_session_that_is_used_loses_its_words_and_nothing_else(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        session = await here.open(system_prompt="Be brief.", temperature=0.5)
        await session.say("one")
        deleted = await here.open()
        await here.delete(deleted.path)
        later = await here.open()
        await archive(here)
        await session.say("two")
        await here.delete(later.path)
        before = await session.info()
        await drop(here)
        assert await told_of(here, session) == KNOWN
        assert [await told_of(here, each) for each in (deleted, later)] == [UNKNOWN, UNKNOWN]
        assert result(await session.say("three")) == GONE
    async with place(tmp_path) as here:
        session = there(here, session)
        assert await told_of(here, session) == KNOWN
        assert [await told_of(here, each) for each in (deleted, later)] == [UNKNOWN, UNKNOWN]
        assert result(await session.say("three")) == GONE
        after = await session.info()
        assert after == before | {"version": before["version"] + 1}
        await session.post("clear")
        assert result(await session.say("four")) == FINE
        assert here.told == [system("Be brief."), user("four")]
        assert here.upstream.requests[-1].json()["temperature"] == 0.5
        assert (await session.turns())[-1]["turn"] == 3
        assert (await here.delete(session.path)).status == 200
        assert await told_of(here, session) == UNKNOWN
    command = [sys.executable, "-m", "replay", "verify", "--data-dir", str(tmp_path)]
    assert run(command, check=False, cwd=ROOT, capture_output=True).returncode == 0


async def test_what_no_call_would_carry_may_go(tmp_path: Path) -> None:
    """A session that was summarised since goes on, drop for drop."""
    async with place(tmp_path) as here:
        session = await here.open()
        for text in ("one", "two"):
            await session.say(text)
        for number in range(2):
            await archive(here)
            here.upstream.script(CHAT, Script.json(openai_body(f"summary {number}")))
            assert (await session.post("compact", keep=0)).status == 200
            await drop(here)
            answer = await session.say(f"more {number}")
            assert answer.status == 200
            assert f"summary {number}" in here.told[0]["content"]


async def test_forks_keep_what_they_have_of_those_that_they_were_made_of(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        parent = await here.open(system_prompt="Be brief.")
        await parent.say("one")
        older = await parent.fork()
        await archive(here)
        newer = await parent.fork()
        await here.delete(parent.path)
        await drop(here)
    async with place(tmp_path) as here:
        for fork in (there(here, older), there(here, newer)):
            assert await told_of(here, fork) == KNOWN
            assert (await fork.info())["model"] == MODEL
            assert result(await fork.say("two")) == GONE
            assert (await fork.post("clear")).status == 200
            assert result(await fork.say("two")) == FINE
            assert here.told == [system("Be brief."), user("two")]
        assert await told_of(here, parent) == UNKNOWN


async def test_a_turn_that_goes_on_meanwhile_ends_as_usual(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        session, go = await here.open(), asyncio.Event()
        await session.say("one")
        await session.post("clear")
        here.upstream.script(CHAT, Script.json(openai_body("late"), once=go.is_set))
        turn = asyncio.create_task(session.say("two"))
        while len(here.upstream.requests) < 3:  # the models, "one", and "two"
            await asyncio.sleep(0.01)
        await archive(here)
        await drop(here)
        assert result(await session.say("three")) == (409, "session_busy")
        go.set()
        assert (await turn).text == "late"
        assert await session.messages() == [user("two"), assistant("late")]
    async with place(tmp_path) as here:
        assert await there(here, session).messages() == [user("two"), assistant("late")]


async def test_twin_that_says_nothing_again_loses_the_session_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unsaid(*_: Any) -> None:
        pass

    monkeypatch.setattr(archivist, "restate", unsaid)
    async with place(tmp_path) as here:
        session = await here.open()
        await session.say("one")
        await archive(here)
        await session.say("two")
        await drop(here)
    async with place(tmp_path) as here:
        assert await told_of(here, session) == UNKNOWN | {"listed": True}


class Remembering(Server):
    """The bug: what was read before the drop is still said after it."""

    async def _serve(self, listening: Any) -> None:
        await super()._serve(listening)
        self.archivist._on_drop = lambda: None


async def test_twin_that_remembers_words_says_them_until_it_ends(tmp_path: Path) -> None:
    async with place(tmp_path, kind=Remembering) as here:
        session = await here.open()
        await session.say("one")
        await session.messages()
        await archive(here)
        await here.open()
        await drop(here)
        assert await told_of(here, session) == KNOWN | {"messages": FINE}
