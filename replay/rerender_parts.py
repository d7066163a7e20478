"""Rendering again in several processes: each takes the requests whose stream's name falls to it, and reads the log by
itself. What they find together is what one would have found, in the same order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from operator import itemgetter
from pathlib import Path
from zlib import crc32

from eventstore.errors import LogError
from eventstore.reader import Reader
from eventstore.verify import Finding
from replay.rerender import Requests, check_requests, findings_of

Part = tuple[Requests, list[tuple[int, Finding]]]


def check_in_parts(
    reader: Reader, until: int, requests: Requests, unsound: Collection[str], jobs: int
) -> Iterator[Finding]:
    """As `check_requests`, by so many processes."""
    parts = _parts(reader.path, until, unsound, jobs) if jobs > 1 else None
    if parts is None:
        yield from check_requests(reader, until, requests, unsound)
        return
    for counted, _ in parts:
        requests.add(counted)
    for _, finding in sorted((each for _, found in parts for each in found), key=itemgetter(0)):
        yield finding


def _parts(path: Path, until: int, unsound: Collection[str], jobs: int) -> list[Part] | None:
    """None where one of them could not read all of its part, or was killed: then one process tells as far as it can.

    Processes are spawned: a connection to SQLite must not be carried through a fork."""
    work = partial(_part, path, until, frozenset(unsound), jobs)
    try:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            parts = [part for part in pool.map(work, range(jobs)) if part is not None]
    except BrokenProcessPool:
        return None
    return parts if len(parts) == jobs else None


def _part(path: Path, until: int, unsound: frozenset[str], jobs: int, number: int) -> Part | None:
    """The requests that fall to one of the processes; None where the log cannot be read."""
    requests = Requests()

    def mine(stream: str) -> bool:
        return crc32(stream.encode()) % jobs == number and stream not in unsound

    try:
        with Reader(path) as reader:
            return requests, list(findings_of(reader, until, requests, mine))
    except LogError:
        return None
