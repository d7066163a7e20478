"""Values of the command line that several commands take. Each raises `ArgumentTypeError` for what it is not."""

from __future__ import annotations

import argparse

from eventstore.catalogue import REGISTRY

MOST = 1 << 62
"""More than any log has; SQLite's numbers end a bit behind."""
TOKEN = "token_generated"  # noqa: S105  the name of an event


def whole(text: str) -> int:
    """A count or a position: a whole number, none or more."""
    if not (text.isascii() and text.isdecimal() and len(text) < 1_000):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no whole number")
    return min(int(text), MOST)


def event_types(text: str) -> frozenset[str]:
    """Types of the ledger, separated by commas."""
    types = frozenset(name for name in text.split(",") if name)
    if unknown := sorted(types - REGISTRY.keys()):
        raise argparse.ArgumentTypeError(f"there is no event type {unknown[0][:64]!r}")
    if TOKEN in types:
        raise argparse.ArgumentTypeError(f"{TOKEN} is no event of the ledger: `show REQUEST-ID --json` has them")
    return types
