"""Where a call goes, and what it says before its body. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import SplitResult, quote, unquote, urlsplit

from eventstore.value import value
from gateway.upstreams.upstream import UpstreamFailure

Origin = tuple[str, int, bool]
"""Host, port, TLS."""
PORTS = {"http": 80, "https": 443}
IN_TARGET = "/%:@!$&'()*+,;=?[]"
"""What stays as it is in a request target, beside letters, digits and `-._~`."""


@value
class Place:
    """What a URL comes to. `target` stands in the request line, `host` in the Host header, `authorization` is what the
    URL's userinfo asks for."""

    origin: Origin
    target: str
    host: str
    authorization: str | None


@lru_cache(maxsize=1024)
def place_of(url: str) -> Place:
    """The place of an http(s) URL. Raises `UpstreamFailure` for what is none."""
    try:
        return _place(urlsplit(url))
    except ValueError:
        # the cause is left out: its words hold the URL, which may hold a password
        raise UpstreamFailure("connect_failed", "the provider's URL cannot be used") from None


def _place(parts: SplitResult) -> Place:
    host = parts.hostname
    if parts.scheme not in PORTS or not host:
        raise ValueError("no http URL")
    if not host.isascii():
        host = host.encode("idna").decode()
    shown = f"[{host}]" if ":" in host else host
    target = quote(parts.path or "/", IN_TARGET) + (f"?{quote(parts.query, IN_TARGET)}" if parts.query else "")
    return Place(
        (host, parts.port or PORTS[parts.scheme], parts.scheme == "https"),
        target,
        shown if parts.port is None else f"{shown}:{parts.port}",
        _basic(parts),
    )


def _basic(parts: SplitResult) -> str | None:
    """Userinfo as RFC 7617 says it."""
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(pair.encode()).decode()}"


def request_head(place: Place, headers: Mapping[str, str], length: int) -> bytes:
    """The bytes before a POST's body of so many bytes. `headers` have lower-case names.

    Raises `UpstreamFailure` for a value that would break out of its line, or that a header cannot say.
    """
    lines = [f"POST {place.target} HTTP/1.1", f"host: {place.host}"]
    lines += [f"{name}: {said}" for name, said in headers.items()]
    if place.authorization is not None and "authorization" not in headers:
        lines.append(f"authorization: {place.authorization}")
    lines += [f"content-length: {length}", "", ""]
    head, breaks = "\r\n".join(lines), len(lines) - 1
    if head.count("\n") != breaks or head.count("\r") != breaks or "\0" in head:
        raise UpstreamFailure("connect_failed", "a header of the call holds a line break")
    try:
        return head.encode("latin-1")
    except UnicodeEncodeError:
        raise UpstreamFailure("connect_failed", "a header of the call holds what HTTP cannot say") from None
