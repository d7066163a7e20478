"""A headless Chromium, driven over its own protocol (https://chromedevtools.github.io/devtools-protocol): it opens a
page of the server, runs a script there, and says what came of it."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_S = 40.0
"""Its first start takes seconds on a busy machine."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--proxy-server=direct://",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",  # this machine and no other
)


class Page:
    """One page. Scripts run in it one after the other."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)

    async def open(self, url: str) -> None:
        """Go there, and wait until the page is loaded."""
        await self._call("Page.enable")
        await self._call("Page.navigate", url=url)
        while (await self._socket.receive_json()).get("method") != "Page.loadEventFired":
            pass

    async def run(self, script: str) -> Any:
        """The value that the script's promise is kept with. Raises `RuntimeError` where it is broken."""
        said = await self._call(
            "Runtime.evaluate", expression=f"(async () => {{{script}}})()", awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in said:
            raise RuntimeError(said["exceptionDetails"])
        return said["result"].get("value")

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while (message := await self._socket.receive_json()).get("id") != number:
            pass
        result: dict[str, Any] = message["result"]
        return result


@asynccontextmanager
async def browser(directory: Path) -> AsyncIterator[Page]:
    """A fresh browser with one page, for as long as the block lasts; all that it keeps is in the directory."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *FLAGS, f"--user-data-dir={directory}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:
            url = await _page_of(session, directory / "DevToolsActivePort")
            async with session.ws_connect(url, max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        await process.wait()


async def _page_of(session: aiohttp.ClientSession, port_file: Path) -> str:
    """Where the first page is driven from, once the browser has one."""
    while not port_file.exists() or not (lines := port_file.read_text().split("\n"))[0]:
        await asyncio.sleep(0.05)
    while True:
        async with session.get(f"http://127.0.0.1:{lines[0]}/json/list") as answer:
            pages = [target for target in await answer.json() if target["type"] == "page"]
        if pages:
            url: str = pages[0]["webSocketDebuggerUrl"]
            return url
        await asyncio.sleep(0.05)
