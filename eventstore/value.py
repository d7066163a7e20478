"""Values: slotted dataclasses that the type checker holds frozen.

At run time they are not: a frozen dataclass sets each field through `object.__setattr__`, at three times the cost, and
a request makes thirty values. Nobody writes to one; the type checker sees to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]: ...
@overload
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def value(*, kw_only: bool) -> Callable[[type[T]], type[T]]: ...
def value(cls: type[T] | None = None, *, kw_only: bool = False) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a class a value; with `kw_only=True` its fields are given by name only."""
    made = dataclass(slots=True, kw_only=kw_only)
    return made if cls is None else made(cls)
