"""Tickets: what lets a browser's EventSource or WebSocket in, since neither can set a header.

A ticket is bought with the API key by `POST /v1/tickets` and shown once as `?access_token=`. A URL ends up in proxies'
logs and browsers' histories, so that the key itself must never stand in one; a ticket found there is spent.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable

from gateway.errors import Unavailable

LIFETIME_S = 60
MOST_OPEN = 10_000


class Tickets:
    """Single use, 60 seconds, in memory only: a restart voids them all. `monotonic` is a clock in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._open: dict[bytes, tuple[float, str]] = {}

    def issue(self, key_id: str) -> str:
        """A new ticket that stands for this key. Raises `Unavailable` while 10,000 are open."""
        self._expire()
        if len(self._open) >= MOST_OPEN:
            raise Unavailable("Too many tickets are open. Try again in a minute.", headers={"Retry-After": "60"})
        ticket = secrets.token_urlsafe(32)
        self._open[_digest(ticket)] = (self._monotonic() + LIFETIME_S, key_id)
        return ticket

    def redeem(self, ticket: str) -> str | None:
        """The id of the key that bought it, once; None for one that is unknown, spent or too old."""
        expires, key_id = self._open.pop(_digest(ticket), (0.0, ""))
        return key_id if key_id and self._monotonic() < expires else None

    def _expire(self) -> None:
        """Drop the old ones. They were added in the order of their age, so the first live one ends the search."""
        now = self._monotonic()
        for digest, (expires, _) in list(self._open.items()):
            if now < expires:
                break
            del self._open[digest]


def _digest(ticket: str) -> bytes:
    """Looked up by digest, so that how long a look-up takes says nothing about the tickets that are open."""
    return hashlib.sha256(ticket.encode("utf-8", "surrogateescape")).digest()
