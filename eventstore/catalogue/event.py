"""The base of every event type, and the registry of them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from operator import attrgetter
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
    VALUES: ClassVar[Callable[[Any], tuple[Any, ...]]]
    REQUIRED: ClassVar[frozenset[str]] = frozenset()

    def new(self) -> NewEvent:
        """Ready for `append`."""
        explicit = self.EXPLICIT
        values = zip(self.NAMES, type(self).VALUES(self), strict=True)
        fields = {name: value for name, value in values if value is not None or name in explicit}
        return NewEvent(self.type, self.schema, dumps(fields))

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
    cls.VALUES = attrgetter(*cls.NAMES)  # every type has two fields or more, so it gives a tuple
    cls.REQUIRED = frozenset(f.name for f in listed if f.default is MISSING and f.default_factory is MISSING)
    REGISTRY[cls.type] = cls
    return cls
