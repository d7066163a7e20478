"""The command line as it is typed, and as scripts run it: wrong values, and outputs that take nothing or no Unicode."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from eventstore.catalogue.values import Usd
from tests.replay.conftest import ROOT, Run
from tests.replay.recorded_log import Recorder


@pytest.fixture
async def recorder(tmp_path: Path) -> Recorder:
    """One request, whose answer is not ASCII."""
    async with Recorder(tmp_path / "logs") as made:
        await made.exchange("Héllo 世界", cost_usd=Usd.parse("0.00000315"))
    return made


def process(recorder: Recorder, command: str, shell: str = "", **environ: str) -> subprocess.CompletedProcess[bytes]:
    """The command as a process of its own, under a shell that says where its output goes."""
    line = f'exec "$0" -m replay {command} --data-dir "$1" {shell}'
    return subprocess.run(
        ["/bin/sh", "-c", line, sys.executable, str(recorder.data_dir)],
        cwd=ROOT, env={"PATH": os.environ["PATH"], **environ}, capture_output=True, timeout=180, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        "list --limit -3",
        "list --limit x",
        "tail -n -3",
        "tail --types request_receved",
        "tail --types token_generated",
        "export --after -1",
        "export --until 1.5",
        "archive --keep-days nan",
        "repair --nats nats://127.0.0.1:none",
        "repair --nats off",
    ],
)
def test_a_value_that_means_nothing_is_exit_2(replay: Run, recorder: Recorder, wrong: str) -> None:
    done = replay(*wrong.split())
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"error: argument" in done.stderr


def test_values_past_all_that_there_is_are_no_error(replay: Run, recorder: Recorder) -> None:
    for command in ("list --limit 1" + "0" * 30, "tail -n 1" + "0" * 30, "archive --keep-days 1e300"):
        done = replay(*command.split())
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout


def test_an_id_that_is_no_text_is_of_no_request(replay: Run, recorder: Recorder) -> None:
    done = replay("show", os.fsdecode(b"\xff\xfe"))
    assert done.returncode == 1
    assert b"has no request" in done.stderr


@pytest.mark.parametrize("command", ["show {id} --full", "tail", "list", "verify"])
def test_people_whose_terminal_has_no_unicode_see_escapes(recorder: Recorder, command: str) -> None:
    done = process(recorder, command.format(id=recorder.ids[0]), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    if "--full" in command:
        assert b"H\\xe9llo" in done.stdout


@pytest.mark.parametrize("command", ["show {id} --json", "tail --json", "export", "list --json"])
def test_programs_get_utf_8_whatever_the_terminal_has(recorder: Recorder, command: str) -> None:
    command = command.format(id=recorder.ids[0])
    assert process(recorder, command, PYTHONIOENCODING="latin-1").stdout == process(recorder, command).stdout


@pytest.mark.parametrize("command", ["show {id} --as-sent", "export", "list", "verify --json"])
def test_an_output_that_was_closed_or_is_full_is_no_crash(recorder: Recorder, command: str) -> None:
    command = command.format(id=recorder.ids[0])
    closed, full = process(recorder, command, ">&-"), process(recorder, command, ">/dev/full")
    assert (closed.returncode, closed.stderr) == (0, b"")
    assert full.returncode == 1
    assert full.stderr.startswith(b"abstractcore-replay: ")
    assert b"No space left" in full.stderr
    assert len(full.stderr.splitlines()) == 1


def test_what_was_found_is_the_exit_code_though_nobody_reads_it(recorder: Recorder) -> None:
    (recorder.data_dir / "events.db-wal.damaged-01234567").touch()
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "replay", "verify", "--data-dir", str(recorder.data_dir)]
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, cwd=ROOT, env=environ, stdout=writing, stderr=subprocess.PIPE, timeout=180)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_amount_is_a_plain_decimal_number(replay: Run, recorder: Recorder) -> None:
    assert b'"cost_usd":0.00000315,' in replay("list", "--json").stdout.replace(b"}", b",")
    assert orjson.loads(replay("list", "--json").stdout)["data"][0]["cost_usd"] == float(Decimal("0.00000315"))
    for command in (["list"], ["show", recorder.ids[0]], ["tail"]):
        assert b"0.00000315" in replay(*command).stdout
