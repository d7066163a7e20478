"""What a crash left open is found and ended at the next start, wherever the low-water mark is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eventstore.catalogue.generation import GenerationStarted
from eventstore.envelope import RecordedEvent
from eventstore.frames import FrameRun
from eventstore.reader import Reader
from gateway.command_line import load
from gateway.config import Settings
from gateway.exchange.ids import stream_of
from gateway.exchange.recover import MARK, LowWater, open_streams
from gateway.exchange.render import render_again
from gateway.exchange.running import Running
from gateway.server import Server
from replay.recorded import RecordedRequest, read_request
from replay.verify import verified
from tests.crash.load import openai_body
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import chat, gateway
from tests.replay.recorded_log import Recorder, frame

WORDS = ("All ", "of ", "it.")


class Crash(Recorder):
    """A log whose process ended in the middle of things."""

    async def cut(self, *frames: bytes) -> str:
        """A request whose generation has these frames and no end."""
        name = await self.asked()
        await self.began(name, *frames)
        return name

    async def began(self, name: str, *frames: bytes) -> None:
        started = GenerationStarted(
            request_id=name, attempt=1, provider="demo", model="echo", decoder="openai_chat_stream.1", streamed=True,
            url="demo:", call_digest="00", call_length=1,
        )  # fmt: skip
        run = FrameRun((await self._append(stream_of(name), started)).last)
        for one in frames:
            await self._frames(run, [one])


def words(*texts: str) -> list[bytes]:
    return [frame({"content": text}) for text in texts]


def settings(data_dir: Path) -> Settings:
    return load(["--port", "0", "--nats", "off", "--data-dir", str(data_dir)], {})


async def restarted(data_dir: Path) -> None:
    """One more run of the server, in order."""
    server = Server(settings(data_dir))
    await server.start()
    await server.stop()


def read(data_dir: Path, name: str) -> RecordedRequest:
    with Reader(data_dir) as reader:
        return read_request(reader, name)


async def test_each_open_request_ends_and_no_other(tmp_path: Path) -> None:
    async with Crash(tmp_path) as log:
        whole = await log.exchange(*WORDS)
        bare, routed = await log.asked(), await log.cut()
        begun = await log.cut(*words(*WORDS))
        other = await log.exchange(*WORDS)
    await restarted(tmp_path)
    assert [read(tmp_path, name).state for name in (whole, other)] == ["completed", "completed"]
    assert [read(tmp_path, name).state for name in (bare, routed, begun)] == ["interrupted"] * 3
    with Reader(tmp_path) as reader:
        report = verified(reader)
    assert (report["findings"], report["open"]) == (0, [])


async def test_what_came_of_the_answer_is_bound_and_counted(tmp_path: Path) -> None:
    async with Crash(tmp_path) as log:
        name = await log.cut(frame({"role": "assistant", "content": ""}), *words(*WORDS))
        origin = log.log.origin
    await restarted(tmp_path)
    found = read(tmp_path, name)
    failed, end = found.events[-2].body, found.events[-1].body
    assert (failed["type"], failed["kind"], failed["frames"]) == ("generation_failed", "interrupted", 4)
    assert (failed["tokens_output"], failed["usage_source"]) == (3, "estimated")
    assert failed["choices"][0]["message"]["content"] == "All of it."
    assert (end["type"], end["reason"], end["incarnation"]) == ("request_interrupted", "restart", origin)
    rendered = render_again(found.events, found.frames)
    assert (end["payload_digest"], end["payload_length"]) == (rendered.digest, len(rendered.body))
    assert not rendered.whole


async def test_a_frame_that_no_decoder_understands_keeps_no_server_from_starting(tmp_path: Path) -> None:
    async with Crash(tmp_path) as log:
        name = await log.cut(*words("All "), b"data: {broken", b"data: [7]")
    await restarted(tmp_path)
    found = read(tmp_path, name)
    assert found.state == "interrupted"
    assert found.events[-2].body["choices"][0]["message"]["content"] == "All "


async def test_frames_behind_one_that_no_decoder_understands_count_and_mean_nothing(tmp_path: Path) -> None:
    async with Crash(tmp_path) as log:
        name = await log.cut(*words("All "), b"data: {broken", *words("of "))
    await restarted(tmp_path)
    failed = read(tmp_path, name).events[-2].body
    assert (failed["frames"], failed["choices"][0]["message"]["content"]) == (3, "All ")
    with Reader(tmp_path) as reader:
        assert verified(reader)["listed"] == []


async def test_a_second_start_has_nothing_to_end(tmp_path: Path) -> None:
    async with Crash(tmp_path) as log:
        name = await log.cut(*words(*WORDS))
    await restarted(tmp_path)
    count = len(read(tmp_path, name).events)
    await restarted(tmp_path)
    assert len(read(tmp_path, name).events) == count


@pytest.mark.parametrize("mark", [None, "0", "-5", "999999999", "²"])
async def test_a_mark_that_is_lost_old_or_wrong_loses_nothing(tmp_path: Path, mark: str | None) -> None:
    async with Crash(tmp_path) as log:
        await log.exchange(*WORDS)
        name = await log.cut(*words(*WORDS))
        await log.exchange(*WORDS)
    if mark is not None:
        (tmp_path / MARK).write_text(mark)
    await restarted(tmp_path)
    assert read(tmp_path, name).state == "interrupted"


class Unfollowed(Server):
    """A start that fails before anything is ended."""

    async def _follow(self) -> None:
        await super()._follow()
        raise OSError("no process")


class Forward(Unfollowed):
    """The deliberate bug: its mark moves all the same."""

    async def _farewell(self) -> None:
        await super()._farewell()
        LowWater(self.settings.data_dir).write(await self.log.head())


@pytest.mark.parametrize(("kind", "state"), [(Unfollowed, "interrupted"), (Forward, "open")])
async def test_a_start_that_fails_leaves_it_to_the_next(tmp_path: Path, kind: type[Server], state: str) -> None:
    async with Crash(tmp_path) as log:
        name = await log.cut(*words(*WORDS))
    with pytest.raises(OSError, match="no process"):
        await kind(settings(tmp_path)).start()
    await restarted(tmp_path)
    assert read(tmp_path, name).state == state


class Panic(BaseException):
    """What native code throws when it fails: no `Exception`."""


def panics(*_: Any) -> Any:
    raise Panic


def forgets(server: Server) -> None:
    """The deliberate bug: an exchange that is left without an end is taken for over."""
    left = server.exchanges.leave

    def leave(running: Running) -> None:
        left(running)
        server.exchanges.unended = None

    server.exchanges.leave = leave  # type: ignore[method-assign]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("bug", "state"), [(None, "interrupted"), (forgets, "open")])
async def test_an_exchange_whose_task_died_is_ended_at_the_next_start(
    tmp_path: Path, bug: Callable[[Server], None] | None, state: str
) -> None:
    async with ScriptedServer() as upstream:
        upstream.script("POST /v1/chat/completions", Script.json(openai_body("Hello.")))
        async with gateway(tmp_path, upstream.base_url) as whole:
            whole.server.exchanges._judged = panics  # type: ignore[method-assign]
            if bug is not None:
                bug(whole.server)
            with pytest.raises(aiohttp.ClientError):
                async with aiohttp.ClientSession() as client:
                    await client.post(f"{whole.url}/v1/chat/completions", json=chat())
            [name] = [
                row.body["request_id"]
                for row in await whole.server.log.read(0, 100)
                if isinstance(row, RecordedEvent) and row.type == "request_received"
            ]
    await restarted(tmp_path)
    assert read(tmp_path, name).state == state


async def test_open_streams_are_found_from_any_mark_before_them(tmp_path: Path) -> None:
    async with Crash(tmp_path) as log:
        await log.exchange(*WORDS)
        name = await log.cut(*words(*WORDS))
        await log.exchange(*WORDS)
    with Reader(tmp_path) as reader:
        first = read_request(reader, name).events[0].position
        assert all(open_streams(reader, after) == [f"request-{name}"] for after in range(first))
        assert open_streams(reader, reader.head()) == []


def test_the_mark_is_what_was_written_last(tmp_path: Path) -> None:
    mark = LowWater(tmp_path)
    assert mark.read() is None
    mark.write(7)
    mark.write(7)
    assert LowWater(tmp_path).read() == 7
    assert (tmp_path / MARK).stat().st_mode & 0o777 == 0o600
    mark.write(0)
    assert mark.read() == 0


async def test_a_running_server_moves_the_mark_behind_what_is_over(tmp_path: Path) -> None:
    await restarted(tmp_path)
    with Reader(tmp_path) as reader:
        rows = [row for row in reader.rows(frames=False) if isinstance(row, RecordedEvent)]
    assert rows[-1].type == "node_stopped"
    assert LowWater(tmp_path).read() == rows[-1].position
