"""JSON lines: cutting bytes into frames, one a line. Format: https://github.com/ndjson/ndjson-spec"""

from __future__ import annotations

from gateway.wire.values import WireError

LINE_LIMIT = 16 << 20
"""Bytes a line may have; a line can hold a whole tool call, and so a whole file."""


class LineFramer:
    """Cuts a stream into lines; blank ones are dropped. However the bytes are split, the same lines come out."""

    __slots__ = ("_length", "_limit", "_rest")

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._rest: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines completed by these bytes, without their ends. Raises `WireError` for one over the limit."""
        first, *lines = data.split(b"\n")
        self._keep(first)
        if not lines:
            return []
        whole = [self._line(), *lines[:-1]]
        self._keep(lines[-1])
        return [line for part in whole if (line := part.strip())]

    def end(self) -> list[bytes]:
        """A last line that its sender did not terminate, if there is one."""
        line = self._line().strip()
        return [line] if line else []

    def _keep(self, part: bytes) -> None:
        self._length += len(part)
        if self._length > self._limit:
            raise WireError(f"a line of the stream is longer than {self._limit} bytes")
        if part:
            self._rest.append(part)

    def _line(self) -> bytes:
        line = b"".join(self._rest)
        self._rest.clear()
        self._length = 0
        return line
