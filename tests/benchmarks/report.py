"""The figures for people: `results.md`, and the ratios as a chart, `ratios.png`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.benchmarks.figures import Figure, Part, Ratio, number
from tests.readme import table

HEAD = ("measured", "of", "figure", "compared with", "ratio (least-most)", "goal", "reached")
MARKDOWN, CHART = "results.md", "ratios.png"
RATES = "answers/s"
"""The unit of the figures whose ratios are drawn."""


def write(directory: Path, parts: Iterable[Part]) -> list[str]:
    """Write both files. Returns what could not be written, and why."""
    parts = list(parts)
    (directory / MARKDOWN).write_text(markdown(parts), encoding="utf-8")
    return draw(directory / CHART, parts)


def markdown(parts: Iterable[Part]) -> str:
    """A section a part, with one table."""
    head = (
        "# Benchmark results\n\nWritten by `python -m tests.benchmarks`; [README.md](../README.md) says what each"
        " figure means. Medians of rounds; a ratio is that of turns in a row.\n\n![ratios](ratios.png)\n"
    )
    return "\n".join([head, *map(section, parts)])


def section(part: Part) -> str:
    """One part: how it was measured, and its table."""
    how = "whole" if part.ended == "whole" else f"**not whole**: {part.ended or 'interrupted'}"
    lines = [
        f"## {part.title}",
        "",
        f"`--{part.size} --only {part.name}`, {part.began}, {part.seconds:,.0f} s, {how}.",
        "",
    ]
    lines += [part.machine, "", *(f"- {note}" for note in part.notes), ""]
    return "\n".join([*lines, table(HEAD, map(row, part.figures)), ""])


def row(figure: Figure) -> tuple[str, ...]:
    """A line of a table."""
    goal = figure.goal
    return (
        figure.what,
        figure.who,
        f"{number(figure.value)} {figure.unit}",
        "" if figure.floor is None else f"{number(figure.floor)} {figure.unit}",
        "" if figure.ratio is None else ratio(figure.ratio),
        "" if goal is None else goal.text,
        "" if goal is None else ("yes" if goal.met else "**no**"),
    )


def ratio(measured: Ratio) -> str:
    """Median, and in brackets the least and the most."""
    return f"{measured.median:.3g} ({measured.least:.3g}-{measured.most:.3g})"


def draw(path: Path, parts: Iterable[Part]) -> list[str]:
    """A bar for each rate that was compared with the floor's."""
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        return [f"{path.name} was not drawn: pip install '.[bench]' brings matplotlib"]
    bars = [
        (f"{part.name} | {figure.who}: {figure.what}", figure.ratio)
        for part in parts
        for figure in part.figures
        if figure.unit == RATES and figure.ratio is not None
    ]
    if not bars:
        return [f"{path.name} was not drawn: no rate was compared yet"]
    canvas = Canvas(figsize=(9, 1.2 + 0.3 * len(bars)), layout="constrained")
    axes = canvas.add_subplot()
    names, ratios = [name for name, _ in bars], [ratio for _, ratio in bars]
    spread = [
        [max(0.0, each.median - each.least) for each in ratios],
        [max(0.0, each.most - each.median) for each in ratios],
    ]
    drawn = axes.barh(
        range(len(bars)), [each.median for each in ratios], xerr=spread, color="#4c78a8", ecolor="#888888"
    )
    axes.bar_label(drawn, [f"{each.median:.2g}" for each in ratios], padding=4, fontsize=8)
    axes.set_yticks(range(len(bars)), names, fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1.0, color="#444444", linewidth=0.8)
    axes.set_xlabel("share of what it is compared with (1: no cost)")
    axes.margins(x=0.1)
    axes.set_title("Answers a second", fontsize=10)
    canvas.savefig(path, dpi=120, metadata={"Software": None})
    return []
