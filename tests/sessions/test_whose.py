"""Whose a session is: the server's. Its key opens all of them, without it nobody sees any, and a new key loses none."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import gateway
from tests.sessions.talk import CHAT, MODEL, Talk, answering, user

NAME = "ABSTRACTCORE_API_KEY"
OLD, NEW = "the-key-of-yesterday", "the-key-of-today"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_a_new_key_goes_on_with_what_was_said_under_the_old_one(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(CHAT, answering)
        upstream.script("GET /v1/models", Script.json({"data": [{"id": "m"}]}))
        async with (
            gateway(tmp_path / "logs", upstream.base_url, env={NAME: OLD}) as running,
            aiohttp.ClientSession(headers=bearer(OLD)) as client,
        ):
            here = Talk(running.url, client)
            session = await here.open(model=MODEL)
            await session.say("one")
            opener = (await session.info())["key"]
        async with (
            gateway(tmp_path / "logs", upstream.base_url, env={NAME: NEW}) as running,
            aiohttp.ClientSession(headers=bearer(NEW)) as client,
        ):
            here = Talk(running.url, client)
            assert (await here.post(f"{session.path}/chat", {"messages": [user("two")]})).context["turns"] == 1
            found = (await here.get(session.path)).body
            assert (found["key"], found["turns"]) == (opener, 2)
            assert opener.startswith("key-")
            assert OLD not in opener


@pytest.mark.parametrize("key", [None, OLD])
async def test_without_the_key_there_is_no_session_to_be_seen(tmp_path: Path, key: str | None) -> None:
    async with (
        gateway(tmp_path / "logs", "http://127.0.0.1:9", env={NAME: NEW}) as running,
        aiohttp.ClientSession() as client,
    ):
        here = Talk(running.url, client)
        opened = await here.post("/v1/sessions", {"title": "secret"}, **bearer(NEW))
        path = f"/v1/sessions/{opened.body['id']}"
        headers = {} if key is None else bearer(key)
        for method, what in [
            ("GET", ""), ("GET", "/messages"), ("GET", "/turns"), ("POST", "/chat"), ("POST", "/fork"),
            ("POST", "/clear"), ("POST", "/compact"), ("DELETE", ""),
        ]:  # fmt: skip
            async with client.request(method, f"{here.url}{path}{what}", json={}, headers=headers) as answer:
                assert answer.status == 401, (method, what)
                assert "secret" not in await answer.text()
        assert (await here.get("/v1/sessions")).status == 401
