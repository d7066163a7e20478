"""What was measured: figures, kept in one JSON file that is written anew after each of them.

A run that is interrupted leaves what it had measured, and of the parts it did not reach, what earlier runs had.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

FILE = "results.json"


@dataclass(frozen=True)
class Goal:
    """What a figure should come to: `text` for people, and whether it did."""

    text: str
    met: bool

    @classmethod
    def at_least(cls, value: float, bound: float, unit: str = "") -> Self:
        """`value` should be `bound` or more."""
        return cls(f"at least {number(bound)}{unit}", value >= bound)

    @classmethod
    def at_most(cls, value: float, bound: float, unit: str = "") -> Self:
        """`value` should be `bound` or less."""
        return cls(f"at most {number(bound)}{unit}", value <= bound)


@dataclass(frozen=True)
class Ratio:
    """To the other side of the same run, of turns in a row: median, least, most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, measured: Sequence[float], beside: Sequence[float]) -> Self:
        """Pair by pair."""
        each = [one / other for one, other in zip(measured, beside, strict=True)]
        return cls(statistics.median(each), min(each), max(each))


@dataclass(frozen=True)
class Figure:
    """One line of the table. `what` and `who` name it within its part; `value` is the median of the rounds, `floor`
    that of what it is compared with."""

    what: str
    who: str
    value: float
    unit: str
    floor: float | None = None
    ratio: Ratio | None = None
    goal: Goal | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.what, self.who


@dataclass
class Part:
    """What one part of the benchmarks came to. `size` is that of the run (full, quick, tiny). `ended` says how: empty
    where it was interrupted, `whole`, or why not. `notes` are sentences of what was left out."""

    name: str
    title: str
    size: str = ""
    machine: str = ""
    began: str = ""
    seconds: float = 0.0
    ended: str = ""
    notes: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


class Results:
    """All parts, in the file `results.json` of a directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        directory.mkdir(parents=True, exist_ok=True)
        self.parts: dict[str, Part] = {}
        if self._path.exists():
            self.parts = {raw["name"]: _part(raw) for raw in orjson.loads(self._path.read_bytes())}

    def begin(self, name: str, title: str, size: str, machine: str) -> Measuring:
        """Measure a part. What an earlier run measured stays until it is measured again, or the part is whole."""
        before = self.parts.get(name)
        now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        part = Part(name, title, size, machine, now, figures=list(before.figures) if before else [])
        self.parts[name] = part
        return Measuring(self, part)

    def save(self) -> None:
        """Write the file, or leave the one that is there."""
        partial = self._path.with_suffix(".partial")
        partial.write_bytes(orjson.dumps([asdict(part) for part in self.parts.values()], option=orjson.OPT_INDENT_2))
        os.replace(partial, self._path)


class Measuring:
    """A part while it is measured."""

    def __init__(self, results: Results, part: Part) -> None:
        self._results, self._part = results, part
        self._taken: set[tuple[str, str]] = set()
        self._began = time.monotonic()

    def take(self, figure: Figure) -> None:
        """Keep a figure, in the place of an earlier one of the same name."""
        if not math.isfinite(figure.value):
            raise ValueError(f"{figure.what} of {figure.who} came to {figure.value}")
        figures = self._part.figures
        places = {each.key: place for place, each in enumerate(figures)}
        if figure.key in places:
            figures[places[figure.key]] = figure
        else:
            figures.append(figure)
        self._taken.add(figure.key)
        self._save()

    def note(self, sentence: str) -> None:
        """Say what was left out."""
        self._part.notes.append(sentence)
        self._save()

    def end(self, how: str = "whole") -> None:
        """The part is over. Of a whole one, earlier figures that were not measured again are dropped."""
        self._part.ended = how
        if how == "whole":
            self._part.figures = [figure for figure in self._part.figures if figure.key in self._taken]
        self._save()

    def _save(self) -> None:
        self._part.seconds = round(time.monotonic() - self._began, 1)
        self._results.save()


def number(value: float) -> str:
    """Three digits that count, and thousands apart."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}".rstrip("0").rstrip(".")


def _part(raw: dict[str, Any]) -> Part:
    figures = [
        Figure(**{**each, "ratio": _made(Ratio, each["ratio"]), "goal": _made(Goal, each["goal"])})
        for each in raw.pop("figures")
    ]
    return Part(**raw, figures=figures)


def _made(kind: type[Any], raw: dict[str, Any] | None) -> Any:
    return None if raw is None else kind(**raw)
