"""What can go wrong with the log.

LogError
├── WrongExpectedVersion   the stream is not at the version the writer expected; nothing was written
├── LogBusy                new work is not taken now: the queue of waiting appends is full; try again later
│   ├── LogFull            … the disk is nearly full; try again when there is room
│   └── LogHeld            … another process holds a lock on the file; try again when it has let go
├── LogRefused             the database's own rules refuse what was asked; nothing was written
├── LogClosed              the log was closed by us; no append is accepted any more
├── LogUnavailable         the disk refused; the process must stop, and verify at its next start
├── LogCorrupt             stored bytes do not agree with their digests or columns
├── LogLocked              another process owns this data directory
└── UnknownEventType       the catalogue has no such type, or not in that schema version
"""

from __future__ import annotations


class LogError(Exception):
    """Anything that the log refuses or fails to do."""


class WrongExpectedVersion(LogError):
    """The stream is not at the version the writer expected; nothing of the append was written."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"stream {stream} is at version {actual}, expected {expected}")
        self.stream, self.expected, self.actual = stream, expected, actual


class LogBusy(LogError):
    """New work is not taken now; nothing was queued. Try again after `retry_after_s` seconds."""

    retry_after_s = 1


class LogFull(LogBusy):
    """The disk is nearly full, and what room there is belongs to what runs already. It passes by itself."""

    retry_after_s = 30


class LogHeld(LogBusy):
    """Another process has held a lock on the file for long; nothing was written. It passes by itself."""

    retry_after_s = 5


class LogRefused(LogError):
    """The database's own rules refuse what was asked; nothing was written."""


class LogClosed(LogError):
    """The log was closed by us; no append is accepted any more."""


class LogUnavailable(LogError):
    """The disk refused a write or a sync. What was not acknowledged is unknown: stop, and verify at the next start."""


class LogCorrupt(LogError):
    """Stored bytes do not agree with their digests or columns."""

    def __init__(self, position: int, what: str) -> None:
        super().__init__(f"position {position}: {what}")
        self.position, self.what = position, what


class LogLocked(LogError):
    """Another process owns this data directory."""


class UnknownEventType(LogError):
    """The catalogue has no such type, or not in that schema version."""
