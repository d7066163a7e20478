"""How like a text is to the examples of each route, from their vectors. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from operator import mul

Vector = Sequence[float]
BEST = 3
"""So many of a route's examples count, the likest: a route may have examples of several kinds, and one example that
happens to share words with another route does not win alone."""


def likeness(text: Vector, examples: Mapping[str, Sequence[Vector]]) -> dict[str, float]:
    """For each route the mean cosine between the text and its `BEST` likest examples, from -1 to 1."""
    return {name: _mean_of_best([cosine(text, vector) for vector in vectors]) for name, vectors in examples.items()}


def cosine(one: Vector, other: Vector) -> float:
    """Of the angle between two vectors; 0 where one of them has no direction."""
    length = sqrt(sum(map(mul, one, one)) * sum(map(mul, other, other)))
    return sum(map(mul, one, other)) / length if length else 0.0


def _mean_of_best(cosines: Sequence[float]) -> float:
    best = sorted(cosines, reverse=True)[:BEST]
    return round(sum(best) / len(best), 6) if best else 0.0
