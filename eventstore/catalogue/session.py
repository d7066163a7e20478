"""What happens to a conversation that the server keeps, on a stream of its own that is named like it: `session-<id>`.

What was said stands in the events of the requests that its turns name (`request-<id>`), and nowhere twice.
A turn's events are recorded in the same commits as those of its request.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from eventstore.catalogue.event import Event, event
from eventstore.catalogue.values import Usd
from eventstore.value import value

Purpose = Literal["chat", "compaction"]


@event
@value(kw_only=True)
class SessionCreated(Event):
    """A session was opened. `settings` are chat fields for every turn that does not say otherwise, `context_tokens` the
    window to keep to instead of the model's own. What a fork leaves out is its parent's."""

    type: ClassVar[str] = "session_created"
    CONTENT: ClassVar[frozenset[str]] = frozenset({"system_prompt", "settings", "title"})

    session_id: str
    key: str
    model: str | None = None
    system_prompt: str | None = None
    settings: dict[str, Any] | None = None
    context_tokens: int | None = None
    title: str | None = None
    metadata: dict[str, str] | None = None


@event
@value(kw_only=True)
class SessionTurnStarted(Event):
    """A request took the session's next turn; until it ends there is no other. `before` is the turn that it goes on
    from, 0 for none. `carried` and `dropped` count the earlier turns that its call has and has not, for want of room:
    `tokens` is the estimate of all that the call has, `window` what was allowed."""

    type: ClassVar[str] = "session_turn_started"

    session_id: str
    turn: int
    request_id: str
    before: int
    purpose: Purpose
    carried: int
    dropped: int
    tokens: int
    window: int


@event
@value(kw_only=True)
class SessionTurnCompleted(Event):
    """The turn's answer is whole: both are part of the conversation from now on."""

    type: ClassVar[str] = "session_turn_completed"
    EXPLICIT: ClassVar[frozenset[str]] = frozenset({"cost_usd"})
    MONEY: ClassVar[frozenset[str]] = frozenset({"cost_usd"})

    session_id: str
    turn: int
    request_id: str
    cost_usd: Usd | None


@event
@value(kw_only=True)
class SessionTurnAbandoned(Event):
    """The turn has no whole answer, and the conversation goes on as if it had never been. `reason` is how its request
    ended (`failed`, `cancelled`, `interrupted`, `rejected`), or `no_summary`."""

    type: ClassVar[str] = "session_turn_abandoned"
    EXPLICIT: ClassVar[frozenset[str]] = frozenset({"cost_usd"})
    MONEY: ClassVar[frozenset[str]] = frozenset({"cost_usd"})

    session_id: str
    turn: int
    request_id: str
    reason: str
    cost_usd: Usd | None


@event
@value(kw_only=True)
class SessionCompacted(Event):
    """The turn's answer is a summary, which from now on stands for all before it but the last `kept` turns."""

    type: ClassVar[str] = "session_compacted"
    EXPLICIT: ClassVar[frozenset[str]] = frozenset({"cost_usd"})
    MONEY: ClassVar[frozenset[str]] = frozenset({"cost_usd"})

    session_id: str
    turn: int
    request_id: str
    kept: int
    cost_usd: Usd | None


@event
@value(kw_only=True)
class SessionForked(Event):
    """The session goes on from turn `at` of another, whose history it shares; 0 is its beginning."""

    type: ClassVar[str] = "session_forked"

    session_id: str
    parent_id: str
    at: int
    key: str


@event
@value(kw_only=True)
class SessionCleared(Event):
    """The session was rewound: it goes on from turn `at`, 0 being its beginning. What came after stays in the log."""

    type: ClassVar[str] = "session_cleared"

    session_id: str
    at: int
    key: str


@event
@value(kw_only=True)
class SessionDeleted(Event):
    """The session can no longer be used by clients. The log keeps it, and so do its forks."""

    type: ClassVar[str] = "session_deleted"

    session_id: str
    key: str


@event
@value(kw_only=True)
class SessionRestated(Event):
    """What came of the session's first `after` events, said again before the archive loses some of them: what it was
    opened with, and where it stands. Its words are not said again. `turns` are `{number, request_id, before, kept?}`,
    `open` is the `session_turn_started` of the turn that goes on."""

    type: ClassVar[str] = "session_restated"
    CONTENT: ClassVar[frozenset[str]] = SessionCreated.CONTENT

    session_id: str
    after: int
    key: str
    model: str | None = None
    system_prompt: str | None = None
    settings: dict[str, Any] | None = None
    context_tokens: int | None = None
    title: str | None = None
    metadata: dict[str, str] | None = None
    parent_id: str | None = None
    at: int
    turns: list[dict[str, Any]]
    tip: int
    newest: int
    open: dict[str, Any] | None = None
    deleted: bool
