"""show, list and tail: what is in the log, for people, for programs and as it was sent."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from eventstore.catalogue.request import RequestCancelled
from eventstore.catalogue.values import Usd
from eventstore.envelope import RecordedEvent
from replay.backwards import backwards
from tests.replay.conftest import ROOT, Run
from tests.replay.recorded_log import Recorder


@pytest.fixture
async def recorder(tmp_path: Path) -> Recorder:
    """Three requests: answered, answered without a trace of its content, and still open."""
    async with Recorder(tmp_path / "logs") as made:
        await made.exchange("Hello", " you", " \x1b[31mred")
        await made.exchange("secret", retention="none")
        await made.asked()
    return made


def test_as_sent_is_the_answer_and_nothing_else(replay: Run, recorder: Recorder) -> None:
    done = replay("show", recorder.ids[0], "--as-sent")
    end = orjson.loads(replay("show", recorder.ids[0], "--json").stdout.splitlines()[-1])
    assert done.returncode == 0
    assert done.stdout.endswith(b"data: [DONE]\n\n")
    assert sha256(done.stdout).hexdigest() == end["payload_digest"]
    assert len(done.stdout) == end["payload_length"]


async def test_as_sent_works_while_a_server_owns_the_log(replay: Run, tmp_path: Path) -> None:
    async with Recorder(tmp_path / "logs") as recorder:
        request = await recorder.exchange("Hello")
        assert replay("show", request, "--as-sent").stdout.endswith(b"[DONE]\n\n")


def test_people_see_every_event_with_its_fields_and_the_whole_prompt(replay: Run, recorder: Recorder) -> None:
    text = replay("show", recorder.ids[0], "--full").stdout.decode()
    assert "request_received" in text
    assert "generation_completed" in text
    assert "tell me " * 300 in text, "large parts are joined again"
    assert "frames: 6 in 2 rows" in text


def test_what_a_model_said_cannot_drive_the_terminal(replay: Run, recorder: Recorder) -> None:
    assert b"\x1b" not in replay("show", recorder.ids[0], "--full").stdout
    assert b"\x1b" not in replay("tail", "-n", "100").stdout


def test_programs_see_the_flat_events_of_both_lanes_in_order(replay: Run, recorder: Recorder) -> None:
    lines = [orjson.loads(line) for line in replay("show", recorder.ids[0], "--json").stdout.splitlines()]
    assert [line["type"] for line in lines] == [
        "request_received", "route_selected", "generation_started", *["token_generated"] * 6, "generation_completed",
        "request_completed",
    ]  # fmt: skip
    assert "".join(line.get("text", "") for line in lines) == "Hello you \x1b[31mred"


def test_an_unknown_request_is_named_and_is_exit_1(replay: Run, recorder: Recorder) -> None:
    done = replay("show", "01JUNKNOWN")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"no request 01JUNKNOWN" in done.stderr


def test_an_answer_that_was_not_retained_cannot_be_shown_and_says_so(replay: Run, recorder: Recorder) -> None:
    done = replay("show", recorder.ids[1], "--as-sent")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"not be retained" in done.stderr


def test_no_log_is_named_and_is_exit_1(replay: Run, tmp_path: Path) -> None:
    commands = (["show", "x"], ["list"], ["tail"], ["verify"], ["rebuild"], ["repair"], ["archive", "--before", "2"])
    for command in commands:
        done = replay(*command, data_dir=tmp_path / "nowhere")
        assert done.returncode == 1
        assert b"nowhere" in done.stderr
        assert not (tmp_path / "nowhere").exists(), "reading makes nothing"


def test_a_wrong_command_line_is_exit_2(replay: Run) -> None:
    assert replay("dance").returncode == 2
    assert replay("rebuild", "--projection", "no-such").returncode == 2


def test_list_shows_the_newest_first_with_their_state(replay: Run, recorder: Recorder) -> None:
    found = orjson.loads(replay("list", "--json").stdout)["data"]
    assert [(request["request_id"], request["state"]) for request in found] == [
        (recorder.ids[2], "open"),
        (recorder.ids[1], "completed"),
        (recorder.ids[0], "completed"),
    ]
    assert replay("list", "--limit", "1").stdout.decode().splitlines()[0].startswith(recorder.ids[2])
    assert [(request["model_requested"], request.get("model")) for request in found] == [
        ("demo/echo", None),
        ("demo/echo", "echo"),
        ("demo/echo", "echo"),
    ]


async def test_a_cancelled_request_shows_what_was_sent_so_far(replay: Run, tmp_path: Path) -> None:
    async with Recorder(tmp_path / "logs") as recorder:
        request = await recorder.asked()
        left = RequestCancelled(
            request_id=request, provider="demo", model="echo", reason="client_left", attempts=0, duration_ms=1.0,
            payload_digest=sha256(b"").hexdigest(), payload_length=0, cost_usd=Usd(0),
        )  # fmt: skip
        await recorder.add(request, left)
    done = replay("show", request, "--as-sent")
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"cancelled" in replay("list").stdout


def test_tail_shows_the_last_events_of_the_types_asked_for(replay: Run, recorder: Recorder) -> None:
    lines = replay("tail", "-n", "2", "--types", "request_received", "--json").stdout.splitlines()
    assert [orjson.loads(line)["request_id"] for line in lines] == recorder.ids[1:]


def test_the_data_directory_comes_from_the_environment_as_for_the_server(recorder: Recorder) -> None:
    command = [sys.executable, "-m", "replay", "show", recorder.ids[0], "--as-sent"]
    environ = {**os.environ, "ABSTRACTCORE_DATA_DIR": str(recorder.data_dir), "ABSTRACTCORE_API_KEY": "short"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, timeout=180, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"[DONE]\n\n")


def test_a_reader_that_closes_the_pipe_is_no_error(recorder: Recorder) -> None:
    command = [sys.executable, "-m", "replay", "show", recorder.ids[0], "--data-dir", str(recorder.data_dir)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, timeout=180, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_long_search_backwards_reads_so_much_at_once_and_no_more() -> None:
    windows: list[int] = []

    class Long:
        def head(self) -> int:
            return 10_000_000

        def events(self, after: int, *, until: int) -> list[RecordedEvent]:
            windows.append(until - after)
            return []

    assert list(backwards(cast("Any", Long()), Long().head())) == []
    assert max(windows) == 65_536
    assert 10_000_000 <= sum(windows) < 11_000_000, "before each window a little, to see where the chains are"
