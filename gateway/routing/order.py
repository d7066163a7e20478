"""In which order the members of a virtual model are asked. Pure: all that it hangs on is given, and recorded with the
route, so that it can be decided again offline.

A strategy gives each member that can take the request a score; the first goes first, the others are what it falls back
on. Members that are known to be unable are skipped, each with the reason; what is not known of one is no reason. Those
that would do, but not well (their circuit is open; tools or a schema would have to go into the prompt), go last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eventstore.value import value
from gateway.routing.complexity import Facts, complexity
from gateway.routing.virtual import BY_EXAMPLES, Member

TYPICAL_TOKENS = 256
"""The answer for which `fastest` compares: its time to the first token, and for so many."""
LOOKS = 0.05
"""The share of `fastest`'s requests that go to another member than the fastest, to see how fast it is by now."""
PICO = 10**12
BUSIEST = 1e300


@value(kw_only=True)
class Asked:
    """What a request needs: whether it has `images` or `audio`, `tools`, or wants a `schema` kept; its length in
    (estimated) tokens, with what it wants in answer. `facts`, where its complexity is asked for.
    Where its meaning is: its `likeness` to the examples of each model, or why it was compared with none (`unlike`)."""

    images: bool = False
    audio: bool = False
    tools: bool = False
    schema: bool = False
    tokens: int = 0
    facts: Facts | None = None
    likeness: Mapping[str, float] | None = None
    unlike: str | None = None


@value(kw_only=True)
class View:
    """What is known of a member now, None where nothing is. `price`: 1e-12 USD for a million tokens in and a million
    out. `ttft_ms` and `tokens_per_s` are as last observed, `open_calls` those of its provider; `context` is in tokens,
    `able` what its provider says that it can, in Ollama's words. `left_alone`: its circuit is open. `refused`: why it
    cannot take this request, as its plan found."""

    price: int | None = None
    ttft_ms: float | None = None
    tokens_per_s: float | None = None
    open_calls: int = 0
    context: int | None = None
    able: tuple[str, ...] = ()
    left_alone: bool = False
    refused: str | None = None


Views = Mapping[str, View]
"""What is known, by the member's model."""
UNKNOWN = View()


@value
class Candidate:
    """A member, in its place. `skipped` says why it is not asked, `last` why it is asked after the others."""

    model: str
    score: float | None
    skipped: str | None = None
    last: str | None = None

    def said(self) -> dict[str, Any]:
        """As it is recorded."""
        told = {"model": self.model, "score": self.score, "skipped": self.skipped, "last": self.last}
        return {key: given for key, given in told.items() if given is not None}


Scored = list[tuple[Member, float | None]]
Ordering = Callable[[Sequence[Member], Asked, Views, float], Scored]
"""A strategy: (the members that can take the request, what it needs, what is known, a draw from [0, 1)) -> these
members in their order, each with its score, None where it has none. Its name stands in `ORDERINGS`."""


def ordered(strategy: str, members: Sequence[Member], asked: Asked, views: Views, draw: float) -> tuple[Candidate, ...]:
    """The members as candidates: those to be asked, in order, then those that are skipped."""
    why = {member.model: unable(asked, views.get(member.model, UNKNOWN)) for member in members}
    scored = ORDERINGS[strategy]([member for member in members if why[member.model] is None], asked, views, draw)
    found = [Candidate(m.model, score, None, worse(asked, views.get(m.model, UNKNOWN))) for m, score in scored]
    found.sort(key=lambda candidate: candidate.last is not None)
    return (*found, *(Candidate(m.model, None, why[m.model]) for m in members if why[m.model] is not None))


def unable(asked: Asked, view: View) -> str | None:
    """Why it is known that a member cannot take the request."""
    if view.refused is not None:
        return view.refused
    if view.context is not None and asked.tokens > view.context:
        return "context"
    if "completion" not in view.able:  # nothing is said of what it can
        return None
    if asked.images and "vision" not in view.able:
        return "no_vision"
    return "no_audio" if asked.audio and "audio" not in view.able else None


def worse(asked: Asked, view: View) -> str | None:
    """Why a member that can take the request is asked after the others."""
    if view.left_alone:
        return "circuit_open"
    if "completion" in view.able and "tools" not in view.able and (asked.tools or asked.schema):
        return "prompted"
    return None


def fallback(members: Sequence[Member], asked: Asked, views: Views, draw: float) -> Scored:
    """As the file has them; the score is the place."""
    return [(member, float(place)) for place, member in enumerate(members)]


def weighted(members: Sequence[Member], asked: Asked, views: Views, draw: float) -> Scored:
    """Drawn by weight, and so are those behind; the score is the share that a member had when it was drawn."""
    left, found = list(members), []
    while left:
        total = sum(member.weight for member in left)
        drawn, low = left[-1], total - left[-1].weight
        reached = 0.0
        for member in left:
            if draw * total < reached + member.weight:
                drawn, low = member, reached
                break
            reached += member.weight
        share = drawn.weight / total
        found.append((drawn, share))
        draw = min(max((draw - low / total) / share, 0.0), 1.0)  # what is left of it is a draw for the others
        left.remove(drawn)
    return [(member, round(share, 6)) for member, share in found]


def cheapest(members: Sequence[Member], asked: Asked, views: Views, draw: float) -> Scored:
    """The lowest price first, in USD for a million tokens in and a million out; those of unknown price last."""
    return _ranked(members, lambda member: _usd(views.get(member.model, UNKNOWN).price))


def fastest(members: Sequence[Member], asked: Asked, views: Views, draw: float) -> Scored:
    """The shortest time first, in ms for an answer of `TYPICAL_TOKENS`; before them those that were never seen to
    answer, and now and then, by the draw, one of the others."""
    ranked = _ranked(members, lambda member: expected_ms(views.get(member.model, UNKNOWN)))
    unseen = [each for each in ranked if each[1] is None]
    found: Scored = [*unseen, *(each for each in ranked if each[1] is not None)]
    if not unseen and draw < LOOKS and len(found) > 1:
        found.insert(0, found.pop(1 + int(draw / LOOKS * (len(found) - 1))))
    return found


def least_busy(members: Sequence[Member], asked: Asked, views: Views, draw: float) -> Scored:
    """The fewest open calls for its weight first; the draw says who is first of several."""
    start = int(draw * len(members))
    turned = [*members[start:], *members[:start]]
    return _ranked(turned, lambda member: _busy(views.get(member.model, UNKNOWN).open_calls, member.weight))


def by_complexity(members: Sequence[Member], asked: Asked, views: Views, draw: float) -> Scored:
    """The weakest that is strong enough first, then ever stronger ones, then the others, the strongest of them first;
    the score is what a member can take (`up_to`) over what is asked."""
    asks = complexity(asked.facts or Facts()).score
    ranked = [(member, round((1.0 if member.up_to is None else member.up_to) - asks, 6)) for member in members]
    ranked.sort(key=lambda each: (each[1] < 0, abs(each[1])))
    return list(ranked)


def semantic(members: Sequence[Member], asked: Asked, views: Views, draw: float) -> Scored:
    """Those that it is like enough (`threshold`), the likest first; then who has no examples; then the others."""
    found = asked.likeness or {}
    scored: Scored = [(member, found.get(member.model)) for member in members]
    scored.sort(key=lambda each: (_like(*each), -(each[1] or 0.0)))
    return scored


def _like(member: Member, likeness: float | None) -> int:
    if member.threshold is None:
        return 1
    return 0 if likeness is not None and likeness >= member.threshold else 2


ORDERINGS: Mapping[str, Ordering] = {
    "fallback": fallback,
    "weighted": weighted,
    "cheapest": cheapest,
    "fastest": fastest,
    "least_busy": least_busy,
    "complexity": by_complexity,
    BY_EXAMPLES: semantic,
}
"""The strategies, by the names that the file has for them."""


def expected_ms(view: View) -> float | None:
    """How long a member takes for `TYPICAL_TOKENS`, None where it was never seen to answer."""
    if not view.tokens_per_s:
        return None
    return round((view.ttft_ms or 0.0) + TYPICAL_TOKENS / view.tokens_per_s * 1000, 3)


def _ranked(members: Sequence[Member], score_of: Callable[[Member], float | None]) -> Scored:
    """The lowest score first, those without one last, equal ones in the order given."""
    scored: Scored = [(member, score_of(member)) for member in members]
    scored.sort(key=lambda each: (each[1] is None, each[1] or 0.0))
    return scored


def _busy(open_calls: int, weight: float) -> float:
    """The open calls for its weight; never infinite, which JSON cannot say."""
    return round(min(open_calls / weight, BUSIEST), 6)


def _usd(price: int | None) -> float | None:
    return None if price is None else price / PICO
