"""Where an answer goes, as the exchange sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol
from urllib.parse import quote

LONGEST_HEADER = 1024
_PLAIN = "[]. "


def in_header(names: Iterable[str]) -> str:
    """The names of a request's fields as a header can carry them: percent-encoded where they are no plain words, and no
    more than have room in 1 KiB."""
    said = ""
    for name in names:
        more = f"{said}, {quote(name, safe=_PLAIN)}" if said else quote(name, safe=_PLAIN)
        if len(more) > LONGEST_HEADER:
            return f"{said}, ..." if said else "..."
        said = more
    return said


class Outlet(Protocol):
    """A client. The exchange never waits for it to read: an outlet that falls behind reads the log by itself."""

    @property
    def began(self) -> bool:
        """Whether the head of a streamed answer is out."""

    def prepare(self, headers: Mapping[str, str]) -> None:
        """Headers that the answer will carry, whatever it is; an empty one takes back what was said before."""

    async def release(self, data: bytes) -> None:
        """Bytes of a streamed answer, each recorded before."""

    def ending(self) -> None:
        """How the answer ends is being recorded: from now on no ping may begin it, or follow its end."""

    async def finish(self, data: bytes) -> None:
        """The last bytes of a streamed answer."""

    async def abort(self) -> None:
        """There will be no end: close the connection, so that nobody takes what came for the whole."""

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """A whole answer: a body, or an error before a stream began."""

    def gone(self) -> bool:
        """Whether the client left."""

    def tick(self, now: float) -> None:
        """Called a few times a second (monotonic seconds): keeps an idle stream alive with a comment ping."""
