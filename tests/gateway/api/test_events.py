"""The live feed: read as a browser would, resumed, filtered, and by one that does not read at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eventstore.catalogue.generation import GenerationStarted
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.frames import FrameRun
from gateway.api.events import Pace
from gateway.config import Settings
from projections.feed import Cursor
from tests.gateway.serving import Served, new_id, serving
from tests.projections.stories import DIGEST, answered, completed, generated, received, routed

QUICK = Pace(ping_s=0.02, look_s=0.01)
Frame = dict[str, str]


class Listener:
    """Reads server-sent events off a response, comments apart."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.comments: list[str] = []

    async def frame(self) -> Frame:
        """The next event: `id`, `event`, `data`."""
        found: Frame = {}
        async for line in self._answer.content:
            text = line.decode().rstrip("\n")
            if text.startswith(":"):
                self.comments.append(text)
            elif text:
                name, _, value = text.partition(": ")
                assert name not in found
                found[name] = value
            elif found:
                return found
        raise EOFError

    async def frames(self, count: int) -> list[Frame]:
        return [await self.frame() for _ in range(count)]

    async def comment(self) -> str:
        """The next comment, on a feed where nothing happens."""
        return (await self._answer.content.readuntil(b"\n\n")).decode().strip()


@asynccontextmanager
async def listening(served: Served, query: str = "", **options: Any) -> AsyncIterator[Listener]:
    async with served.client.get(served.url + "/v1/events/stream" + query, **options) as answer:
        assert answer.status == 200, await answer.text()
        listener = Listener(answer)
        assert await listener.comment() == ": ping"  # it listens now
        yield listener


async def add_tokens(served: Served, request_id: str, words: list[str]) -> int:
    """A running generation that gave these words, two frames a row where there are two."""
    await served.add(received(request_id), routed(request_id))
    begun = GenerationStarted(
        request_id=request_id, attempt=1, provider="ollama", model="m", decoder="openai_chat_stream.1", streamed=True,
        url="http://x", call_digest=DIGEST, call_length=1,
    )  # fmt: skip
    appended = await served.add(begun)
    run = FrameRun(appended.last)
    for at in range(0, len(words), 2):
        frames = [
            b'data: {"choices":[{"index":0,"delta":{"content":%b}}]}' % json.dumps(w).encode()
            for w in words[at : at + 2]
        ]
        rows, _ = run.pack(frames, at * 1000)
        appended = await served.log.append(frames=rows)
    return appended.last


async def test_by_default_it_begins_now_with_names_and_flat_events(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.add(*answered(new_id()))
        async with listening(served) as listener:
            request_id = new_id()
            await served.add(*answered(request_id))
            frames = await listener.frames(5)
        assert [frame["event"] for frame in frames] == [
            "request_received", "route_selected", "generation_started", "generation_completed", "request_completed",
        ]  # fmt: skip
        body = json.loads(frames[3]["data"])
        assert (body["type"], body["request_id"]) == ("generation_completed", request_id)
        assert (body["model"], body["tokens_output"], body["cost_usd"]) == ("qwen3-coder:30b", 7, 0.00116)


async def test_content_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.add(*answered(new_id()))
        async with listening(served, "?after=0") as listener:
            assert "hello from" not in str(await listener.frames(5))
        async with listening(served, "?after=0&content=1") as listener:
            assert "hello from" in str(await listener.frames(5))


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_listener_that_comes_back_misses_nothing_and_hears_nothing_twice(
    tmp_path: Path, by_header: bool
) -> None:
    async with serving(tmp_path) as served:
        for _ in range(4):
            await served.add(*answered(new_id()))
        async with listening(served, "?after=0") as listener:
            whole = await listener.frames(20)
        heard: list[Frame] = []
        while len(heard) < len(whole):
            last = heard[-1]["id"] if heard else "0"
            query = "?after=0" if by_header or not heard else f"?after={last}"
            headers = {"Last-Event-ID": last} if by_header and heard else {}
            async with listening(served, query, headers=headers) as listener:
                heard += await listener.frames(min(3, len(whole) - len(heard)))
        assert heard == whole


CHOICES = [
    ("request_id={mine}", 5),
    ("session_id=s-1", 5),
    ("types=generation_completed&request_id={mine}", 1),
    ("types=request_received,request_completed&session_id=s-1", 2),
]


@pytest.mark.parametrize(("query", "count"), CHOICES)
async def test_types_requests_and_sessions_choose(tmp_path: Path, query: str, count: int) -> None:
    async with serving(tmp_path) as served:
        mine, other = new_id(), new_id()
        await served.add(*answered(other), *answered(mine, session_id="s-1"), *answered(new_id()))
        async with listening(served, "?after=0&" + query.format(mine=mine)) as listener:
            frames = await listener.frames(count)
            assert {json.loads(frame["data"])["request_id"] for frame in frames} == {mine}
            await served.add(completed(mine))
            if "generation" not in query:
                assert (await listener.frame())["event"] == "request_completed"  # and none of the others' before it


async def test_a_session_is_followed_from_the_middle_of_its_request(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        mine, other = new_id(), new_id()
        await served.add(received(mine, session_id="s-1"), received(other))
        async with listening(served, "?session_id=s-1") as listener:
            await served.add(generated(other), generated(mine), completed(other), completed(mine))
            frames = await listener.frames(2)
        assert [json.loads(frame["data"])["request_id"] for frame in frames] == [mine, mine]


async def test_tokens_come_to_those_who_name_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        words = ["one", " two", " three\n", " \r\ndata: four", " five"]
        await add_tokens(served, new_id(), words)
        async with listening(served, "?after=0&types=token_generated&content=1") as listener:
            frames = await listener.frames(5)
        assert [json.loads(frame["data"])["text"] for frame in frames] == words
        assert [json.loads(frame["data"])["frame"] for frame in frames] == [1, 2, 3, 4, 5]
        async with listening(served, "?after=0&types=token_generated") as listener:
            assert "one" not in (await listener.frame())["data"]


async def test_tokens_are_resumed_in_the_middle_of_a_row(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await add_tokens(served, new_id(), ["one", " two", " three", " four"])
        query = "?types=token_generated&content=1"
        async with listening(served, query + "&after=0") as listener:
            whole = await listener.frames(4)
        for seen in range(1, 4):
            async with listening(served, f"{query}&after={whole[seen - 1]['id']}") as listener:
                assert await listener.frames(4 - seen) == whole[seen:]


async def test_tokens_of_a_running_answer_are_understood_from_its_middle(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        request_id = new_id()
        position = await add_tokens(served, request_id, ["one", " two", " three", " four"])
        cursor = Cursor(position - 1).encode()
        async with listening(served, f"?types=token_generated&content=1&after={cursor}") as listener:
            assert [json.loads(f["data"])["text"] for f in await listener.frames(2)] == [" three", " four"]


BAD = [
    ("types=token_generated,no_such", "types"),
    ("after=nonsense", "after"),
    ("after=MTIz", "after"),
    (f"after={Cursor(10**9).encode()}", "after"),
]


@pytest.mark.parametrize(("query", "param"), BAD)
async def test_what_cannot_be_followed_is_refused(tmp_path: Path, query: str, param: str) -> None:
    async with serving(tmp_path) as served:
        status, body, _ = await served.get("/v1/events/stream?" + query)
        assert (status, body["error"]["param"]) == (400, param)


async def test_a_cursor_of_another_log_is_not_taken_for_ours(tmp_path: Path) -> None:
    async with serving(tmp_path / "one") as served:
        await served.add(*answered(new_id()))
        async with listening(served, "?after=0") as listener:
            cursor = (await listener.frame())["id"]
    async with serving(tmp_path / "two") as served:
        await served.add(*answered(new_id()))
        status, body, _ = await served.get(f"/v1/events/stream?after={cursor}")
        assert (status, body["error"]["code"]) == (400, "unknown_cursor")


async def test_a_quiet_feed_pings(tmp_path: Path) -> None:
    async with serving(tmp_path, pace=QUICK) as served, listening(served) as listener:
        assert [await listener.comment() for _ in range(3)] == [": ping"] * 3


async def test_a_listener_that_leaves_ends_its_feed(tmp_path: Path) -> None:
    async with serving(tmp_path, pace=QUICK) as served:
        before = asyncio.all_tasks()
        async with aiohttp.ClientSession() as browser, browser.get(served.url + "/v1/events/stream") as answer:
            await answer.content.readany()
            assert asyncio.all_tasks() - before
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)


async def until_cut_off(before: set[asyncio.Task[Any]]) -> None:
    """Wait until the server has ended what it began since."""
    async with asyncio.timeout(30):
        while not asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)


async def a_while(_: set[asyncio.Task[Any]]) -> None:
    await asyncio.sleep(0.5)


async def unread_bytes(served: Served, idle: Callable[[set[asyncio.Task[Any]]], Awaitable[None]]) -> int:
    """How much a listener gets that asked for the whole log, read nothing for a while, and then all that there was."""
    large = [completed(new_id(), model="m" * 100_000).new() for _ in range(150)]
    await served.log.append(StreamWrite("request-x", ANY_VERSION, tuple(large)))
    before = asyncio.all_tasks()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]), limit=1024)
    writer.write(b"GET /v1/events/stream?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await idle(before)
    got = 0
    try:
        while got < 15_000_000 and (data := await reader.read(1 << 20)):
            got += len(data)
    except ConnectionResetError:
        pass
    writer.close()
    return got


async def test_one_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path, pace=Pace(stalled_s=0.1, look_s=0.01)) as served:
        assert await unread_bytes(served, until_cut_off) < 15_000_000


async def test_without_the_deadline_it_would_be_waited_for(tmp_path: Path) -> None:
    """The deliberate bug: patience without end."""
    async with serving(tmp_path, pace=Pace(stalled_s=1000, look_s=0.01)) as served:
        assert await unread_bytes(served, a_while) >= 15_000_000


async def test_open_feeds_do_not_hold_up_the_end_of_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path, pace=Pace(look_s=0.01)) as served, listening(served) as listener:
        for callback in served.app.on_shutdown:
            await callback(served.app)
        with pytest.raises(EOFError):
            await listener.frame()


async def test_a_browser_comes_in_with_a_ticket(tmp_path: Path) -> None:
    async with serving(tmp_path, settings=Settings(data_dir=tmp_path, api_key="a-long-enough-key")) as served:
        assert (await served.get("/v1/events/stream"))[0] == 401
        _, body, _ = await served.post("/v1/tickets", headers={"x-api-key": "a-long-enough-key"})
        async with listening(served, f"?access_token={body['ticket']}"):
            pass
