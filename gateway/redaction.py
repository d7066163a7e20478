"""Credentials: the one list of where they can stand, and what stands there in the log instead.

A credential is replaced by a keyed fingerprint, `redacted:<12 hex>` (HMAC-SHA256, cut to 48 bits). The same secret has
the same fingerprint on one installation, so that two requests with one key can be seen to share it; the fingerprint
gives nothing back without the installation's key. Everything is replaced before the first append: what an append-only
log has learnt it cannot forget.

Headers go by an allow-list (`RECORDED_HEADERS`): one that is not on it is not recorded at all. `CREDENTIAL_HEADERS`
names those that are credentials, for tests and for every place that shows headers it does not record.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus

import orjson

CREDENTIAL_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "x-auth-token",
        "x-amz-security-token",
        "x-abstractcore-provider-api-key",
        "ocp-apim-subscription-key",
        "cookie",
        "set-cookie",
    }
)
"""Headers whose whole value is a credential."""

RECORDED_HEADERS = frozenset(
    {
        "accept",
        "anthropic-beta",
        "anthropic-version",
        "content-type",
        "idempotency-key",
        "openai-beta",
        "openai-organization",
        "openai-project",
        "originator",
        "session-id",
        "thread-id",
        "traceparent",
        "user-agent",
        "x-abstractcore-cache",
        "x-abstractcore-cache-max-age",
        "x-abstractcore-max-cost-usd",
        "x-abstractcore-retention",
        "x-abstractcore-semantic-cache",
        "x-abstractcore-session-id",
        "x-abstractcore-tags",
        "x-app",
        "x-claude-code-session-id",
        "x-client-request-id",
        "x-request-id",
        "x-session-affinity",
        "x-session-id",
        "x-stainless-arch",
        "x-stainless-async",
        "x-stainless-helper-method",
        "x-stainless-lang",
        "x-stainless-os",
        "x-stainless-package-version",
        "x-stainless-read-timeout",
        "x-stainless-retry-count",
        "x-stainless-runtime",
        "x-stainless-runtime-version",
        "x-stainless-timeout",
    }
)
"""The only request headers that are recorded. None of them carries a credential."""

CREDENTIAL_FIELDS = frozenset(
    {
        "access_token",
        "api-key",
        "apiKey",
        "api_key",
        "apikey",
        "authorization",
        "authorization_token",
        "provider_api_key",
    }
)
"""Fields of a body, of `extra_body`, or of one of its `tools` or `mcp_servers`, whose value is a credential."""

HEADER_FIELDS = frozenset({"headers", "extra_headers", "default_headers"})
"""Fields of the same objects that hold headers to send somewhere: each value counts as a credential."""

URL_FIELDS = frozenset({"server_url", "base_url", "api_base", "url"})
"""Fields of the same objects that hold a URL, which can carry credentials in its userinfo and its query."""

CREDENTIAL_PARAMETERS = frozenset(
    {
        "access_token",
        "api-key",
        "api_key",
        "apikey",
        "auth",
        "authorization",
        "client_secret",
        "key",
        "password",
        "secret",
        "sig",
        "signature",
        "subscription-key",
        "token",
        "x-amz-credential",
        "x-amz-security-token",
        "x-amz-signature",
        "x-goog-credential",
        "x-goog-signature",
    }
)
"""Query parameters whose value is a credential, in lower case."""

PLACEHOLDERS = frozenset({"not-needed", "your-api-key", "lm-studio", "no-key-required", "placeholder", "undefined"})
"""What clients send where a library demands a key: words, not secrets, and never cut out of texts."""

SHORTEST_SECRET = 8
"""Shorter values are not cut out of texts: they would hit innocent words."""

_SENSITIVE = CREDENTIAL_FIELDS | HEADER_FIELDS | URL_FIELDS
_HOLDERS = ("tools", "mcp_servers")
_LONGEST_HEADER = 1024
_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,19}://)([^\s/?#\"'<>]*@)?([^\s?#\"'<>]*)(\?[^\s#\"'<>]*)?")


class Scrubber:
    """Cuts known secrets out of texts and bytes. `words`: each spelling of a secret, with what takes its place."""

    def __init__(self, words: Sequence[tuple[str, str]]) -> None:
        self._words = tuple(words)
        self._bytes = tuple((word.encode("utf-8", "surrogateescape"), mark.encode()) for word, mark in words)

    def text(self, text: str) -> str:
        """The text without the secrets: the same object where there is none."""
        for word, mark in self._words:
            if word in text:
                text = text.replace(word, mark)
        return text

    def bytes(self, data: bytes) -> bytes:
        """Bytes of any format without the secrets: the same object where there is none.

        A secret that an upstream spreads over several frames is not found.
        """
        for word, mark in self._bytes:
            if word in data:
                data = data.replace(word, mark)
        return data


class Redactor:
    """Puts fingerprints where credentials stand. `key` is the installation's; `held` are its own secrets."""

    def __init__(self, key: bytes, held: Iterable[str] = ()) -> None:
        self._key = key
        self._held = self.scrubber(held)

    def fingerprint(self, secret: str) -> str:
        """12 hex digits that stand for this secret on this installation."""
        return hmac.new(self._key, secret.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:12]

    def mark(self, secret: str) -> str:
        """What is recorded instead of the secret."""
        return f"redacted:{self.fingerprint(secret)}"

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The recorded ones, names in lower case, values cut at 1 KiB, free of held secrets and of bytes that are no
        UTF-8, which JSON could not say."""
        kept = {
            lower: value[:_LONGEST_HEADER] if value.isascii() else _readable(value)[:_LONGEST_HEADER]
            for name, value in headers.items()
            if (lower := name.lower()) in RECORDED_HEADERS
        }
        together = "\n".join(kept.values())
        if self.text(together) != together:
            return {name: self.text(value) for name, value in kept.items()}
        return kept

    def body(self, body: dict[str, Any]) -> dict[str, Any]:
        """The request's body with its credentials replaced; the very same object where it has none. Never mutates."""
        changed = self._object(body)
        for field in _HOLDERS:
            if (held := body.get(field)) and type(held) is list:
                redacted = [self._object(item) if type(item) is dict else item for item in held]
                if any(new is not old for new, old in zip(redacted, held, strict=True)):
                    changed = {**changed, field: redacted}
        if type(extra := body.get("extra_body")) is dict and (new := self.body(extra)) is not extra:
            changed = {**changed, "extra_body": new}
        return changed

    def scrubber(self, known: Iterable[str]) -> Scrubber:
        """For these secrets alone. Make it once for a call and use it for each of its frames: an upstream can only
        repeat what it was sent."""
        words = {
            form: self.mark(secret) for secret in known if _is_secret(secret) for form in _spellings(secret)
        }  # longest first, so that no spelling is cut out of the middle of another
        return Scrubber(sorted(words.items(), key=lambda pair: -len(pair[0])))

    def text(self, text: str) -> str:
        """The text without any held secret, and without credentials in the URLs that it quotes."""
        text = self._held.text(text)
        return self.url(text) if "://" in text else text

    def bytes(self, data: bytes) -> bytes:
        """Bytes of any format without any held secret."""
        return self._held.bytes(data)

    def url(self, url: str) -> str:
        """The URL, or a text with URLs in it, with userinfo and credential-bearing query values replaced."""
        return _URL.sub(self._url, url)

    def _object(self, value: dict[str, Any]) -> dict[str, Any]:
        if _SENSITIVE.isdisjoint(value):
            return value
        return {name: self._field(name, held) if name in _SENSITIVE else held for name, held in value.items()}

    def _field(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in URL_FIELDS:
            return self.url(value) if isinstance(value, str) else value
        if name in HEADER_FIELDS and isinstance(value, dict):
            return {header: self._value(held) for header, held in value.items()}
        return self._value(value)

    def _value(self, value: Any) -> str:
        """A credential of whatever JSON type: its text is what counts."""
        return self.mark(value if isinstance(value, str) else orjson.dumps(value).decode())

    def _url(self, found: re.Match[str]) -> str:
        scheme, userinfo, rest, query = found.groups()
        if userinfo:
            rest = f"{self.mark(userinfo[:-1])}@{rest}"
        return scheme + rest + (self._query(query) if query else "")

    def _query(self, query: str) -> str:
        return "?" + "&".join(self._parameter(part) for part in query[1:].split("&"))

    def _parameter(self, part: str) -> str:
        name, equals, value = part.partition("=")
        if value and unquote_plus(name).lower() in CREDENTIAL_PARAMETERS and not value.startswith("redacted:"):
            value = self.mark(value)
        return name + equals + value


def credentials_in(body: Mapping[str, Any]) -> list[str]:
    """The credentials in a request's body, as their upstream may repeat them: whole, and without their scheme. Of
    headers only those that hold nothing else: others' values are words."""
    found = [] if _SENSITIVE.isdisjoint(body) else _credentials_of(body)
    for field in _HOLDERS:
        if type(held := body.get(field)) is list:
            for item in held:
                if type(item) is dict and not _SENSITIVE.isdisjoint(item):
                    found += _credentials_of(item)
    if type(extra := body.get("extra_body")) is dict:
        found += credentials_in(extra)
    return found


def _credentials_of(holder: Mapping[str, Any]) -> list[str]:
    values = [holder[name] for name in CREDENTIAL_FIELDS & holder.keys()]
    for name in HEADER_FIELDS & holder.keys():
        values += [value for header, value in _header_pairs(holder[name]) if str(header).lower() in CREDENTIAL_HEADERS]
    return [form for value in values if isinstance(value, str) for form in {value, value.rpartition(" ")[2]}]


def _header_pairs(headers: Any) -> Iterable[tuple[Any, Any]]:
    """Headers as an object, as pairs, or as objects of a name and a value each."""
    if isinstance(headers, dict):
        return headers.items()
    each = headers if isinstance(headers, list) else []
    named = [(one.get("name"), one.get("value")) for one in each if isinstance(one, dict)]
    return named + [(one[0], one[1]) for one in each if isinstance(one, list) and len(one) == 2]


def _readable(header: str) -> str:
    """The header with U+FFFD where its bytes were no UTF-8."""
    return header.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _is_secret(value: str) -> bool:
    return len(value) >= SHORTEST_SECRET and value.lower() not in PLACEHOLDERS


def _spellings(secret: str) -> list[str]:
    """A secret as it can stand in texts: plain, percent-encoded, in JSON, in JSON that escapes slashes."""
    spelled = [secret, quote(secret.encode("utf-8", "surrogateescape"), safe="")]
    try:
        escaped = orjson.dumps(secret)[1:-1].decode()
    except TypeError:  # not UTF-8, so it cannot stand in JSON either
        return spelled
    return [*spelled, escaped, escaped.replace("/", "\\/")]


def load_key(data_dir: Path) -> bytes:
    """The installation's 32 random bytes, in `<data_dir>/redaction.key` (0600), made at the first start."""
    return keep_private(data_dir / "redaction.key", lambda: secrets.token_bytes(32))


def keep_private(path: Path, make: Callable[[], bytes]) -> bytes:
    """The bytes of a private file (0600), which is made of `make()` where there is none yet.

    Made whole or not at all: written beside, synced, then linked into place; of two makers the first wins.
    """
    if path.exists():
        return path.read_bytes()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(make())
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(beside, path)
    except FileExistsError:
        pass
    finally:
        beside.unlink()
    return path.read_bytes()
