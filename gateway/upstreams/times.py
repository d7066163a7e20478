"""Times as providers write them."""

from __future__ import annotations

from datetime import datetime
from typing import Any


def unix_seconds(time: Any) -> int | None:
    """An RFC 3339 time as Unix seconds; None for anything else."""
    try:
        return int(datetime.fromisoformat(time).timestamp())
    except (TypeError, ValueError):
        return None
