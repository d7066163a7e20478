"""Fold the log into projections anew: by the running server if there is one, else here, under the directory's lock."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eventstore.errors import LogLocked
from eventstore.lock import DirectoryLock
from eventstore.reader import Reader
from gateway.control import ControlError, NotRunning, ask
from projections.engine import Engine
from projections.registry import REGISTRY
from replay.output import printable, tell
from replay.recorded import ReplayError

HELP = "make projections anew from the log"
BATCH = 2_000
"""Ledger events in one transaction; larger than a live server's, since nobody waits."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `rebuild` understands."""
    names = [projection.name for projection in REGISTRY]
    parser.add_argument("--projection", metavar="NAME", choices=names, help=f"one of {', '.join(names)} (default: all)")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or 1 where a projection could not fold an event."""
    names = [options.projection] if options.projection else [projection.name for projection in REGISTRY]
    with Reader(options.data_dir) as reader:
        try:
            with DirectoryLock(options.data_dir):
                done = rebuild_here(options.data_dir, reader, names)
        except LogLocked as locked:
            done = _asked(options.data_dir, names, locked)
        done["dropped"] = reader.dropped()
    tell(done, options.json, _told)
    return 1 if any(state.get("halted") for state in done["projections"].values()) else 0


def rebuild_here(data_dir: Path, reader: Reader, names: Sequence[str]) -> dict[str, Any]:
    """Fold in this process; the caller holds the lock. `{by, projections: {name: {position, halted, …}}, seconds}`."""
    began = time.monotonic()
    engine = Engine(data_dir, reader)
    try:
        for name in names:
            engine.rebuild(name)
        while engine.step(BATCH):
            pass
        states = {name: state for name, state in engine.status().items() if name in names}
    finally:
        engine.close()
    return {"by": "this command", "projections": states, "seconds": round(time.monotonic() - began, 3)}


def _asked(data_dir: Path, names: Sequence[str], locked: LogLocked) -> dict[str, Any]:
    """The running server rebuilds, one after the other."""
    began = time.monotonic()
    states: dict[str, Mapping[str, Any]] = {}
    for name in names:
        try:
            states[name] = ask(data_dir, {"command": "rebuild", "projection": name})
        except NotRunning as error:
            raise ReplayError(f"{locked}, but it does not listen on its control socket") from error
        except ControlError as error:
            raise ReplayError(f"the server did not rebuild {name}: {error}") from error
    return {"by": "the running server", "projections": states, "seconds": round(time.monotonic() - began, 3)}


def _told(done: Mapping[str, Any]) -> str:
    lines = [
        f"{name}: folded to position {state.get('position')}{_why(state.get('halted'))}"
        for name, state in done["projections"].items()
    ]
    if done["dropped"]:
        lines.append(
            f"history up to position {done['dropped']} is gone: tables began with its snapshot, files begin behind it"
        )
    return "\n".join([*lines, f"by {done['by']} in {done['seconds']} s"])


def _why(halted: Mapping[str, Any] | None) -> str:
    """What it stopped at, and why."""
    return f", halted by {halted['type']} at {halted['position']}: {printable(halted['error'])}" if halted else ""
