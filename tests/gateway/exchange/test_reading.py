"""An exchange read from the log: its answer again, the rest of it, its tokens one by one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eventstore.envelope import RecordedFrames
from eventstore.frames import PLAIN, FrameReader
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from gateway.exchange.ids import created_s, request_id, stream_of
from gateway.exchange.render import NotRenderable, render_again
from gateway.exchange.resume import Beyond, Cut, follow_answer
from gateway.exchange.tokens import TokenComposer
from replay.recorded import RecordedRequest, read_request
from tests.crash.load import openai_stream
from tests.gateway.raw import RawClient, request
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, Gateway, chat, gateway
from tests.replay.recorded_log import Recorder

WORDS = tuple(f" word{n}" for n in range(12))


async def recorded(data_dir: Path, *words: str, **changes: str) -> RecordedRequest:
    async with Recorder(data_dir) as recorder:
        name = await recorder.exchange(*words, **changes)
    with Reader(data_dir) as reader:
        return read_request(reader, name)


async def test_an_answer_is_rendered_again_to_what_was_recorded_of_it(tmp_path: Path) -> None:
    found = await recorded(tmp_path, *WORDS)
    rendered = render_again(found.events, found.frames)
    end = found.events[-1].body
    assert (rendered.digest, len(rendered.body), rendered.whole) == (end["payload_digest"], end["payload_length"], True)
    assert rendered.status == 200
    assert rendered.headers["content-type"] == "text/event-stream"
    assert all(word.encode() in rendered.body for word in WORDS)


async def test_an_answer_without_its_end_is_the_beginning(tmp_path: Path) -> None:
    found = await recorded(tmp_path, *WORDS)
    whole = render_again(found.events, found.frames)
    ((generation, rows),) = found.frames.items()
    for count in range(len(rows) + 1):
        part = render_again(found.events[:3], {generation: rows[:count]})
        assert not part.whole
        assert whole.body.startswith(part.body)


async def test_what_was_not_retained_cannot_be_rendered(tmp_path: Path) -> None:
    found = await recorded(tmp_path, *WORDS, retention="none")
    with pytest.raises(NotRenderable, match="not be retained"):
        render_again(found.events, found.frames)


async def followed(log: SQLiteLog, name: str, skip: int) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return b"".join([data async for data in follow_answer(log, name, skip)])


async def test_any_beginning_and_its_rest_are_the_answer(tmp_path: Path) -> None:
    async with Recorder(tmp_path) as recorder:
        name = await recorder.exchange(*WORDS)
        await recorder.exchange("another", "one")
        whole = await followed(recorder.log, name, 0)
        for skip in [*range(0, len(whole), 7), len(whole)]:
            assert await followed(recorder.log, name, skip) == whole[skip:]
        with pytest.raises(Beyond):
            await followed(recorder.log, name, len(whole) + 9)
    with Reader(tmp_path) as reader:
        found = read_request(reader, name)
    assert render_again(found.events, found.frames).body == whole


async def test_an_answer_is_followed_while_it_grows(tmp_path: Path) -> None:
    """Two readers, one from the start and one from the middle, beside a client that gets it live."""
    stream = openai_stream(words=30)
    async with ScriptedServer() as upstream, gateway(tmp_path / "logs", upstream.base_url) as served:
        upstream.script(COMPATIBLE, Script(stream, content_type="text/event-stream", split=100, pace_s=0.002))
        live = asyncio.create_task(served.ask(chat(stream=True)))
        while not served.server.exchanges.open:
            await asyncio.sleep(0.001)
        name = next(iter(served.server.exchanges.open)).submission.request_id
        whole, rest = await asyncio.gather(followed(served.server.log, name, 0), followed(served.server.log, name, 500))
        assert (await live).body == whole
        assert rest == whole[500:]


async def test_who_follows_an_answer_that_is_cut_is_told(tmp_path: Path) -> None:
    stream = openai_stream(words=10)
    async with ScriptedServer() as upstream, gateway(tmp_path / "logs", upstream.base_url) as served:
        upstream.script(COMPATIBLE, Script(stream[:900], content_type="text/event-stream", hold=True))
        name = await left(served)
        got = bytearray()

        async def read_on() -> None:
            async for data in follow_answer(served.server.log, name):
                got.extend(data)

        with pytest.raises(Cut):
            await read_on()
        assert b"word1" in got
        assert b"[DONE]" not in got


async def left(served: Gateway) -> str:
    """The id of a request whose client left in the middle."""
    client = await RawClient.connect(served.url)
    await client.send(request(chat(stream=True)))
    await client.until(b"word1")
    client.leave()
    name = client.received.request_id
    await served.ended(name)
    return name


# Tokens.


async def test_each_frame_is_a_token_with_its_text_and_time(tmp_path: Path) -> None:
    found = await recorded(tmp_path, *WORDS)
    started = next(event for event in found.events if event.type == "generation_started")
    composer = TokenComposer(started)
    tokens = [token for row in found.frames[started.position] for token in composer.compose(row)]
    assert [token["frame"] for token in tokens] == list(range(1, len(WORDS) + 4))
    assert [token.get("text") for token in tokens[1 : 1 + len(WORDS)]] == list(WORDS)
    assert tokens[-2]["finish_reason"] == "stop"
    assert "text" not in tokens[-1]
    for token in tokens:
        assert token["type"] == "token_generated"
        assert (token["provider"], token["model"], token["attempt"]) == ("demo", "echo", 1)
        assert token["offset_ms"] > 0
        assert token["stream"] == started.stream


async def test_rows_that_were_packed_otherwise_give_the_same_texts(tmp_path: Path) -> None:
    """One frame a row or many: what a token says hangs on its frame alone."""
    found = await recorded(tmp_path, *WORDS)
    started = next(event for event in found.events if event.type == "generation_started")
    rows = found.frames[started.position]
    reader = FrameReader()
    alone: list[RecordedFrames] = []
    for row in rows:
        for index, frame in enumerate(reader.unpack(row)):
            number = row.frame + index
            alone.append(RecordedFrames(number, started.position, 0, number, 1, row.offset_us, PLAIN, frame))
    together, single = TokenComposer(started), TokenComposer(started)
    texts = [token.get("text") for row in rows for token in together.compose(row)]
    assert [token.get("text") for row in alone for token in single.compose(row)] == texts


def test_ids_sort_by_time_and_say_when() -> None:
    earlier, later = request_id(1_795_000_000_123, bytes(16)), request_id(1_795_000_000_124, b"\xff" * 16)
    assert earlier < later
    assert created_s(earlier) == 1_795_000_000
    assert stream_of(earlier) == f"request-{earlier}"
