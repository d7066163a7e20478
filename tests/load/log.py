"""What the log says when the server has gone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from eventstore.catalogue.request import TERMINAL
from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader


def ledger(data_dir: Path) -> list[dict[str, Any]]:
    """The bodies of all events, in their order; frames left out."""
    with Reader(data_dir) as reader:
        return [row.body for row in reader.rows(frames=False) if isinstance(row, RecordedEvent)]


def ends(data_dir: Path) -> Counter[str]:
    """How many requests ended in what. A request without an end counts as `open`, one with two twice."""
    events = ledger(data_dir)
    found = Counter(event["type"] for event in events if event["type"] in TERMINAL)
    received = sum(event["type"] == "request_received" for event in events)
    return found + Counter(open=received - found.total() + found["request_rejected"])
