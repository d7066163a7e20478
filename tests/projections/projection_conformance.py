"""What every projection promises, as functions over a folder and a log; the test file beside calls them for each."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from projections import db
from projections.engine import Engine
from projections.projection import Projection
from tests.projections.ledger import Ledger

View = tuple[dict[str, list[tuple[object, ...]]], dict[str, bytes]]
"""Everything that projections have made: rows by table, bytes by file."""


def fold(data_dir: Path, log: Ledger, projections: Sequence[Projection], limit: int = 500) -> View:
    """The whole log, in batches of `limit`."""
    engine = Engine(data_dir, log, projections)
    while engine.step(limit):
        pass
    engine.close()
    return view(data_dir)


def view(data_dir: Path) -> View:
    """What lies in the data directory."""
    rows = sqlite3.connect(data_dir / db.NAME)
    tables = [name for (name,) in rows.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    found = {name: rows.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in tables}
    rows.close()
    files = {path.name: path.read_bytes() for path in data_dir.iterdir() if not path.name.startswith(db.NAME)}
    return found, files


def any_batching_gives_the_same(data_dir: Path, log: Ledger, projection: Projection) -> None:
    views = []
    for limit in (1, 2, 3, 7, 500):
        folder = data_dir / str(limit)
        folder.mkdir()
        views.append(fold(folder, log, [projection], limit))
    assert all(found == views[0] for found in views)


def restarts_change_nothing(data_dir: Path, log: Ledger, projection: Projection) -> None:
    (data_dir / "whole").mkdir()
    (data_dir / "pieces").mkdir()
    more = True
    while more:
        engine = Engine(data_dir / "pieces", log, [projection])
        more = engine.step(4)
        engine.close()
    assert view(data_dir / "pieces") == fold(data_dir / "whole", log, [projection])


def twice_is_once(data_dir: Path, log: Ledger, projection: Projection) -> None:
    once = fold(data_dir, log, [projection])
    assert fold(data_dir, log, [projection]) == once


def two_engines_are_one(data_dir: Path, log: Ledger, projection: Projection) -> None:
    (data_dir / "one").mkdir()
    (data_dir / "two").mkdir()
    engines = [Engine(data_dir / "two", log, [projection]) for _ in range(2)]
    while engines[0].step(3) or engines[1].step(3):
        engines.reverse()
    for engine in engines:
        engine.close()
    assert view(data_dir / "two") == fold(data_dir / "one", log, [projection])


def following_equals_rebuilding(data_dir: Path, log: Ledger, projection: Projection) -> None:
    followed = Ledger()
    followed._blobs = log._blobs
    engine = Engine(data_dir, followed, [projection])
    for row in log.rows:
        followed.rows.append(row)
        engine.step()
    live = view(data_dir)
    engine.rebuild(projection.name)
    assert engine.positions() == {projection.name: 0}
    while engine.step(11):
        pass
    engine.close()
    assert view(data_dir) == live


CASES = (
    any_batching_gives_the_same,
    restarts_change_nothing,
    twice_is_once,
    two_engines_are_one,
    following_equals_rebuilding,
)
