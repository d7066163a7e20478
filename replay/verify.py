"""Prove the log: the file, the archive, chains and columns, frames and blobs against what binds them, and every
finished answer rendered again."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from eventstore.archive_ends import ArchiveEnds
from eventstore.database import NODE_UNKNOWN
from eventstore.envelope import Recorded
from eventstore.errors import LogCorrupt
from eventstore.reader import Reader
from eventstore.verify import Finding, Verifier
from eventstore.wal import kept_beside, lost_behind
from gateway.exchange.runs import run_of
from projections.snapshots import damage
from replay.decisions import check_decisions
from replay.output import tell
from replay.rerender import Requests
from replay.rerender_parts import check_in_parts

HELP = "check digests, frames and every rendered answer"
SHARED_FROM = 20_000
"""Ledger events from which on rendering is shared: every process takes a second to begin."""
LISTED = 100
"""Findings that are shown; all are counted."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """It checks the whole log."""
    parser.add_argument(
        "--decisions",
        action="store_true",
        help="also decide again, from its recorded inputs, each virtual route and what followed each failure",
    )
    parser.add_argument(
        "--jobs", type=_jobs, metavar="N", help="processes that render (default: one a core, for a small log one)"
    )


def _jobs(text: str) -> int:
    """One or more. Raises `ArgumentTypeError`."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or 1 where anything was found. Requests without an end are reported, but are no finding."""
    with Reader(options.data_dir) as reader:
        report = verified(reader, options.decisions, options.jobs)
    tell(report, options.json, _told)
    return 1 if report["findings"] else 0


def verified(reader: Reader, decisions: bool = False, jobs: int | None = 1) -> dict[str, Any]:
    """What was found in the log as it is now: counts, how many `findings` with the first of them `listed`, the streams
    of `open` requests, and how long each half took, in seconds. Where SQLite cannot walk the file, or a stream has a
    row that is not as it was written, nothing is rendered from it. `jobs` processes render, None for as many as are
    worth it. Done again where history is dropped meanwhile. Raises `LogCorrupt` where not even the end is found.
    """
    while True:
        dropped = reader.dropped()
        report = _verified(reader, decisions, jobs)
        if reader.dropped() == dropped:
            return report


def _verified(reader: Reader, decisions: bool, jobs: int | None) -> dict[str, Any]:
    until = reader.head()
    verifier, requests, findings = Verifier(run_of, reader.dropped()), Requests(), _Findings()
    began = time.monotonic()
    whole = findings.add(_structure(reader)) and not findings.count
    whole = findings.add(_segments(reader)) and not findings.count and whole
    findings.add(_snapshot(reader))
    findings.add(_write_ahead(reader, until))
    rows, ends = reader.rows(until=until), ArchiveEnds(reader.sealed(), reader.dropped())
    whole = findings.add(_rows(ends.passing(rows) if reader.sealed() else rows, verifier)) and whole
    counted = findings.count
    whole = whole and findings.add(ends.check(reader)) and findings.count == counted
    whole = findings.add(_blobs(reader)) and whole
    proved = time.monotonic()
    if whole:
        jobs = _worth(verifier.events) if jobs is None else jobs
        findings.add(check_in_parts(reader, until, requests, verifier.unsound, jobs))
        if decisions:
            findings.add(check_decisions(reader, until))
    return {
        "position": until,
        "dropped": reader.dropped(),
        "rows": verifier.rows,
        "events": verifier.events,
        "requests": requests.seen,
        "rendered": requests.rendered,
        "unretained": requests.unretained,
        "sources_dropped": requests.dropped,
        "open": sorted(requests.open),
        "findings": findings.count,
        "listed": findings.listed,
        "seconds_rows": round(proved - began, 3),
        "seconds_rendering": round(time.monotonic() - proved, 3),
    }


def _worth(events: int) -> int:
    """How many processes should render the answers among so many events."""
    return os.cpu_count() or 1 if events >= SHARED_FROM else 1


def _structure(reader: Reader) -> Iterator[Finding]:
    if not reader.node_known():
        yield Finding(0, NODE_UNKNOWN)
    for what in reader.structure():
        yield Finding(0, what)


def _rows(rows: Iterator[Recorded], verifier: Verifier) -> Iterator[Finding]:
    for row in rows:
        yield from verifier.check(row)


def _segments(reader: Reader) -> Iterator[Finding]:
    for position, what in reader.segment_damages():
        yield Finding(position, what)


def _snapshot(reader: Reader) -> Iterator[Finding]:
    if (left := reader.snapshot()) and (what := damage(*left)):
        yield Finding(reader.dropped(), what)


def _write_ahead(reader: Reader, head: int) -> Iterator[Finding]:
    if hidden := lost_behind(reader.path):
        yield Finding(head, f"the write-ahead log is damaged: up to {hidden} transactions behind here cannot be read")
    for name in kept_beside(reader.path):
        yield Finding(
            0, f"{name} is a damaged write-ahead log: some of the log's end was lost when a server started on it"
        )


def _blobs(reader: Reader) -> Iterator[Finding]:
    for what in reader.blob_damages():
        yield Finding(0, what)


class _Findings:
    """All are counted, the first are kept."""

    def __init__(self) -> None:
        self.count = 0
        self.listed: list[dict[str, Any]] = []

    def add(self, found: Iterable[Finding]) -> bool:
        """Whether the file could be read to the end of what was searched."""
        try:
            for finding in found:
                self._note(finding)
        except LogCorrupt as error:
            self._note(Finding(error.position, error.what))
            return False
        return True

    def _note(self, finding: Finding) -> None:
        self.count += 1
        if len(self.listed) < LISTED:
            self.listed.append({"position": finding.position, "what": finding.what})


def _told(report: dict[str, Any]) -> str:
    lines = [f"position {finding['position']}: {finding['what']}" for finding in report["listed"]]
    if report["findings"] > len(lines):
        lines.append(f"… and {report['findings'] - len(lines)} more")
    if report["dropped"]:
        lines.append(f"history up to position {report['dropped']} was dropped")
    if report["sources_dropped"]:
        lines.append(f"{report['sources_dropped']} later requests were given answers of it, which are gone with it")
    lines += [f"open: {stream}" for stream in report["open"]]
    lines.append(
        f"{report['rows']} rows ({report['events']} events) checked in {report['seconds_rows']} s"
        f" ({_rate(report['rows'], report['seconds_rows'])} rows/s);"
        f" {report['rendered']} of {report['requests']} answers rendered again in {report['seconds_rendering']} s"
        f" ({_rate(report['rendered'], report['seconds_rendering'])} answers/s),"
        f" {report['unretained']} not retained, {len(report['open'])} open"
    )
    lines.append("all well" if not report["findings"] else f"{report['findings']} findings")
    return "\n".join(lines)


def _rate(count: int, seconds: float) -> str:
    return f"{count / seconds:,.0f}" if seconds else "-"
