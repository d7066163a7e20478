"""Files from http(s) URLs that callers name: only from the public internet, whatever names and redirects say.

The addresses that a name resolves to are checked and then connected to, so that no second look-up can give others;
each redirect is one more URL, checked in the same way. No credentials, cookies or proxies take part.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.errors import InvalidRequest, TooLarge
from gateway.media.addresses import is_public

MOST_HOPS = 3
TOTAL_S = 15.0
CONNECT_S = 5.0
PORTS = frozenset({80, 443})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "abstractcore-server"}


class NotPublic(OSError):
    """The host has an address that is not on the public internet, or none at all."""


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only; those of `allowed` hosts to whatever they have."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses to connect to, all of them checked. Raises `NotPublic`."""
        found = await self.look_up(host, port, family)
        if not self.allows(host, port) and not (found and all(is_public(address) for address in found)):
            raise NotPublic(host)
        kind = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind[6 if ":" in address else 4], proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]  # fmt: skip

    async def look_up(self, host: str, port: int, family: socket.AddressFamily) -> list[str]:
        """The numeric addresses of a name. Raises `OSError`."""
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(info[4][0]) for info in infos))

    def allows(self, host: str, port: int | None) -> bool:
        """Whether the operator named this host."""
        return host in self._allowed or f"{host}:{port}" in self._allowed

    async def close(self) -> None:
        """Holds nothing."""


class Fetcher:
    """Fetches whole files. `allowed`: hosts (`host` or `host:port`, lower case) that need not be public."""

    resolver: type[PublicResolver] = PublicResolver

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self._resolver = self.resolver(allowed)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes its connections."""
        if self._session is not None:
            await self._session.close()

    async def fetch(self, url: str, where: str, limit: int) -> tuple[bytes, str | None]:
        """At most `limit` bytes, and their declared media type. `where` names the part in errors.

        Raises `InvalidRequest` for a URL that may not be or cannot be fetched, `TooLarge`.
        """
        try:
            async with asyncio.timeout(TOTAL_S):
                return await self._follow(url, where, limit)
        except TimeoutError as error:
            raise _failed(where, "it took too long") from error
        except aiohttp.ClientConnectorDNSError as error:  # `NotPublic` too
            raise _refused(where) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failed(where, "there was no proper answer") from error

    async def _follow(self, url: str, where: str, limit: int) -> tuple[bytes, str | None]:
        at = URL(url)
        for hop in range(MOST_HOPS + 1):
            self.check(at, where, hop)
            async with self._client().get(at, allow_redirects=False, headers=_HEADERS) as answer:
                if answer.status not in _REDIRECTS:
                    return await _read(answer, where, limit)
                at = at.join(URL(answer.headers.get("Location", "")))
        raise _failed(where, f"it was redirected more than {MOST_HOPS} times")

    def check(self, url: URL, where: str, hop: int) -> None:
        """Raises `InvalidRequest` for a URL whose looks alone forbid it; a name's addresses are checked when it is
        resolved, but a numeric host is never resolved."""
        host = url.host or ""
        plain = url.scheme in {"http", "https"} and host and url.user is None and url.password is None
        if not plain:
            raise _refused(where)
        if self._resolver.allows(host, url.port):
            return
        numeric = ":" in host or host.replace(".", "").isdigit()
        if url.port not in PORTS or (numeric and not is_public(host)):
            raise _refused(where)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False, force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=TOTAL_S, sock_connect=CONNECT_S),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


async def _read(answer: Any, where: str, limit: int) -> tuple[bytes, str | None]:
    if answer.status != 200:
        raise _failed(where, f"its server answered {answer.status}")
    data = bytearray()
    async for chunk in answer.content.iter_chunked(64 * 1024):
        data += chunk
        if len(data) > limit:
            raise TooLarge(f"The file at {where} is over {limit} bytes.", param=where)
    return bytes(data), answer.headers.get("Content-Type", "").partition(";")[0].strip().lower() or None


def _refused(where: str) -> InvalidRequest:
    """One text for all that is not public, so that nobody learns from it which names there are inside."""
    return InvalidRequest(
        f"The URL of {where} cannot be fetched: only http(s) URLs of hosts on the public internet are, at ports 80 and "
        "443 and without credentials. Send the file as a data URL.",
        param=where,
        code="url_not_allowed",
    )


def _failed(where: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"The URL of {where} could not be fetched: {why}.", param=where, code="url_not_fetched")
