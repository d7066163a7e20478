"""Old rows in new clothes: schema n -> n+1, one pure function each. Readers know only the newest schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventstore.catalogue.event import Event
from eventstore.errors import UnknownEventType

UPCASTS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""(type, schema) -> the same fact one schema later. Empty while every type is at its first schema."""


def upcast(cls: type[Event], body: dict[str, Any]) -> dict[str, Any]:
    """The body in `cls.schema`. Raises `UnknownEventType` where there is no way there."""
    while body["schema"] != cls.schema:
        step = UPCASTS.get((cls.type, body["schema"]))
        if step is None:
            raise UnknownEventType(f"{cls.type} schema {body['schema']}")
        body = step(body)
    return body
