"""A real browser's EventSource and WebSocket against the running server: with no key, with a ticket, from elsewhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.crash.load import openai_stream
from tests.gateway.scripted import ScriptedServer
from tests.gateway.whole import COMPATIBLE, chat, gateway
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


async def test_a_browser_converses_and_listens(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with (
        gateway(tmp_path / "open", upstream.base_url) as served,
        gateway(tmp_path / "keyed", upstream.base_url, env={"ABSTRACTCORE_API_KEY": KEY}) as keyed,
        browser(tmp_path / "browser") as page,
    ):
        await page.open(served.url + "/health")
        await converse(page, FREE)
        await listen(page, FREE)
        with pytest.raises(RuntimeError, match="the socket failed"):  # a page of another origin
            await page.run(FREE + CONVERSE.replace("location.host", json.dumps(keyed.url.removeprefix("http://"))))
        await page.open(keyed.url + "/health")
        with pytest.raises(RuntimeError, match="the socket failed"):  # no ticket
            await page.run(FREE + CONVERSE)
        await converse(page, BUY)
        await listen(page, BUY)
        elsewhere = json.dumps(served.url.removeprefix("http://"))
        with pytest.raises(RuntimeError, match="the socket failed"):  # another origin, where no key is asked for
            await page.run(FREE + CONVERSE.replace("location.host", elsewhere))
