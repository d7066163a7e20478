"""What a virtual model came to for one request, with all that it was decided from; and the same decision once more,
from what was recorded. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from eventstore.value import value
from gateway.routing.complexity import Facts, complexity
from gateway.routing.order import Asked, Candidate, View, Views, ordered
from gateway.routing.virtual import Member, Virtual


@value
class Chosen:
    """The virtual model that was asked for by `name`, and its members in order. `inputs` is what goes into
    `route_selected`: `virtual`, `strategy`, the `configuration`'s digest, the `draw`, what was `asked`, the `members`,
    the `views` of them that are not as usual, and the `candidates` that came of it, with what they were told by."""

    name: str
    candidates: tuple[Candidate, ...]
    inputs: dict[str, Any]

    @property
    def models(self) -> tuple[str, ...]:
        """Those to be asked, in order."""
        return tuple(candidate.model for candidate in self.candidates if candidate.skipped is None)


def chosen(virtual: Virtual, configuration: str, asked: Asked, views: Views, draw: float) -> Chosen:
    """The decision. `configuration` is the digest of the file that says it."""
    candidates = ordered(virtual.strategy, virtual.members, asked, views, draw)
    inputs = {
        "virtual": virtual.name,
        "strategy": virtual.strategy,
        "configuration": configuration,
        "draw": draw,
        "asked": _said(asked),
        "members": [_said(member) for member in virtual.members],
        "views": {model: said for model, view in views.items() if (said := _said(view))},
        "candidates": [candidate.said() for candidate in candidates],
        **_told(asked),
    }
    return Chosen(virtual.name, candidates, inputs)


def decided_again(inputs: Mapping[str, Any]) -> tuple[Candidate, ...]:
    """The candidates that recorded inputs give. Raises `KeyError`, `TypeError` or `ValueError` for what was none."""
    members = [Member(**member) for member in inputs["members"]]
    views = {model: View(**{**said, "able": tuple(said.get("able", ()))}) for model, said in inputs["views"].items()}
    return ordered(inputs["strategy"], members, _asked(inputs), views, inputs["draw"])


def told_again(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What stands beside the candidates to explain them, as recorded inputs give it. Raises as `decided_again`."""
    return _told(_asked(inputs))


def _told(asked: Asked) -> dict[str, Any]:
    return {} if asked.facts is None else {"complexity": complexity(asked.facts).said()}


def _asked(inputs: Mapping[str, Any]) -> Asked:
    said = inputs["asked"]
    return Asked(**{**said, "facts": Facts(**said["facts"])} if "facts" in said else said)


def _said(given: Asked | Member | View | Facts) -> dict[str, Any]:
    """What is not as usual of a value, as JSON has it."""
    told = {field.name: getattr(given, field.name) for field in fields(given) if _unusual(given, field)}
    return {name: _json(each) for name, each in told.items()}


def _json(given: Any) -> Any:
    if isinstance(given, Facts):
        return _said(given)
    return list(given) if isinstance(given, tuple) else given


def _unusual(given: Any, field: Any) -> bool:
    return bool(getattr(given, field.name) != field.default)
