"""Who is calling: the API key in a header, or a ticket in a URL; and the key that a public address makes for itself."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.config import ConfigError, Settings
from gateway.errors import Unauthorized
from gateway.redaction import Redactor, keep_private
from gateway.tickets import Tickets

ANONYMOUS = "anonymous"
"""The key id of every caller of a server without an API key."""
KEY_HEADERS = ("x-api-key", "api-key", "x-goog-api-key")
"""Where it stands beside `Authorization: Bearer`."""


class Authenticator:
    """Holds the API key's digest and compares in constant time. Without an API key everyone may come in."""

    def __init__(self, api_key: str | None, redactor: Redactor, tickets: Tickets) -> None:
        self._digest = _digest(api_key) if api_key else None
        self._key_id = f"key-{redactor.fingerprint(api_key)}" if api_key else ANONYMOUS
        self._tickets = tickets

    @property
    def keyed(self) -> bool:
        """Whether callers must present a key."""
        return self._digest is not None

    def identify(self, headers: Mapping[str, str], ticket: str | None = None, key: str | None = None) -> str:
        """The caller's key id for events: `key-<12 hex>`, or `anonymous`. Raises `Unauthorized`.

        `headers` are looked up in lower case (a case-insensitive mapping serves). `ticket` is the `access_token` of a
        GET request's URL; the API key itself is not accepted there, but for the protocols that have it there: it
        is `key` then.
        """
        if self._digest is None:
            return ANONYMOUS
        presented = _presented(headers) + ([key] if key else [])
        # No early way out: how long the comparison takes must not tell which header was nearly right.
        matches = [hmac.compare_digest(_digest(value), self._digest) for value in presented]
        if any(matches):
            return self._key_id
        if ticket is not None and (key_id := self._tickets.redeem(ticket)):
            return key_id
        raise _refusal(bool(presented), ticket is not None)


def _presented(headers: Mapping[str, str]) -> list[str]:
    """The credentials that stand in headers, wherever a client library puts them."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return [value for value in (bearer, *(headers.get(name, "") for name in KEY_HEADERS)) if value]


def _refusal(key: bool, ticket: bool) -> Unauthorized:
    challenge = {"WWW-Authenticate": "Bearer"}
    if key:
        return Unauthorized("The API key is not the one of this server.", headers=challenge)
    if ticket:
        return Unauthorized("The ticket is unknown, already used, or older than 60 seconds.", headers=challenge)
    return Unauthorized(
        f"This server demands its API key: as Authorization: Bearer, or as {' or '.join(KEY_HEADERS)}.",
        headers=challenge,
    )


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()


class RejectionLimiter:
    """How many refused callers are written down: a flood of them must not fill the disk. `monotonic` in seconds."""

    def __init__(self, monotonic: Callable[[], float], per_minute: int = 60) -> None:
        self._monotonic, self._per_minute = monotonic, per_minute
        self._minute, self._count = -1, 0
        self.suppressed = 0

    def admit(self) -> bool:
        """Whether this one may be recorded; those that may not are counted in `suppressed`."""
        minute = int(self._monotonic() // 60)
        if minute != self._minute:
            self._minute, self._count = minute, 0
        self._count += 1
        if self._count <= self._per_minute:
            return True
        self.suppressed += 1
        return False


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def ensure_api_key(settings: Settings) -> tuple[Settings, str | None]:
    """The settings with the key that an address reachable from outside demands, and that key if it was made here.

    Kept in `<data_dir>/api_key` (0600) and used again at the next start; the caller prints it. A loopback
    address, a configured key, and `--allow-unauthenticated` leave the settings as they are. Raises `ConfigError`.
    """
    if settings.api_key or settings.allow_unauthenticated or is_loopback(settings.host):
        return settings, None
    path = settings.data_dir / "api_key"
    key = keep_private(path, lambda: secrets.token_urlsafe(32).encode()).decode("utf-8", "replace").strip()
    if len(key) < 8:
        raise ConfigError(f"{path} holds no usable API key: delete it, and a new one is made")
    return replace(settings, api_key=key), key
