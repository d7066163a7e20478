"""How the families that speak HTTP call: the hot path's POST on a client of its own, the rest on aiohttp's.

Answers are asked for uncompressed: no bomb, no work. Redirects are not followed: a credential goes only where it was
meant to go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import aiohttp
import orjson
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from gateway.upstreams.http1 import CONNECT_S, Pool
from gateway.upstreams.upstream import Answer, Call, UpstreamFailure

ERROR_BODY_LIMIT = 64 << 10
LIST_BODY_LIMIT = 16 << 20
LIST_S = 2.0
HOP_HEADER = "x-abstractcore-hop"
_NO_TOTAL = ClientTimeout(total=None, sock_connect=CONNECT_S)


class HttpClient:
    """Opens calls for all HTTP families. `hop` marks them as ours, so that a loop shows."""

    def __init__(self, hop: str) -> None:
        self._own = {"accept-encoding": "identity", "user-agent": "abstractcore-server", HOP_HEADER: hop}
        self._headers = {"content-type": "application/json", "accept": "*/*", **self._own}
        self._pool = Pool()
        self._session: ClientSession | None = None

    def session(self) -> ClientSession:
        """The session, made inside the running loop at its first use."""
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(limit=0, ttl_dns_cache=60),
                auto_decompress=False,
                headers=self._own,
                skip_auto_headers=("user-agent",),
                timeout=_NO_TOTAL,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        """Closes every connection."""
        await self._pool.close()
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, call: Call, credentials: Mapping[str, str]) -> Answer:
        """POST a call's JSON, on the hot path's own client. Raises `UpstreamFailure`."""
        answer = await self._pool.post(url, {**self._headers, **call.headers, **credentials}, call.body)
        coded = answer.headers.get("content-encoding", "identity").lower() not in {"identity", ""}
        if coded and answer.status == 200:  # else its status says enough
            await answer.close()
            raise UpstreamFailure("bad_response", "the provider compressed its answer, which was not asked for")
        return answer

    async def get_json(self, url: str, credentials: Mapping[str, str]) -> object:
        """GET a small JSON document (a list of models). Raises `UpstreamFailure`."""
        return await self.json("GET", url, None, credentials, LIST_S)

    async def json(self, method: str, url: str, body: object, credentials: Mapping[str, str], limit_s: float) -> object:
        """A small JSON exchange off the hot path, within `limit_s`. Raises `UpstreamFailure`."""
        data = None if body is None else orjson.dumps(body)
        headers = {"content-type": "application/json", **credentials} if data else dict(credentials)
        try:
            async with asyncio.timeout(limit_s):
                async with self.session().request(
                    method, url, data=data, headers=headers, allow_redirects=False
                ) as response:
                    if response.status != 200:
                        raise UpstreamFailure(
                            "bad_response", f"the provider answered {response.status}", response.status
                        )
                    return orjson.loads(await _at_most(response.content.iter_any(), LIST_BODY_LIMIT))
        except TimeoutError as e:
            raise UpstreamFailure("first_byte_timeout", f"the provider did not answer in {limit_s:g} s") from e
        except (aiohttp.ClientError, OSError) as e:
            raise UpstreamFailure("connect_failed", "the provider could not be reached") from e
        except orjson.JSONDecodeError as e:
            raise UpstreamFailure("bad_response", "the provider's answer is not JSON") from e


async def read_error_body(answer: Answer) -> bytes:
    """At most `ERROR_BODY_LIMIT` bytes of an error answer."""
    body = bytearray()
    while len(body) < ERROR_BODY_LIMIT and (data := await answer.read()):
        body += data
    return bytes(body[:ERROR_BODY_LIMIT])


async def _at_most(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """A body in however many pieces it comes, cut at a limit."""
    body = bytearray()
    async for data in chunks:
        body += data
        if len(body) >= limit:
            break
    return bytes(body[:limit])
