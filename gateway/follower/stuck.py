"""When to replace the NATS server: it runs and listens, and yet nothing comes to be stored. Pure.

A server whose store was taken away while it ran, or that hangs, stays like that for as long as it lives.
"""

from __future__ import annotations

from eventstore.relay import RelayStatus

PATIENCE_S = 30.0
"""Several of the relay's attempts, each of which waits 10 s for an answer."""
WELL = frozenset({"live", "full", "fenced"})
"""What the relay says while a new server would change nothing."""


class Stuck:
    """Ask it every few seconds, with a monotonic `now`; after a True the patience begins anew."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._since: float | None = None
        self._reached = -1

    def __call__(self, now: float, running: bool, relay: RelayStatus) -> bool:
        """Whether the relay has stood still for too long while its server was `running`."""
        reached = min(relay.ledger_position, relay.tokens_position)
        if not running or relay.state in WELL or (reached != self._reached and relay.state != "down"):
            self._since, self._reached = None, reached
            return False
        if self._since is None:
            self._since, self._reached = now, reached
        if now - self._since < self._patience_s:
            return False
        self._since = None
        return True
