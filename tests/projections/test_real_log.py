"""Projections over the durable log itself, read beside its writer as the follower's process does."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import orjson

from eventstore.catalogue import Event
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.parts import split
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from projections import db
from projections.engine import Engine
from projections.usage import usage_report
from tests.projections.stories import answered, node_started

LARGE = {"model": "ollama/qwen3-coder:30b", "messages": [{"role": "user", "content": "once more " * 300}]}


async def write(log: SQLiteLog, *events: Event, blobs: list[bytes]) -> None:
    stream = f"request-{getattr(events[0], 'request_id', 'none')}"
    await log.append(StreamWrite(stream, ANY_VERSION, tuple(event.new() for event in events)), blobs=blobs)


async def test_folds_what_the_server_writes_while_it_writes(tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path)
    body, blobs = split(LARGE)
    assert [sha256(blob).hexdigest() for blob in blobs] == [body["messages"][0]["$blob"]]
    await write(log, node_started(), blobs=[])
    with Reader(tmp_path) as reader:
        engine = Engine(tmp_path, reader)
        for number in range(5):
            await write(log, *answered(f"r{number}", body=body), blobs=blobs)
            assert not engine.step()
            assert set(engine.positions().values()) == {await log.head()}
        engine.close()
    await log.close()
    (payloads,) = tmp_path.glob("*-payloads.jsonl")
    assert [orjson.loads(line)["payload"] for line in payloads.read_bytes().splitlines()] == [LARGE] * 5
    shown = db.Reader(tmp_path)
    assert usage_report(shown.rows())["total"]["requests"] == 5
    shown.close()
