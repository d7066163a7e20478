"""What must hold after a crash: of every request, of every client, of the log, of the projections."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eventstore.catalogue.request import TERMINAL
from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from projections import db
from projections.registry import REGISTRY
from replay.rebuild import rebuild_here
from replay.recorded import RecordedRequest, ReplayError, read_request
from replay.show import as_sent
from replay.verify import verified
from tests.crash.load import words_of
from tests.gateway.raw import Received

FILES = ("verbatim_*.jsonl", "*-payloads.jsonl", "abstractcore_*.log")


def wrongs(data_dir: Path, answers: Sequence[Received]) -> list[str]:
    """Every broken promise, in words: nothing, if all is well."""
    with Reader(data_dir) as reader:
        report = verified(reader)
        return [
            *(f"verify: {finding}" for finding in report["listed"]),
            *(f"open: {stream}" for stream in report["open"]),
            *unended(reader.rows(frames=False)),
            *(wrong for answer in answers if (wrong := wronged(reader, answer))),
        ]


def unended(rows: Iterable[Any]) -> list[str]:
    """Requests without exactly one terminal event."""
    ends: dict[str, int] = {}
    for row in rows:
        if isinstance(row, RecordedEvent) and row.stream.startswith("request-"):
            ends[row.stream] = ends.get(row.stream, 0) + (row.type in TERMINAL)
    return [f"{stream} has {count} terminal events" for stream, count in ends.items() if count != 1]


def wronged(reader: Reader, answer: Received) -> str | None:
    """What a client got that the log does not know of, if anything."""
    if not answer.status:
        return None  # not even the head came
    try:
        request = read_request(reader, answer.request_id)
        if _only_accepted(request):
            return None  # it was told that it is in the log, and it is
        sent = as_sent(request)
    except ReplayError as error:
        return f"{answer.request_id}: {error}"
    if not sent.startswith(answer.recorded):
        return f"{answer.request_id}: the client's {len(answer.recorded)} bytes do not begin the {len(sent)} recorded"
    if answer.whole and (answer.recorded != sent or request.state != "completed"):
        return f"{answer.request_id}: the client has a whole answer, the log one that is {request.state}"
    return None


def _only_accepted(request: RecordedRequest) -> bool:
    """Whether its client was told no more than that it will be answered."""
    body = request.events[0].body.get("body") or {}
    return bool(body.get("background") and not body.get("stream"))


def unrecorded(data_dir: Path, words: Iterable[str]) -> list[str]:
    """Words that reached an upstream and are in no request of the log."""
    with Reader(data_dir) as reader:
        events = [row for row in reader.rows(frames=False) if isinstance(row, RecordedEvent)]
    known = {word for event in events if event.type == "request_received" for word in words_of(event.data)}
    return [word for word in words if word not in known]


View = dict[str, Any]
"""All that projections made: rows by table, bytes by file."""


def view(data_dir: Path) -> View:
    """What the projections of a stopped server are."""
    rows = sqlite3.connect(data_dir / db.NAME)
    try:
        tables = [name for (name,) in rows.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: View = {name: sorted(rows.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in tables}
    finally:
        rows.close()
    for path in (path for pattern in FILES for path in data_dir.glob(pattern)):
        found[path.name] = path.read_bytes()
    return found


def rebuilt(data_dir: Path, beside: Path) -> View:
    """What they are when they are made from nothing but the log."""
    beside.mkdir()
    for path in data_dir.glob("events.db*"):
        shutil.copy(path, beside / path.name)
    with Reader(beside) as reader:
        rebuild_here(beside, reader, [projection.name for projection in REGISTRY])
    return view(beside)


def differing(one: View, other: View) -> list[str]:
    """The tables and files that are not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
