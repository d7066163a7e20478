"""Files of one request: a few at a time; one that fails ends the others, and so does a client that leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.errors import TooLarge
from gateway.exchange.inputs import Submission
from gateway.exchange.run import Exchanges
from gateway.exchange.running import Running
from gateway.media import prepare
from gateway.media.parts import LARGEST_SUM, MOST_FILES
from gateway.server import Server
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import Gateway, gateway
from tests.spoilt import failure

PATIENCE_S = 60.0


def asking(web: ScriptedServer, *names: str) -> dict[str, Any]:
    files = [{"type": "file", "file_url": {"url": f"{web.base_url}/{name}.txt"}} for name in names]
    return {"model": "openai-compatible/m", "messages": [{"role": "user", "content": files}]}


def allowed(web: ScriptedServer) -> dict[str, str]:
    return {"ABSTRACTCORE_FILE_URL_ALLOWLIST": web.base_url.removeprefix("http://")}


async def until(web: ScriptedServer, count: int) -> None:
    """Wait until so many files were asked for."""
    async with asyncio.timeout(PATIENCE_S):
        while len(web.requests) < count:
            await asyncio.sleep(0.01)


async def test_a_few_are_fetched_at_once_and_a_failure_ends_the_rest(tmp_path: Path) -> None:
    async with ScriptedServer() as web, gateway(tmp_path, web.base_url, env=allowed(web)) as running:
        names = [str(number) for number in range(prepare.AT_ONCE + 2)]
        for name in names:
            web.script(f"GET /{name}.txt", Script(b"half", hold=True))
        web.script("GET /bad.txt", Script(b"no", status=500))
        first = names[: prepare.AT_ONCE - 1]
        answer = await running.ask(asking(web, *first, "bad", *names[prepare.AT_ONCE - 1 :]))
        assert (answer.status, answer.json()["error"]["code"]) == (400, "url_not_fetched")
        held = [request for request in web.requests if request.path != "/bad.txt"]
        assert len(held) <= prepare.AT_ONCE
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(request.left.wait() for request in held))


async def left(running: Gateway, web: ScriptedServer) -> str:
    """A client asks, and leaves while its file is fetched; the id of its request."""
    async with aiohttp.ClientSession() as session:
        asked = asyncio.create_task(session.post(f"{running.url}/v1/chat/completions", json=asking(web, "slow")))
        await until(web, 1)
        [exchange] = running.server.exchanges.open
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
    return exchange.submission.request_id


class Heedless(Exchanges):
    """Bug: whoever leaves meanwhile is not noticed."""

    async def _prepared(self, running: Running, submission: Submission) -> Submission:
        self._files.patience_s = 5
        return await self._files.prepared(submission)


class HeedlessServer(Server):
    runs = Heedless


async def test_the_check_notices_a_server_that_goes_on_fetching(tmp_path: Path) -> None:
    async with (
        ScriptedServer() as web,
        gateway(tmp_path, web.base_url, kind=HeedlessServer, env=allowed(web)) as running,
    ):
        web.script("GET /slow.txt", Script(b"half", hold=True))
        await left(running, web)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(web.requests[0].left.wait(), 0.3)


async def test_a_client_that_leaves_stops_the_fetching_of_its_files(tmp_path: Path) -> None:
    async with ScriptedServer() as web, gateway(tmp_path, web.base_url, env=allowed(web)) as running:
        web.script("GET /slow.txt", Script(b"half", hold=True))
        request_id = await left(running, web)
        async with asyncio.timeout(PATIENCE_S):
            await web.requests[0].left.wait()
        end = await running.end_of(request_id)
        assert (end["type"], end["reason"]) == ("request_cancelled", "client_left")
        assert [request.path for request in web.requests] == ["/slow.txt"]


def named(*paths: str) -> dict[str, Any]:
    files = [{"type": "file", "file_url": {"url": path}} for path in paths]
    return {"model": "openai-compatible/m", "messages": [{"role": "user", "content": files}]}


async def test_no_more_than_so_many_and_so_many_bytes_are_read(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "large.txt").write_bytes(b"a" * (9 << 20))
    async with ScriptedServer() as web, gateway(
        tmp_path / "logs", web.base_url, "--files-root", str(tmp_path / "files")
    ) as running:  # fmt: skip
        for count, status in ((MOST_FILES, 400), (MOST_FILES + 1, 413)):
            assert (await running.ask(named(*["none.txt"] * count))).status == status
        answer = await running.ask(named(*["large.txt"] * 4))
        assert (answer.status, "together" in answer.json()["error"]["message"]) == (413, True)
        assert web.requests == []


async def test_no_more_text_is_made_of_them_than_so_many_bytes(tmp_path: Path) -> None:
    """A small file can hold a large text: here each byte is three of UTF-8."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "euros.txt").write_bytes(b"\x80" * (9 << 20))
    async with ScriptedServer() as web, gateway(
        tmp_path / "logs", web.base_url, "--files-root", str(tmp_path / "files")
    ) as running:  # fmt: skip
        answer = await running.ask(named(*["euros.txt"] * 2))
        assert (answer.status, "together" in answer.json()["error"]["message"]) == (413, True)
        assert web.requests == []


def test_twin_that_counts_no_text() -> None:
    test = "gateway/media/test_many_files.py::test_no_more_text_is_made_of_them_than_so_many_bytes"
    assert "== (413, True)" in failure("tests.endpoints.careless", "boundless", test)


def test_all_the_room_can_be_taken_and_no_more() -> None:
    room = prepare._Room()
    room.take(LARGEST_SUM - 1)
    room.take(1)
    with pytest.raises(TooLarge):
        room.take(1)
