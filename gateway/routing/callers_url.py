"""Which URLs a request may send its call to. Pure.

A server-held credential never goes there (`choose.credential`), and what such a host answers as an error is not shown.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from gateway.errors import Forbidden, InvalidRequest

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_base_url(url: str, allowlist: Collection[str], bound_to_loopback: bool) -> str:
    """The URL, if its host is on the allowlist (`host` or `host:port`, lower case), or is loopback while the server
    itself can be reached from loopback only. Raises `InvalidRequest`, `Forbidden`."""
    parts = check_url(url)
    host = (parts.hostname or "").lower()
    named = host in allowlist or f"{host}:{parts.port}" in allowlist
    if not named and not (bound_to_loopback and host in LOOPBACK):
        raise Forbidden(
            "base_url may only name hosts that the operator allows (ABSTRACTCORE_BASE_URL_ALLOWLIST).",
            param="base_url",
            code="base_url_not_allowed",
        )
    return url


def check_url(url: str) -> SplitResult:
    """The parts of a URL that can be a provider's, wherever it is. Raises `InvalidRequest`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        port, parts = None, urlsplit("")
    plain = not any(ord(letter) <= 32 or letter == "\\" for letter in url)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.username is not None
        or port == 0
        or not plain
    ):
        raise InvalidRequest("base_url must be an http(s) URL without credentials in it.", param="base_url")
    if "?" in url or "#" in url:  # also empty ones: what is put behind the URL would be no path
        raise InvalidRequest("base_url must have no query and no fragment.", param="base_url")
    return parts
