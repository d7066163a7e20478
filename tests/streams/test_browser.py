"""A real browser's EventSource and WebSocket against the running server: with no key, with a ticket, from elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.crash.load import openai_stream
from tests.gateway.scripted import ScriptedServer
from tests.gateway.whole import COMPATIBLE, chat, gateway
from tests.spoilt import failure
from tests.streams.browser import CHROMIUM, Page, browser
from tests.streams.sockets import sse

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.system,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
]

KEY = "sk-of-this-server-only"
WORDS = "".join(f" word{n}" for n in range(6))
GENERATE = json.dumps({"type": "generate", "id": "a", "request": chat()})

CONVERSE = """
    const socket = new WebSocket(`ws://${location.host}/v1/stream${query}`)
    const heard = []
    return await new Promise((keep, broken) => {
        socket.onerror = () => broken(new Error("the socket failed"))
        socket.onopen = () => socket.send(GENERATE)
        socket.onmessage = ({data}) => {
            heard.push(JSON.parse(data))
            if (["done", "error"].includes(heard.at(-1).type)) keep(heard)
        }
    })
""".replace("GENERATE", json.dumps(GENERATE))
LISTEN = """
    const source = new EventSource(`/v1/events/stream${query}`)
    const heard = []
    const ended = new Promise((keep, broken) => {
        source.onerror = () => broken(new Error("the feed failed"))
        source.addEventListener("request_received", (event) => heard.push(event.lastEventId && JSON.parse(event.data)))
        source.addEventListener("request_completed", (event) => { heard.push(JSON.parse(event.data)); keep(heard) })
    })
    await new Promise((keep) => { source.onopen = keep })
    await fetch("/v1/chat/completions", {method: "POST", headers: {"content-type": "application/json", ...key},
                                         body: JSON.stringify(CHAT)})
    const all = await ended
    source.close()
    return all
""".replace("CHAT", json.dumps(chat(stream=True)))
BUY = """
    const key = {authorization: "Bearer KEY"}
    const buy = async () => (await (await fetch("/v1/tickets", {method: "POST", headers: key})).json()).ticket
    const query = `?access_token=${await buy()}`
""".replace("KEY", KEY)
OVERHEAR = """
    const source = new EventSource("http://HOST/v1/events/stream")
    return await new Promise((keep, broken) => {
        source.onerror = () => broken(new Error("the feed failed"))
        source.onopen = () => keep("it is heard")
    })
"""
FREE = 'const query = "", key = {};'


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script(COMPATIBLE, sse(openai_stream(words=6), split=100))
        yield server


async def converse(page: Page, before: str) -> None:
    heard = await page.run(before + CONVERSE)
    assert [message["type"] for message in (heard[0], heard[-1])] == ["accepted", "done"]
    text = [m["chunk"]["choices"][0]["delta"].get("content") or "" for m in heard[1:-1] if m["chunk"]["choices"]]
    assert "".join(text) == WORDS


async def listen(page: Page, before: str) -> None:
    received, completed = await page.run(before + LISTEN)
    assert (received["type"], completed["type"]) == ("request_received", "request_completed")
    assert received["request_id"] == completed["request_id"]


async def shut_out(page: Page, url: str) -> None:
    """The page is of another origin than this server."""
    host = url.removeprefix("http://")
    elsewhere = CONVERSE.replace("location.host", json.dumps(host))
    await refused(page, FREE + elsewhere, "the socket failed", "with another origin")
    await refused(page, OVERHEAR.replace("HOST", host), "the feed failed", "overheard")


async def refused(page: Page, script: str, said: str, how: str = "with no ticket") -> None:
    assert said in await outcome(page, script), how


async def outcome(page: Page, script: str) -> str:
    try:
        await page.run(script)
    except RuntimeError as error:
        return str(error)
    return "it got in"


async def test_a_browser_converses_and_listens(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with (
        gateway(tmp_path / "open", upstream.base_url) as served,
        gateway(tmp_path / "keyed", upstream.base_url, env={"ABSTRACTCORE_API_KEY": KEY}) as keyed,
        browser(tmp_path / "browser") as page,
    ):
        await page.open(served.url + "/health")
        await converse(page, FREE)
        await listen(page, FREE)
        await shut_out(page, keyed.url)
        await page.open(keyed.url + "/health")
        await refused(page, FREE + CONVERSE, "the socket failed")  # no ticket
        await converse(page, BUY)
        await listen(page, BUY)
        await shut_out(page, served.url)  # no key is asked for there


@pytest.mark.parametrize(
    ("bug", "how"),
    [("any_origin", "with another origin"), ("no_ticket", "with no ticket"), ("readable", "overheard")],
)
async def test_twin_that_lets_a_page_in(bug: str, how: str) -> None:
    told = await asyncio.to_thread(
        failure, "tests.streams.careless", bug, "streams/test_browser.py::test_a_browser_converses_and_listens"
    )
    assert f"AssertionError: {how}" in told
    assert "in 'it got in'" in told
