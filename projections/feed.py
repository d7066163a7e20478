"""The live feed: one recorded event becomes one server-sent event. Pure: who reads the log and who listens is not here.

    id: <cursor>          opaque; what `Last-Event-ID` and `?after=` take
    event: <type>
    data: {…}             the flat event object on one line, without its content unless that was asked for

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from eventstore.catalogue import REGISTRY
from eventstore.catalogue.request import TERMINAL
from eventstore.envelope import RecordedEvent

PING = b": ping\n\n"
"""A comment: keeps the connection open, carries nothing."""
ENVELOPE = ("type", "schema", "stream", "version", "origin", "oseq", "time", "request_id", "session_id")
"""What is shown of an event whose type this release does not know, and so not its content either."""
TOKEN = "token_generated"  # noqa: S105  the name of an event
_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_CURSOR = re.compile(rb"(\d{1,19})\.(\d{1,19})\.([a-z0-9]{0,64})\.(\d{1,19})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the feed: everything up to here was seen. `frame` is 0, or the last seen frame of the frames row at
    `position`. `origin` and `oseq` (of the event there) tell whether it is a place in this very log."""

    position: int
    frame: int = 0
    origin: str = ""
    oseq: int = 0

    @property
    def after(self) -> int:
        """Read the log from behind this position; where `frame` is set, pass over the frames up to it."""
        return self.position - 1 if self.frame else self.position

    def encode(self) -> str:
        """As opaque text, `[A-Za-z0-9_-]+`."""
        plain = f"{self.position}.{self.frame}.{self.origin}.{self.oseq}"
        return base64.urlsafe_b64encode(plain.encode()).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """From a client. Raises `ValueError` for anything that `encode` cannot have made."""
        try:
            raw = text.encode("ascii")
            plain = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error) as error:
            raise ValueError("not a cursor of this feed") from error
        found = _CURSOR.fullmatch(plain)
        if found is None:
            raise ValueError("not a cursor of this feed")
        position, frame, origin, oseq = found.groups()
        return cls(int(position), int(frame), origin.decode(), int(oseq))


@dataclass(frozen=True, slots=True)
class Filter:
    """What a listener asked for; None is everything. Tokens come only to those who name their type."""

    types: frozenset[str] | None = None
    request_id: str | None = None
    session_id: str | None = None
    content: bool = False

    @property
    def tokens(self) -> bool:
        """Whether the frames lane is to be read too."""
        return self.types is not None and TOKEN in self.types


class Feed:
    """The events of one listener. `session_of` gives the session of a request whose beginning this feed did not see."""

    def __init__(self, wanted: Filter, session_of: Callable[[str], str | None] | None = None) -> None:
        self._wanted = wanted
        self._session_of = session_of
        self._sessions: dict[str, str | None] = {}

    def offer(self, event: RecordedEvent) -> bytes | None:
        """The next ledger event as a server-sent event, or None where the listener did not ask for it."""
        wanted = self._wanted
        if wanted.session_id is not None and not self._in_session(event):
            return None
        if wanted.types is not None and event.type not in wanted.types:
            return None
        if wanted.request_id is not None and event.body.get("request_id") != wanted.request_id:
            return None
        return frame(event, wanted.content)

    def offer_token(self, body: dict[str, Any], cursor: Cursor) -> bytes | None:
        """The same for a composed `token_generated` object; the cursor is its frame's."""
        wanted = self._wanted
        if not wanted.tokens or (wanted.request_id is not None and body["request_id"] != wanted.request_id):
            return None
        if wanted.session_id is not None and self._session(body["request_id"]) != wanted.session_id:
            return None
        return sse(TOKEN, _shown(TOKEN, body, wanted.content), cursor)

    def _in_session(self, event: RecordedEvent) -> bool:
        body = event.body
        request_id, session_id = body.get("request_id"), body.get("session_id")
        if event.type == "request_received":
            self._sessions[body["request_id"]] = session_id
        if request_id is None or session_id is not None:
            return bool(session_id == self._wanted.session_id)
        session = self._session(request_id)
        if event.type in TERMINAL:
            self._sessions.pop(request_id, None)
        return session == self._wanted.session_id

    def _session(self, request_id: str) -> str | None:
        if request_id not in self._sessions:
            self._sessions[request_id] = self._session_of(request_id) if self._session_of else None
        return self._sessions[request_id]


def frame(event: RecordedEvent, content: bool = False) -> bytes:
    """One recorded event as a server-sent event."""
    cursor = Cursor(event.position, 0, event.origin, event.oseq)
    cls = REGISTRY.get(event.type)
    if cls is not None and (content or not cls.CONTENT):
        return sse(event.type, event.data, cursor)
    return sse(event.type, _shown(event.type, event.body, content), cursor)


def sse(event_type: str, data: bytes, cursor: Cursor) -> bytes:
    """The frame. Raises `ValueError` for a type that is no word, or data that is no single line."""
    if not _TYPE.fullmatch(event_type) or b"\n" in data or b"\r" in data:
        raise ValueError("an event that server-sent events cannot carry")
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor.encode().encode(), event_type.encode(), data)


def _shown(event_type: str, body: dict[str, Any], content: bool) -> bytes:
    if content:
        return orjson.dumps(body)
    cls = REGISTRY.get(event_type)
    if cls is None:
        return orjson.dumps({name: body[name] for name in ENVELOPE if name in body})
    return orjson.dumps({name: value for name, value in body.items() if name not in cls.CONTENT})
