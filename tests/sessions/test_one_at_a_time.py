"""One turn at a time: whoever comes first has it, the others are told so, or wait; and it is always one chain."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eventstore.envelope import ANY_VERSION, Appended, StreamWrite
from eventstore.sqlite import SQLiteLog
from gateway.api.outlet import Pace
from gateway.connection import Connection
from gateway.server import Server
from tests.crash.load import openai_stream
from tests.gateway.raw import RawClient, request
from tests.gateway.scripted import Script
from tests.gateway.whole import PATIENCE_S, Paced
from tests.sessions.chain import misfits
from tests.sessions.talk import CHAT, Answer, Place, answering, place, user

CLIENTS = 100


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    async with place(tmp_path / "logs") as running:
        yield running


def slowly(request: Any) -> Script:
    """An answer that is still coming when the next client asks."""
    answer = answering(request)
    return Script(answer.body, content_type=answer.content_type, delay_s=0.05)


def held(release: asyncio.Event) -> Callable[[Any], Script]:
    """Answers that wait to be released."""

    def answer(request: Any) -> Script:
        return replace(answering(request), once=release.is_set)

    return answer


async def until_asked(here: Place) -> None:
    """Wait until the upstream was called: then a turn is going on."""
    async with asyncio.timeout(PATIENCE_S):
        while not any(request.path == "/v1/chat/completions" for request in here.upstream.requests):
            await asyncio.sleep(0.005)


async def test_of_two_at_once_one_wins_and_the_other_is_told_the_version(here: Place) -> None:
    release = asyncio.Event()
    here.upstream.script(CHAT, held(release))
    session = await here.open()
    saying = {asyncio.create_task(session.say(text)) for text in ("one", "two")}
    (refused,), (going_on,) = await asyncio.wait(saying, return_when=asyncio.FIRST_COMPLETED)
    release.set()
    won, lost = await going_on, await refused
    assert (won.status, lost.status) == (200, 409)
    error = lost.body["error"]
    assert (error["code"], error["version"], lost.headers["x-abstractcore-session-version"]) == ("session_busy", 2, "2")
    assert set(error) >= {"message", "type", "param", "code"}
    (rejected,) = [e for e in await here.gateway.ended(lost.headers["x-request-id"]) if e.type == "request_rejected"]
    assert rejected.body["error"]["version"] == 2
    assert len(await session.messages()) == 2


async def test_one_who_waits_goes_on_from_what_the_other_said(here: Place) -> None:
    here.upstream.script(CHAT, slowly)
    session = await here.open()
    first = asyncio.create_task(session.say("one"))
    await until_asked(here)
    second = await session.say("two", wait=20)
    assert (await first).status == second.status == 200
    assert [message["content"] for message in here.told] == ["one", "re: one", "two"]


class Waiting(Connection):
    stalled_s = 10 * PATIENCE_S


class Unhurried(Paced):
    """A client that reads nothing is waited for as long as the test lasts."""

    connection = Waiting
    pace = Pace(behind=32 << 10, stalled_s=10 * PATIENCE_S)


async def test_who_waits_for_a_turn_waits_for_no_client(tmp_path: Path) -> None:
    """The turn before is over as soon as that is recorded, though its own client reads none of it."""
    async with place(tmp_path / "logs", kind=Unhurried) as here:
        here.upstream.script(CHAT, Script(openai_stream(6_000), content_type="text/event-stream"))
        session = await here.open()
        slow = await RawClient.connect(here.gateway.url, limit=1024)
        await slow.send(request({"messages": [user("one")], "stream": True}, f"{session.path}/chat"))
        await until_asked(here)
        here.upstream.script(CHAT, answering)
        async with asyncio.timeout(PATIENCE_S):
            assert (await session.say("two", wait=600)).status == 200
        slow.leave()


async def test_one_who_waited_long_enough_is_refused(here: Place) -> None:
    here.upstream.script(CHAT, Script(b"", hold=True))
    session = await here.open()
    first = asyncio.create_task(session.say("one"))
    await until_asked(here)
    assert (await session.say("two", wait=1)).status == 409
    assert (await session.post("clear")).status == 409
    first.cancel()
    here.upstream.script(CHAT, answering)
    assert (await session.say("three", wait=20)).status == 200
    assert await session.messages() == [user("three"), {"role": "assistant", "content": "re: three"}]


async def test_one_who_leaves_the_line_takes_no_turn(here: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It is refused like one whose body broke off, and no alarm in the server's own log."""
    here.upstream.script(CHAT, Script(b"", hold=True))
    session = await here.open()
    first = asyncio.create_task(session.say("one"))
    await until_asked(here)
    impatient = asyncio.create_task(session.say("never said", wait=20))
    patient = asyncio.create_task(session.say("two", wait=20))
    await asyncio.sleep(0.1)  # both are in line by now, the impatient one first
    impatient.cancel()
    here.upstream.script(CHAT, answering)
    first.cancel()
    assert (await patient).status == 200
    assert not any("never said" in request.body.decode() for request in here.upstream.requests)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [message["content"] for message in await session.messages()] == ["two", "re: two"]


async def test_a_session_that_is_deleted_in_a_turn_stays_deleted(here: Place) -> None:
    release = asyncio.Event()
    here.upstream.script(CHAT, held(release))
    session = await here.open()
    turn = asyncio.create_task(session.say("one"))
    await until_asked(here)
    assert (await here.delete(session.path)).status == 200
    release.set()
    assert (await turn).status == 200
    assert (await here.get(session.path)).status == 404
    assert [event.type for event in await here.stream(session.id)] == [
        "session_created", "session_turn_started", "session_deleted", "session_turn_completed",
    ]  # fmt: skip


async def test_a_hundred_clients_of_one_session_form_a_single_chain(here: Place) -> None:
    """Half of them wait in line, half come again and again."""
    session = await here.open(context_tokens=400, max_tokens=10)

    async def insist(text: str) -> Answer:
        while (answer := await session.say(text)).status == 409:
            await asyncio.sleep(0.05)
        return answer

    answers = await asyncio.gather(
        *(session.say(f"ask-0-{n}", wait=60) for n in range(0, CLIENTS, 2)),
        *(insist(f"ask-0-{n}") for n in range(1, CLIENTS, 2)),
    )
    assert Counter(answer.status for answer in answers) == {200: CLIENTS}
    assert sorted(answer.context["turn"] for answer in answers) == list(range(1, CLIENTS + 1))
    assert misfits(await here.stream(session.id)) == []
    info = await session.info()
    assert (info["turn"], info["turns"], info["version"]) == (CLIENTS, CLIENTS, 1 + 2 * CLIENTS)


class Heedless(SQLiteLog):
    """The bug: nobody looks whether a session is still what it was."""

    def append(self, *writes: StreamWrite, **more: Any) -> asyncio.Future[Appended]:
        return super().append(
            *(replace(w, expected=ANY_VERSION) if w.stream.startswith("session-") else w for w in writes), **more
        )


class Unversioned(Server):
    """A server with that bug."""

    store = Heedless


async def test_the_check_notices_turns_that_overtake_one_another(tmp_path: Path) -> None:
    async with place(tmp_path / "logs", kind=Unversioned) as here:
        here.upstream.script(CHAT, slowly)
        session = await here.open()
        answers = await asyncio.gather(*(session.say(f"ask-0-{n}") for n in range(4)))
        assert Counter(answer.status for answer in answers)[200] > 1
        assert misfits(await here.stream(session.id)) != []
