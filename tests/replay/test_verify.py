"""verify: an honest log passes; every kind of damage, planted one at a time past all guards, is found where it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventstore.catalogue.request import RequestCancelled
from eventstore.catalogue.values import Usd
from tests.replay.conftest import Run
from tests.replay.recorded_log import Recorder

Damage = Callable[[sqlite3.Connection], None]


@pytest.fixture
async def recorder(tmp_path: Path) -> Recorder:
    async with Recorder(tmp_path / "logs") as made:
        await made.exchange("Hello", " you")
        await made.exchange("secret", retention="none")
        await made.exchange("Goodbye")
        await made.asked()
    return made


def report(replay: Run) -> dict[str, Any]:
    done = replay("verify", "--json")
    found: dict[str, Any] = orjson.loads(done.stdout)
    assert done.returncode == (1 if found["findings"] else 0)
    return found


def damage(data_dir: Path, how: Damage) -> None:
    """Change rows behind the back of the triggers, as a disk or an intruder would."""
    with sqlite3.connect(data_dir / "events.db", isolation_level=None) as rows:
        for (name,) in rows.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            rows.execute(f"DROP TRIGGER {name}")
        how(rows)


def test_an_honest_log_passes_and_open_requests_are_only_reported(replay: Run, recorder: Recorder) -> None:
    found = report(replay)
    assert found["findings"] == 0
    assert (found["requests"], found["rendered"], found["unretained"]) == (4, 2, 1)
    assert found["open"] == [f"request-{recorder.ids[3]}"]
    text = replay("verify").stdout.decode()
    assert "all well" in text
    assert "rows/s" in text


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a byte of an event": (
        lambda rows: rows.execute(
            "UPDATE ledger SET data = CAST(replace(CAST(data AS TEXT), 'stop', 'slop') AS BLOB)"
            " WHERE position = (SELECT min(position) FROM ledger WHERE instr(data, 'stop'))"
        ),
        "digest",
    ),
    "a byte of a frame": (
        lambda rows: rows.execute(
            "UPDATE frames SET bytes = CAST(replace(CAST(bytes AS TEXT), 'you', 'yon') AS BLOB)"
        ),
        "not those that its end binds",
    ),
    "a frame row": (
        lambda rows: rows.execute("DELETE FROM frames WHERE position = (SELECT max(position) FROM frames)"),
        "missing",
    ),
    "an event": (
        lambda rows: rows.execute(
            "DELETE FROM ledger WHERE position = (SELECT max(position) - 3 FROM ledger)"
        ),
        "missing",
    ),
    "the time column": (
        lambda rows: rows.execute("UPDATE ledger SET at = at + 1 WHERE position = 3"),
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(replay: Run, recorder: Recorder, name: str) -> None:
    how, words = DAMAGES[name]
    damage(recorder.data_dir, how)
    found = report(replay)
    assert found["findings"] > 0
    assert any(words in finding["what"] for finding in found["listed"])


def test_a_damaged_frame_is_also_an_answer_that_cannot_be_rendered(replay: Run, recorder: Recorder) -> None:
    damage(recorder.data_dir, DAMAGES["a byte of a frame"][0])
    assert any("cannot be rendered again" in finding["what"] for finding in report(replay)["listed"])


async def test_an_answer_that_is_not_what_its_digest_says_is_found(replay: Run, tmp_path: Path) -> None:
    """The whole chain is sound here: only rendering again can tell."""
    async with Recorder(tmp_path / "logs") as recorder:
        await recorder.exchange("Hello", payload_digest="ab" * 32, payload_length=1)
    found = report(replay)
    assert [finding["what"].split(" renders")[0] for finding in found["listed"]] == [f"request-{recorder.ids[0]}"]


async def test_a_second_end_is_found(replay: Run, tmp_path: Path) -> None:
    async with Recorder(tmp_path / "logs") as recorder:
        request = await recorder.exchange("Hello")
        again = RequestCancelled(
            request_id=request, provider="demo", model="echo", reason="client_left", attempts=1, duration_ms=1.0,
            payload_digest="00", payload_length=0, cost_usd=Usd(0),
        )  # fmt: skip
        await recorder.add(request, again)
    found = report(replay)
    assert [finding["what"] for finding in found["listed"]] == [
        f"request_cancelled follows request_completed on request-{request}"
    ]


def test_a_file_that_is_no_database_any_more_is_named(replay: Run, recorder: Recorder) -> None:
    path = recorder.data_dir / "events.db"
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    done = replay("verify")
    assert done.returncode == 1
    assert b"events.db" in done.stderr
    assert b"Traceback" not in done.stderr


def test_many_findings_are_counted_and_the_first_listed(replay: Run, recorder: Recorder) -> None:
    damage(recorder.data_dir, lambda rows: rows.execute("UPDATE ledger SET at = at + position"))
    found = report(replay)
    assert found["findings"] >= len(found["listed"]) > 3
