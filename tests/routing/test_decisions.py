"""`abstractcore-replay verify --decisions`: what followed a failure is decided again from what was recorded."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from eventstore.chain import chained
from eventstore.reader import Reader
from replay.verify import verified
from tests.clients.front import front, saying
from tests.gateway.scripted import Script

BODY: dict[str, Any] = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
SECOND = "anthropic/claude-sonnet-4-5"
FAILING = Script.json({"error": {"message": "no"}}, status=500, headers={"retry-after": "0"})


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a log with a retry, fallbacks with and without skipped models, and failures that stood."""
    home = tmp_path_factory.mktemp("decisions")
    asyncio.run(decided(home))
    return home / "logs"


async def decided(home: Path) -> None:
    async with front(home) as server, aiohttp.ClientSession() as session:
        server.answer("openai", FAILING)
        server.answer("anthropic", saying("anthropic", "hello"))
        for fields in (
            {"retries": 1},
            {"retries": 1, "fallback": [SECOND]},
            {"fallback": ["nobody/x", SECOND]},
            {"fallback": ["nobody/x"]},
        ):
            async with session.post(f"{server.url}/chat/completions", json=BODY | fields) as answer:
                await answer.read()


Change = Callable[[dict[str, Any]], None]


def altered(log: Path, folder: Path, kind: str, change: Change) -> Path:
    """A copy of the log in which the first event of this type was changed, and everything behind it chained anew."""
    shutil.copytree(log, folder / "logs", ignore=shutil.ignore_patterns("nats", "*.sock", "projections.db*"))
    with sqlite3.connect(folder / "logs" / "events.db") as rows:
        rows.execute("DROP TRIGGER ledger_no_update")
        digest, changed = b"", False
        for position, data in rows.execute("SELECT position, data FROM ledger ORDER BY position").fetchall():
            event = orjson.loads(data)
            if event["type"] == kind and not changed:
                change(event["inputs"])
                data, changed = orjson.dumps(event), True
            digest = chained(digest, data)
            rows.execute("UPDATE ledger SET data = ?, digest = ? WHERE position = ?", (data, digest, position))
    assert changed
    return folder / "logs"


def found(log: Path, decisions: bool) -> int:
    with Reader(log / "events.db") as reader:
        return int(verified(reader, decisions)["findings"])


def test_a_log_as_it_was_written_is_decided_the_same(log: Path) -> None:
    assert found(log, decisions=True) == 0


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("retry_attempted", {"draw": 0.99999}),
        ("retry_attempted", {"retries": 0}),
        ("retry_attempted", {"status": 400}),
        ("fallback_selected", {"fallback": ["ollama/other"]}),
        ("fallback_selected", {"status": 400}),
        ("fallback_selected", {"retried": 0}),
        ("retry_exhausted", {"retries": 5}),
    ],
)
def test_one_that_was_altered_and_chained_anew_is_found(
    log: Path, tmp_path: Path, kind: str, change: dict[str, Any]
) -> None:
    forged = altered(log, tmp_path, kind, lambda inputs: inputs.update(change))
    assert found(forged, decisions=False) == 0  # its digests are right
    assert found(forged, decisions=True) > 0
