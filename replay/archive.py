"""Move old history into compressed, verified files that all other commands read like the rest, or drop such files: by
the running server if there is one, else here, under the directory's lock."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eventstore.archiving import position_before
from eventstore.errors import LogLocked
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from gateway.archivist import Archivist
from gateway.control import ControlError, NotRunning, ask
from replay.output import tell
from replay.recorded import ReplayError

HELP = "move old history into compressed files, or drop it"
DAY_S = 86_400


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `archive` understands."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--before", type=place, metavar="POSITION|DATE", help="archive what lies before it (a date is UTC, ISO 8601)"
    )
    what.add_argument("--keep-days", type=days, metavar="N", help="archive what is older than so many days")
    what.add_argument(
        "--drop-before",
        type=place,
        metavar="POSITION|DATE",
        help="delete archived files that lie wholly before it and that every projection has folded",
    )


def run(options: argparse.Namespace) -> int:
    """Exit code 0, also where there was nothing to do. Raises `ReplayError` where it was refused."""
    command = "archive" if options.drop_before is None else "drop"
    with Reader(options.data_dir) as reader:
        until = _until(options, reader)
    try:
        done = asyncio.run(_here(options.data_dir, command, until))
    except LogLocked as locked:
        done = _asked(options.data_dir, {"command": command, "until": until}, locked)
    except ControlError as error:
        raise ReplayError(str(error)) from error
    tell(done, options.json, _told)
    return 0


def _until(options: argparse.Namespace, reader: Reader) -> int:
    """The last position that may go."""
    if options.keep_days is not None:
        return position_before(reader, int(max(0.0, time.time() - options.keep_days * DAY_S) * 1_000_000))
    before: int | datetime = options.drop_before if options.before is None else options.before
    if isinstance(before, int):
        return min(max(before - 1, 0), reader.head())
    return position_before(reader, int(before.timestamp() * 1_000_000))


def place(text: str) -> int | datetime:
    """A position, or a date of ISO 8601, in UTC unless it says otherwise. Raises `ArgumentTypeError`."""
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a position nor a date") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def days(text: str) -> float:
    """How many, none or more. Raises `ArgumentTypeError`."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return number


async def _here(data_dir: Path, command: str, until: int) -> Mapping[str, Any]:
    """In this process, as the one owner of the log. Raises `LogLocked`, `ControlError`."""
    log = await SQLiteLog.open(data_dir)
    try:
        return {"by": "this command", **await Archivist(log, data_dir, log.previous).asked(command, until)}
    finally:
        await log.close()


def _asked(data_dir: Path, request: Mapping[str, Any], locked: LogLocked) -> Mapping[str, Any]:
    try:
        return {"by": "the running server", **ask(data_dir, request)}
    except NotRunning as error:
        raise ReplayError(f"{locked}, but it does not listen on its control socket") from error
    except ControlError as error:
        raise ReplayError(f"the server refused: {error}") from error


def _told(done: Mapping[str, Any]) -> str:
    if "dropped" in done:
        lines = [f"dropped {name}" for name in done["dropped"]] or ["nothing to drop"]
        lines.append(f"every projection has folded the log up to position {done['folded']}")
    else:
        lines = [_line(segment) for segment in done["segments"]] or ["nothing to archive"]
    return "\n".join([*lines, f"by {done['by']}"])


def _line(segment: Mapping[str, Any]) -> str:
    return (
        f"{segment['name']}: {segment['events']} events, {segment['frames']} rows of frames, {segment['size']:,} bytes"
    )
