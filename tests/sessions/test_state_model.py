"""Any order of turns, rewinds, forks and summaries gives the conversation that copying lists would give."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.catalogue import Event
from gateway.sessions.state import Family, Session, conversation, fold, known
from tests.sessions.test_state import cleared, compacted, created, failed, forked, said

MOST = 25


@dataclass
class Copied:
    """The reference: a session that copies everything. `at` has the whole conversation at each of its turns."""

    at: dict[int, list[str]] = field(default_factory=lambda: {0: []})
    tip: int = 0
    newest: int = 0

    def told(self) -> list[str]:
        return self.at[self.tip]

    def goes_on(self, told: list[str]) -> None:
        self.newest += 1
        self.at[self.newest] = told
        self.tip = self.newest

    def forked(self, at: int) -> Copied:
        return Copied({number: list(told) for number, told in self.at.items() if number <= at}, at, at)


class World:
    """Sessions under test, each with its events, and beside them the copies."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self.events: list[list[Event]] = [[created()]]
        self.parents: list[int | None] = [None]
        self.copies = [Copied()]

    def step(self) -> None:
        one = self._draw(st.integers(0, len(self.copies) - 1))
        getattr(self, self._draw(st.sampled_from(["say", "say", "fail", "rewind", "fork", "compact"])))(one)

    def say(self, one: int) -> None:
        copy = self.copies[one]
        self.events[one] += _named(said(copy.newest + 1, copy.tip), one)
        copy.goes_on([*copy.told(), f"r{one}-{copy.newest + 1}"])

    def fail(self, one: int) -> None:
        copy = self.copies[one]
        self.events[one] += failed(copy.newest + 1, copy.tip)
        copy.newest += 1

    def rewind(self, one: int) -> None:
        copy = self.copies[one]
        copy.tip = self._draw(st.sampled_from(sorted(copy.at)))
        self.events[one].append(cleared(copy.tip))

    def fork(self, one: int) -> None:
        at = self._draw(st.sampled_from(sorted(self.copies[one].at)))
        self.events.append([created(), forked(at)])
        self.parents.append(one)
        self.copies.append(self.copies[one].forked(at))

    def compact(self, one: int) -> None:
        copy = self.copies[one]
        turns = [entry for entry in copy.told() if not entry.startswith("summary ")]
        kept = self._draw(st.integers(0, len(turns)))
        self.events[one] += _named(compacted(copy.newest + 1, copy.tip, kept), one)
        copy.goes_on([f"summary r{one}-{copy.newest + 1}", *turns[len(turns) - kept :]])

    def family(self, one: int) -> Family:
        family, here = [], one
        while True:
            family.append(fold(Session(f"session-{here}"), self.events[here]))
            parent = self.parents[here]
            if parent is None:
                return family
            here = parent


def _named(events: list[Event], one: int) -> list[Event]:
    """With request ids that say which session's they are."""
    return [replace(event, request_id=f"r{one}-{event.turn}") for event in events]  # type: ignore[attr-defined,type-var]


def told(family: Family, number: int) -> list[str]:
    found = conversation(family, number)
    summary = [] if found.summary is None else [f"summary {found.summary.request_id}"]
    return summary + [turn.request_id for turn in found.turns]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_sharing_is_copying(data: st.DataObject) -> None:
    world = World(data.draw)
    for _ in range(data.draw(st.integers(1, MOST))):
        world.step()
    for one, copy in enumerate(world.copies):
        family = world.family(one)
        assert (family[0].tip, family[0].newest) == (copy.tip, copy.newest)
        for number in range(copy.newest + 2):
            assert known(family, number) == (number in copy.at)
        for number, expected in copy.at.items():
            assert told(family, number) == expected
