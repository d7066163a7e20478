"""Make rows and archived files that are not as they were written again from JetStream, to the byte, and record it.
Beside a running server only archived files: it holds the rest. What JetStream no longer has cannot be repaired: then
nothing is changed."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from eventstore import rows
from eventstore.archive import DIRECTORY
from eventstore.catalogue.control import LogRepaired
from eventstore.database import spare
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.errors import LogCorrupt, LogLocked
from eventstore.lock import DirectoryLock
from eventstore.reader import Reader, check_version
from eventstore.repair import Before, Copies, Mended, mend_events, mend_frames, missing
from eventstore.repair_archive import MendedArchive, mend_archive
from eventstore.repair_file import DAMAGED, kept, put_in_place, write_mended
from eventstore.sqlite import SQLiteLog
from gateway.exchange.runs import run_of
from gateway.nats_urls import are_nats_urls
from replay.output import tell
from replay.recorded import ReplayError
from replay.repair_beside import repaired_beside
from replay.repair_sources import copied_from, copied_of_bundled, emptied
from replay.verify import verified

HELP = "make damaged rows again from NATS; of a running server, its archive"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `repair` understands."""
    parser.add_argument(
        "--nats",
        metavar="URL",
        type=_nats,
        default="embedded",
        help="where the events are (default: embedded, the bundled server)",
    )


def _nats(text: str) -> str:
    """Raises `ArgumentTypeError`, which does not say the URL: it may hold a password."""
    if text != "embedded" and not are_nats_urls(text):
        raise argparse.ArgumentTypeError("this is neither embedded nor a URL such as nats://127.0.0.1:4222")
    return text


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or 1 where something could not be found again; then the log is as it was."""
    if not (options.data_dir / rows.FILE).exists():
        raise ReplayError(f"there is no log in {options.data_dir}")
    try:
        with DirectoryLock(options.data_dir):
            report = asyncio.run(repaired(options.data_dir, options.nats))
    except LogLocked as locked:
        report = repaired_beside(options.data_dir, options.nats, locked)
    tell(report, options.json, _told)
    return 1 if report["lost"] else 0


async def _copied(data_dir: Path, nats: str) -> Copies:
    return await (copied_of_bundled(data_dir) if nats == "embedded" else copied_from(nats))


async def repaired(
    data_dir: Path, nats: str, copied_of: Callable[[Path, str], Awaitable[Copies]] = _copied
) -> dict[str, Any]:
    """`{events, frames, files, lost}`: positions of the rows made again, files of the archive made anew, and sentences.
    The caller holds the lock. `copied_of`: what there are copies of.

    Raises `ReplayError` where NATS cannot be asked, or where what was made does not verify."""
    path = data_dir / rows.FILE
    _settle(path)
    copied = await copied_of(data_dir, nats)
    with emptied(data_dir) as aside:
        archive = await asyncio.to_thread(mend_archive, data_dir, aside / DIRECTORY, copied, run_of)
        found = _live(path, copied, archive.before) if not archive.lost else None
        lost = archive.lost + (found.lost if found else [])
        if found and not lost:
            archive.put_in_place()
            await _replace(data_dir, aside, found, archive)
    return {
        "events": sorted(archive.events + (found.changed_events if found else [])),
        "frames": sorted(archive.frames + (found.changed_frames if found else [])),
        "files": [made.name for made, _ in archive.made],
        "lost": lost,
    }


def _live(path: Path, copied: Copies, before: Before) -> Mended:
    events, frames, head = kept(path, before.through)
    found = Mended(before.through, head)
    mend_events(events, copied, found, before)
    mend_frames(frames, copied, run_of, found, before)
    found.lost += missing(found)
    return found


def _settle(path: Path) -> None:
    """Everything into the file itself: what a crash left beside it belongs to it, as a start would have it. Where that
    finds nothing that holds together, rows are looked up one by one in what SQLite makes of it."""
    with suppress(LogCorrupt):
        spare(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        check_version(connection)
        if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise ReplayError(f"another process reads {path}: stop it first")


async def _replace(data_dir: Path, aside: Path, found: Mended, archive: MendedArchive) -> None:
    """Write the file anew, have it say so itself, prove it with its archive, and put it in place."""
    if not (found.changed_events or found.changed_frames or archive.made):
        with Reader(data_dir) as reader:
            if not verified(reader)["findings"]:
                return
    made = aside / rows.FILE
    await asyncio.to_thread(write_mended, data_dir / rows.FILE, made, found, archive.ends)
    log = await SQLiteLog.open(aside)
    try:
        changed = sorted(archive.events + found.changed_events), sorted(archive.frames + found.changed_frames)
        event = LogRepaired(node=log.origin[:9], events=changed[0], frames=changed[1])
        await log.append(StreamWrite(f"node-{log.origin}", ANY_VERSION, (event.new(),)))
    finally:
        await log.close()
    _lend(data_dir / DIRECTORY, aside / DIRECTORY)
    with Reader(aside) as reader:
        if findings := verified(reader)["listed"]:
            raise ReplayError(f"what was made does not verify, the file stays as it is: {findings[0]['what']}")
    put_in_place(made, data_dir / rows.FILE)


def _lend(archive: Path, beside: Path) -> None:
    """The archive to what was made, to be proven with it."""
    shutil.rmtree(beside, ignore_errors=True)
    if archive.exists():
        beside.symlink_to(archive.absolute(), target_is_directory=True)


def _told(report: dict[str, Any]) -> str:
    if report["lost"]:
        return "\n".join([*report["lost"], "nothing is changed"])
    beside = "; a server runs, so live rows were left alone" if report.get("beside") else ""
    rows_made = len(report["events"]) + len(report["frames"])
    if not rows_made and not report["files"]:
        return f"every row is as it was written{beside}"
    files = "".join(f", {name} made anew" for name in report["files"])
    where = f"what was damaged is kept as {DAMAGED} or, in the archive, *.damaged"
    return f"{rows_made} rows made again{files}; {where}{beside}"
