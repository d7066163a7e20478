"""What is not as it was written is not shown as if it were, and hides nothing that came after it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import orjson
import pytest

from eventstore import chain, rows
from tests.replay.conftest import Run
from tests.replay.recorded_log import Recorder

HINT = b"`abstractcore-replay verify` says what is damaged"


@pytest.fixture
async def recorder(tmp_path: Path) -> Recorder:
    async with Recorder(tmp_path / "logs") as made:
        for word in ("one", "two", "three"):
            await made.exchange(word)
    return made


def change(recorder: Recorder, number: int, sql: str) -> None:
    """Change rows of one request, past the triggers, as a disk or an intruder would."""
    with sqlite3.connect(recorder.data_dir / "events.db", isolation_level=None) as file:
        for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f"DROP TRIGGER {name}")
        name = f"request-{recorder.ids[number]}"
        stream = "(SELECT id FROM streams WHERE name = ?)"
        assert file.execute(sql.replace("STREAM", stream), (name,)).rowcount
    file.close()


def cheapen(recorder: Recorder, number: int) -> None:
    """Another amount in both events that say one."""
    change(
        recorder, number,
        "UPDATE ledger SET data = CAST(replace(CAST(data AS TEXT), '\"cost_usd\":0', '\"cost_usd\":7') AS BLOB)"
        " WHERE stream = STREAM AND instr(data, 'cost_usd')",
    )  # fmt: skip


COMMANDS = ("show {}", "show {} --json", "show {} --as-sent", "export {}")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_changed_event_is_not_shown(replay: Run, recorder: Recorder, command: str) -> None:
    cheapen(recorder, 1)
    done = replay(*command.format(recorder.ids[1]).split())
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"the digest does not match" in done.stderr
    assert HINT in done.stderr
    assert replay(*command.format(recorder.ids[2]).split()).returncode == 0


@pytest.mark.parametrize("command", COMMANDS[:3])
def test_changed_frames_are_not_shown(replay: Run, recorder: Recorder, command: str) -> None:
    change(
        recorder, 1,
        "UPDATE frames SET offset_us = offset_us, bytes = CAST(replace(CAST(bytes AS TEXT), 'two', 'too') AS BLOB)"
        " WHERE generation IN (SELECT position FROM ledger WHERE stream = STREAM)",
    )  # fmt: skip
    done = replay(*command.format(recorder.ids[1]).split())
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"frames of this generation" in done.stderr


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_came_after_a_changed_event_is_shown(replay: Run, recorder: Recorder, number: int) -> None:
    cheapen(recorder, number)
    listed, tailed, exported = replay("list", "--json"), replay("tail", "--json"), replay("export")
    for done in (listed, tailed, exported):
        assert done.returncode == 1
        assert HINT in done.stderr
        assert b'"cost_usd":7' not in done.stdout
    assert [each["request_id"] for each in orjson.loads(listed.stdout)["data"]] == recorder.ids[:number:-1]
    assert {orjson.loads(line)["request_id"] for line in tailed.stdout.splitlines()} == {*recorder.ids[number + 1 :]}
    before = {orjson.loads(line).get("request_id") for line in exported.stdout.splitlines()}
    assert before == {None, *recorder.ids[: number + 1]}


def test_those_who_want_no_more_than_came_after_see_no_damage(replay: Run, recorder: Recorder) -> None:
    cheapen(recorder, 0)
    for command in ("list --limit 2", "tail -n 10", "tail -n 0", "list --limit 0"):
        assert replay(*command.split()).returncode == 0


def test_a_damaged_archive_hides_nothing_that_is_live(replay: Run, recorder: Recorder) -> None:
    with sqlite3.connect(recorder.data_dir / "events.db") as file:
        (head,) = file.execute(rows.HEAD).fetchone()
    file.close()
    assert replay("archive", "--before", str(head // 2)).returncode == 0
    (segment,) = (recorder.data_dir / "archive").glob("*.segment")
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    segment.write_bytes(damaged)
    for command in ("list", "tail -n 1000"):
        done = replay(*command.split())
        assert done.returncode == 1
        assert HINT in done.stderr
        assert recorder.ids[2].encode() in done.stdout
    assert replay("list", "--limit", "1").returncode == 0


def test_without_the_comparison_this_would_be_seen(
    replay: Run, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what these tests demand fails where nobody compares."""
    monkeypatch.setattr(chain, "unsound", lambda *_: None)
    monkeypatch.setattr(rows, "unsound", lambda *_: None)
    cheapen(recorder, 1)
    for command in (["export"], ["tail", "--json"], ["show", recorder.ids[1], "--json"]):
        assert b'"cost_usd":7' in replay(*command).stdout
