"""What a caller of a session can be told went wrong, beside what can go wrong with any request.

NotFound
└── NoSession    404  there is none of that name, or it was deleted
Conflict
└── SessionBusy  409  another turn is going on, or came first; says which version the session is at
"""

from __future__ import annotations

from typing import Any

from gateway.errors import Conflict, NotFound


class NoSession(NotFound):
    """There is no such session, or it was deleted."""

    code = "session_not_found"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is no session {session_id[:80]!r}.", param="session_id")


class SessionBusy(Conflict):
    """One turn at a time. `version` is that of the session's stream, which the winner moved."""

    code = "session_busy"

    def __init__(self, session_id: str, version: int) -> None:
        super().__init__(
            f"Session {session_id} is busy: another turn is going on, or came first. "
            "Try again, or let the server wait for it with ?wait=SECONDS.",
            param="session_id",
            headers={"Retry-After": "1", "x-abstractcore-session-version": str(version)},
        )
        self.version = version

    def error(self) -> dict[str, Any]:
        """With the session's version."""
        return {**super().error(), "version": self.version}
