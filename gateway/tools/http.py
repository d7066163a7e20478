"""HTTP tools: the arguments are posted as JSON to an endpoint that the operator allows, its answer is the result.

Where an endpoint lies is the operator's word (`ABSTRACTCORE_TOOL_URL_ALLOWLIST`), private addresses included; no
redirect is followed, and no cookie or proxy takes part. A header's value comes from a variable that the operator lends
to this host, by name.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from gateway.config import LentKey
from gateway.errors import Forbidden, InvalidRequest
from gateway.routing.callers_url import check_url
from gateway.tools.values import OUTPUT_LIMIT, Progress, ToolTrouble

MOST_READ = 2 * OUTPUT_LIMIT
"""Bytes of an answer: what is shown ends far before, so that no secret is cut in two, and then not known."""
OURS = frozenset({"connection", "content-length", "content-type", "host", "te", "transfer-encoding", "upgrade"})
"""Headers that say what a call is, and how long: no variable's to give."""
CONNECT_S = 5.0


def check_endpoint(url: str, allowlist: Collection[str]) -> None:
    """Raises `InvalidRequest` for what is no URL of a tool, `Forbidden` where the operator does not allow its host."""
    try:
        parts = check_url(url)
    except InvalidRequest as error:
        raise InvalidRequest(error.message.replace("base_url", "endpoint"), param="endpoint") from error
    host = (parts.hostname or "").lower()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if host not in allowlist and f"{host}:{port}" not in allowlist:
        raise Forbidden(
            "endpoint may only name hosts that the operator allows (ABSTRACTCORE_TOOL_URL_ALLOWLIST).",
            param="endpoint",
            code="endpoint_not_allowed",
        )


def header_values(header_env: Mapping[str, str], url: str, lent: Mapping[str, LentKey]) -> dict[str, str]:
    """The headers of a call: each value is that of a variable lent to this host. Raises `Forbidden`, and
    `InvalidRequest` for a header that is ours."""
    parts = urlsplit(url)
    values = {}
    for header, name in header_env.items():
        if header.lower() in OURS:
            raise InvalidRequest(f"The header {header} is not a tool's to set.", param="header_env")
        key = lent.get(name)
        if key is None or key.value is None or key.host not in (parts.hostname, parts.netloc.lower()):
            raise Forbidden(
                f"{name[:80]} is not lent to this host: the operator names both (ABSTRACTCORE_TOOL_KEYS=NAME@host).",
                param="header_env",
                code="key_not_lent",
            )
        values[header] = key.value
    return values


class HttpTools:
    """Calls the endpoints, on one client."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes its connections."""
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, headers: Mapping[str, str], arguments: dict[str, Any]) -> str:
        """What an endpoint answers to the arguments. Raises `ToolTrouble`."""
        said = {"content-type": "application/json", "user-agent": "abstractcore-server", **headers}
        try:
            async with self._client().post(
                url, data=json.dumps(arguments).encode(), headers=said, allow_redirects=False
            ) as answer:
                text = await _text(answer)
                if answer.status >= 300:
                    raise ToolTrouble("tool_error", f"The tool answered {answer.status}: ", text)
                return text
        except (aiohttp.ClientError, OSError) as error:
            raise ToolTrouble("unreachable", "The tool could not be reached.") from error

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                trust_env=False,
            )
        return self._session


class HttpTool:
    """Runs one."""

    def __init__(self, tools: HttpTools, url: str, headers: Mapping[str, str]) -> None:
        self._tools, self._url, self._headers = tools, url, dict(headers)

    async def __call__(self, arguments: dict[str, Any], progress: Progress) -> str:
        return await self._tools.post(self._url, self._headers, arguments)


async def _text(answer: aiohttp.ClientResponse) -> str:
    """The body, up to more than anybody is shown."""
    data = bytearray()
    async for chunk in answer.content.iter_chunked(16 * 1024):
        data += chunk
        if len(data) > MOST_READ:
            break
    return bytes(data[:MOST_READ]).decode("utf-8", "replace")
