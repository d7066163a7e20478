"""Make rows that are not as they were written again from JetStream, to the byte, and record it. The server must not be
running. What JetStream no longer has cannot be repaired: then nothing is changed."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sqlite3
import tempfile
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import orjson

from eventstore import rows
from eventstore.catalogue.control import LogRepaired
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.jetstream import JetStream, JetStreamError
from eventstore.lock import DirectoryLock
from eventstore.reader import Reader
from eventstore.repair import Mended, mend_events, mend_frames
from eventstore.repair_file import DAMAGED, copies, kept, put_in_place, write_mended
from eventstore.sqlite import SQLiteLog
from gateway.exchange.runs import run_of
from gateway.nats_server import NatsServer
from replay.recorded import ReplayError
from replay.verify import verified

HELP = "make damaged rows again from NATS (server stopped)"
NATS_WITHIN_S = 15.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `repair` understands."""
    parser.add_argument(
        "--nats", metavar="URL", default="embedded", help="where the events are (default: embedded, the bundled server)"
    )


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or 1 where something could not be found again; then the log is as it was."""
    with DirectoryLock(options.data_dir):
        report = asyncio.run(repaired(options.data_dir, options.nats))
    print(orjson.dumps(report).decode() if options.json else _told(report))
    return 1 if report["lost"] else 0


async def repaired(data_dir: Path, nats: str) -> dict[str, Any]:
    """`{events, frames, lost}`: positions of the rows made again, and sentences. The caller holds the lock.

    Raises `ReplayError` where NATS cannot be asked, or where what was made does not verify."""
    path = data_dir / rows.FILE
    _settle(path)
    with Reader(path) as reader:
        if reader.sealed():
            raise ReplayError("a log with an archive cannot be repaired: restore its directory from a backup")
    mended = await asyncio.to_thread(kept, path)
    found = Mended()
    copied = await _copies(data_dir, nats)
    mend_events(mended[0], copied, found)
    mend_frames(mended[1], copied, run_of, found)
    _check_whole(found)
    if not found.lost:
        await _replace(data_dir, found)
    return {"events": found.changed_events, "frames": found.changed_frames, "lost": found.lost}


def _settle(path: Path) -> None:
    """Everything into the file itself: what a crash left beside it belongs to it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise ReplayError(f"another process reads {path}: stop it first")


async def _copies(data_dir: Path, nats: str) -> Any:
    async with AsyncExitStack() as opened:
        try:
            async with asyncio.timeout(NATS_WITHIN_S):
                url = await _bundled(data_dir, opened) if nats == "embedded" else nats
            js = await JetStream.connect(url.split(","))
            opened.push_async_callback(js.close)
            return await copies(js)
        except (JetStreamError, TimeoutError) as error:
            raise ReplayError(f"NATS cannot be asked: {error}") from error


async def _bundled(data_dir: Path, opened: AsyncExitStack) -> str:
    server = NatsServer(data_dir)
    task = asyncio.create_task(server.run())
    opened.push_async_callback(server.stop)
    opened.callback(task.cancel)
    return await server.address()


def _check_whole(found: Mended) -> None:
    """Every position is there once, or it is not the log."""
    positions = found.events.keys() | found.frames.keys()
    if both := found.events.keys() & found.frames.keys():
        found.lost.append(f"position {min(both)}: two rows belong there")
    if missing := sorted(set(range(1, max(positions, default=0) + 1)) - positions):
        found.lost.append(f"{len(missing)} rows, the first at position {missing[0]}: nobody has them")


async def _replace(data_dir: Path, found: Mended) -> None:
    """Write the file anew, have it say so itself, prove it, and put it in place."""
    if not found.changed_events and not found.changed_frames:
        with Reader(data_dir) as reader:
            if not verified(reader)["findings"]:
                return
    made = Path(tempfile.mkdtemp(prefix="repair-", dir=data_dir))
    try:
        write_mended(data_dir / rows.FILE, made / rows.FILE, found)
        log = await SQLiteLog.open(made)
        event = LogRepaired(node=log.origin[:9], events=found.changed_events, frames=found.changed_frames)
        await log.append(StreamWrite(f"node-{log.origin}", ANY_VERSION, (event.new(),)))
        await log.close()
        with Reader(made) as reader:
            if findings := verified(reader)["listed"]:
                raise ReplayError(f"what was made does not verify, nothing is changed: {findings[0]['what']}")
        put_in_place(made / rows.FILE, data_dir / rows.FILE)
    finally:
        shutil.rmtree(made)


def _told(report: dict[str, Any]) -> str:
    if report["lost"]:
        return "\n".join([*report["lost"], "nothing is changed"])
    rows_made = len(report["events"]) + len(report["frames"])
    if not rows_made:
        return "every row is as it was written"
    return f"{rows_made} rows made again; the damaged file is kept as {DAMAGED}"
