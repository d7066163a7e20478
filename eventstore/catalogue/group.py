"""What happens to one request that is served as several, on a stream of its own: `group-<id>`.

The members are requests like any other (`request-<id>`, each of which names the group as its `parent`): what they were
asked, answered and cost stands there, and nowhere twice.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from eventstore.catalogue.event import Event, event
from eventstore.value import value

GroupMode = Literal["all", "first", "best"]


@event
@value(kw_only=True)
class GroupStarted(Event):
    """A request for several answers was read; none of its members has begun. `members` are their request ids, in the
    order of the models that were named. `policy` says how the best is found, `judge` is the model that finds it."""

    type: ClassVar[str] = "group_started"

    group_id: str
    key: str
    mode: GroupMode
    members: list[str]
    models: list[str]
    body_length: int
    body_digest: str
    policy: str | None = None
    judge: str | None = None


@event
@value(kw_only=True)
class GroupSettled(Event):
    """Every member has ended, and this is what came of it. `winner` is a member's request id, null where there is none;
    `reason` says why. `inputs` is what the choice was made from, `judge_request` the request that asked the judge."""

    type: ClassVar[str] = "group_settled"
    EXPLICIT: ClassVar[frozenset[str]] = frozenset({"winner"})

    group_id: str
    reason: str
    winner: str | None
    inputs: dict[str, Any] | None = None
    judge_request: str | None = None
