"""What becomes of a stored response, on a stream of its own: `response-<id>`."""

from __future__ import annotations

from typing import ClassVar

from eventstore.catalogue.event import Event, event
from eventstore.value import value


@event
@value(kw_only=True)
class ResponseDeleted(Event):
    """A stored response can no longer be fetched by its clients. The log keeps it."""

    type: ClassVar[str] = "response_deleted"

    request_id: str
    key: str
