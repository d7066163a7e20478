"""The base of every event type, and the registry of them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, ClassVar, Self, TypeVar

from eventstore.catalogue.values import Usd, dumps
from eventstore.envelope import NewEvent
from eventstore.errors import UnknownEventType


class Event:
    """A typed, versioned fact. Subclasses are frozen dataclasses; `type` and `schema` are literals, past tense.

    In JSON a field that is None is left out, except those in `EXPLICIT`. `CONTENT` names the fields that carry what
    people and models said: feeds leave them out unless asked, and `retention: none` never writes them.
    """

    __slots__ = ()
    type: ClassVar[str]
    schema: ClassVar[int] = 1
    EXPLICIT: ClassVar[frozenset[str]] = frozenset()
    CONTENT: ClassVar[frozenset[str]] = frozenset()
    MONEY: ClassVar[frozenset[str]] = frozenset()
    NAMES: ClassVar[tuple[str, ...]] = ()
    REQUIRED: ClassVar[frozenset[str]] = frozenset()
    SAID: ClassVar[Callable[[Any], dict[str, Any]]]

    def new(self) -> NewEvent:
        """Ready for `append`."""
        return NewEvent(self.type, self.schema, dumps(type(self).SAID(self)))

    @classmethod
    def of(cls, body: dict[str, Any]) -> Self:
        """From a flat object; what the type does not know (the envelope, a newer writer's fields) is passed over.

        Raises `UnknownEventType` where a required field is missing.
        """
        values = {name: body[name] for name in cls.NAMES if name in body}
        for name in cls.MONEY:
            if values.get(name) is not None:
                values[name] = Usd.parse(values[name])
        if missing := cls.REQUIRED - values.keys():
            raise UnknownEventType(f"{cls.type} without {', '.join(sorted(missing))}")
        return cls(**values)


REGISTRY: dict[str, type[Event]] = {}
E = TypeVar("E", bound=type[Event])


def event(cls: E) -> E:
    """Put a type into the registry; its name is for ever."""
    if cls.type in REGISTRY:
        raise ValueError(f"event type {cls.type} is defined twice")
    listed = fields(cls)  # type: ignore[arg-type]  # every registered class is a dataclass; Event itself is not
    cls.NAMES = tuple(field.name for field in listed)
    cls.REQUIRED = frozenset(f.name for f in listed if f.default is MISSING and f.default_factory is MISSING)
    cls.SAID = _said(cls.NAMES, cls.EXPLICIT)
    REGISTRY[cls.type] = cls
    return cls


def _said(names: tuple[str, ...], explicit: frozenset[str]) -> Callable[[Any], dict[str, Any]]:
    """From an event to its JSON object. Compiled for each type, as `dataclass` compiles `__init__`: every event of
    every request passes here, and a loop over the names takes three times as long."""
    lines = ["def said(event):", " fields = {}"]
    for name in names:
        unless_none = "" if name in explicit else "if value is not None: "
        lines += [f" value = event.{name}", f" {unless_none}fields[{name!r}] = value"]
    made: dict[str, Any] = {}
    exec("\n".join([*lines, " return fields"]), made)  # noqa: S102  names of fields, from this package's own classes
    said: Callable[[Any], dict[str, Any]] = made["said"]
    return said
