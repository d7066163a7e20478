"""The catalogue: what may be in the log. Typed, versioned, past tense; type strings are for ever.

`decode(recorded)` gives the typed event in its newest schema; older rows pass through `upcasts`. Storage files never
import this package.
"""

from __future__ import annotations

from eventstore.catalogue import (
    answer,
    audio,
    circuit,
    control,
    generation,
    group,
    model,
    request,
    response,
    session,
    token,
    tool,
)
from eventstore.catalogue.event import REGISTRY, Event
from eventstore.catalogue.upcasts import upcast
from eventstore.envelope import RecordedEvent
from eventstore.errors import UnknownEventType

__all__ = [
    "REGISTRY",
    "Event",
    "answer",
    "audio",
    "circuit",
    "control",
    "decode",
    "generation",
    "group",
    "model",
    "request",
    "response",
    "session",
    "token",
    "tool",
]


def decode(recorded: RecordedEvent) -> Event:
    """The typed event. Raises `UnknownEventType` for a type, or a newer schema, that this release does not know."""
    cls = REGISTRY.get(recorded.type)
    if cls is None:
        raise UnknownEventType(recorded.type)
    body = recorded.body
    if body["schema"] != cls.schema:
        body = upcast(cls, body)
    return cls.of(body)
