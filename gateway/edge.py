"""The door that every request comes through and every answer leaves by.

In: Host (against DNS rebinding), Origin (against foreign web pages), our own hop coming back, the caller's key. One
refusal, one place where it is recorded. Out: `x-request-id` and `x-abstractcore-position` on every answer, and every
error, foreign ones included, translated once to its protocol's shape, without anything of our inside.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from eventstore.errors import LogBusy, LogCorrupt, LogError
from gateway.auth import Authenticator, RejectionLimiter, is_loopback
from gateway.errors import (
    Forbidden,
    GatewayError,
    HopLoop,
    InvalidRequest,
    TooLarge,
    Unavailable,
    damaged,
    not_now,
)
from gateway.exchange.ids import ENTROPY_BYTES
from gateway.exchange.ids import request_id as new_request_id
from gateway.services import SERVICES, Handler
from gateway.upstreams.http import HOP_HEADER
from gateway.wire.dialect import Dialect
from gateway.wire.dialects import CHAT
from projections.db import NotReady

REQUEST_ID_HEADER = "x-request-id"
POSITION_HEADER = "x-abstractcore-position"
KEY_ID = web.RequestKey("key_id", str)
"""Who is calling: the authenticated key's id, or `anonymous`."""

OPEN_ROUTES = frozenset({"/", "/health", "/docs", "/redoc", "/docs/assets/{name}", "/openapi.json"})
"""Routes, by their pattern, that need no key."""

_REQUEST_ID = web.RequestKey("request_id", str)
_HOST = re.compile(r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_HOSTS_REMEMBERED = 256

Record = Callable[[web.Request, GatewayError], Awaitable[None]]
"""Writes the refusal of a request to an exchange endpoint into the log."""

logger = logging.getLogger(__name__)


def request_id(request: web.Request) -> str:
    """The id of this request, in the log and in `x-request-id`."""
    made: str = request[_REQUEST_ID]
    return made


def new_id(now_us: int) -> str:
    """A fresh request id."""
    return new_request_id(now_us // 1000, _entropy())


class _Entropy:
    """The random bytes of an id at a call, fetched from the system 256 calls at a time."""

    def __init__(self) -> None:
        self._bytes, self._at = b"", 0

    def __call__(self) -> bytes:
        at = self._at
        if at >= len(self._bytes):
            self._bytes, at = secrets.token_bytes(256 * ENTROPY_BYTES), 0
        self._at = at + ENTROPY_BYTES
        return self._bytes[at : self._at]


_entropy = _Entropy()


class HostCheck:
    """Which Host headers are ours. On loopback without an API key, a web page whose name was rebound to 127.0.0.1 must
    not get in: only loopback's names do, with any port, and the name that the server was told to listen on. With a key,
    or bound elsewhere, every well-formed host does: a reverse proxy sends names that the server cannot know, and a
    rebound page has no key."""

    def __init__(self, bound: str, keyed: bool) -> None:
        shown = f"[{bound}]" if ":" in bound else bound
        self._allowed = _LOCAL_NAMES | {shown.lower()} if is_loopback(bound) and not keyed else None
        self._seen: set[str] = set()

    def check(self, host: str) -> None:
        """Raises `InvalidRequest` for what is no host, `Forbidden` for one that is not ours."""
        if host in self._seen:
            return
        found = _HOST.fullmatch(host)
        if found is None:
            raise InvalidRequest("The Host header is missing or malformed.", code="invalid_host")
        if self._allowed is not None and found["name"].lower().removesuffix(".") not in self._allowed:
            raise Forbidden(
                "Without an API key this server answers to its loopback names only.", code="host_not_allowed"
            )
        if len(self._seen) < _HOSTS_REMEMBERED:
            self._seen.add(host)


def check_origin(method: str, headers: Mapping[str, str]) -> None:
    """Raises `Forbidden` where a web page of another origin makes a browser send something that can change things."""
    origin = headers.get("Origin")
    if origin is None or method in _SAFE_METHODS:
        return
    if origin.lower().partition("://")[2] != headers.get("Host", "").lower():
        raise Forbidden("Web pages of other origins may not call this server.", code="origin_not_allowed")


def check_hop(headers: Mapping[str, str], own: str) -> None:
    """Raises `HopLoop` where the request is a call that this very server made."""
    hops = headers.get(HOP_HEADER)
    if hops is not None and own in (hop.strip() for hop in hops.split(",")):
        raise HopLoop("This server called itself: a provider's URL points back at it. Check the *_BASE_URL variables.")


class Edge:
    """The one middleware. `hop` is what our own upstream calls carry. `exchanges`: the patterns of the POST endpoints
    whose refusals are recorded, by `record`, at most 60 a minute, and the dialects that say them; `protocols`: the
    beginnings of paths, and the dialects of errors where a path is no pattern's."""

    def __init__(
        self,
        bound: str,
        hop: str,
        authenticator: Authenticator,
        limiter: RejectionLimiter,
        record: Record,
        exchanges: Mapping[str, Dialect],
        protocols: Mapping[str, Dialect],
        debug: bool = False,
    ) -> None:
        self._hosts, self._hop, self._authenticator = HostCheck(bound, authenticator.keyed), hop, authenticator
        self._limiter, self._record, self._debug = limiter, record, debug
        self._exchanges, self._protocols = exchanges, protocols

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse or let in, answer, and mark the answer."""
        request[_REQUEST_ID] = new_id(request.app[SERVICES].now_us())
        try:
            if refused := self._refusal(request):
                await self._recorded(request, refused)
                raise refused
            response = await handler(request)
        except Exception as error:
            # Ends the connection where the answer has begun: a cut answer must not look whole.
            if request.writer.output_size > 0:
                raise
            response = self._error_answer(request, error)
        if not response.prepared:
            await mark(request, response)
        return response

    @web.middleware
    async def logged(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """`middleware`, and a line about it for standard error."""
        began, status = request.app[SERVICES].monotonic(), 0
        try:
            response = await self.middleware(request, handler)
            status = response.status
            return response
        finally:
            took_ms = 1e3 * (request.app[SERVICES].monotonic() - began)
            # The path as it was sent: decoded it could hold a line of its own. Its query can hold a key.
            asked = f"{request.method} {request.rel_url.raw_path}"
            logger.debug(
                "%s from %s: %s in %.1f ms (%s)", asked, request.remote, status or "cut", took_ms, request_id(request)
            )

    def _refusal(self, request: web.Request) -> GatewayError | None:
        try:
            self._hosts.check(request.headers.get("Host", ""))
            check_origin(request.method, request.headers)
            check_hop(request.headers, self._hop)
            if _route(request) not in OPEN_ROUTES:
                request[KEY_ID] = self._authenticator.identify(request.headers, _ticket(request), self._key(request))
        except GatewayError as refused:
            return refused
        return None

    def _key(self, request: web.Request) -> str | None:
        """The API key of the URL, where the route's protocol has it there."""
        if not request.query_string:
            return None
        dialect = self._exchanges.get(_route(request))
        return request.query.get("key") if dialect is not None and dialect.key_in_url else None

    def _protocol(self, path: str) -> Dialect:
        begun = (dialect for beginning, dialect in self._protocols.items() if f"{path}/".startswith(beginning))
        return next(begun, CHAT)

    async def _recorded(self, request: web.Request, refused: GatewayError) -> None:
        if request.method == "POST" and _route(request) in self._exchanges and self._limiter.admit():
            await self._record(request, refused)

    def _error_answer(self, request: web.Request, error: Exception) -> web.StreamResponse:
        if isinstance(error, web.HTTPException) and error.status < 400:
            return error
        known = error if isinstance(error, GatewayError) else translated(request, error)
        if known is None:
            logger.error("request %s failed", request_id(request), exc_info=error)
            known = GatewayError(
                f"The server failed on this request; its own log says more about {request_id(request)}."
            )
        status = error.status if isinstance(error, web.HTTPException) else known.status
        dialect = self._exchanges.get(_route(request)) or self._protocol(request.path)
        body = dialect.error_answer(status, self._told(request, known), request_id(request))
        return web.Response(body=body, status=status, headers=known.headers, content_type="application/json")

    def _told(self, request: web.Request, error: GatewayError) -> dict[str, Any]:
        """An error without the secrets that its message may quote; its `details` are for `--debug` only."""
        told: dict[str, Any] = {**error.error(), "message": request.app[SERVICES].redactor.text(error.message)}
        if self._debug and error.details is not None:
            told["details"] = error.details
        return told


async def mark(request: web.Request, response: web.StreamResponse) -> None:
    """Give an answer the two headers, where it has none yet: before its head is sent, so a handler that sends that
    itself has to do it."""
    headers = response.headers
    if REQUEST_ID_HEADER not in headers:
        headers[REQUEST_ID_HEADER] = request_id(request)
    if POSITION_HEADER not in headers:
        try:
            headers[POSITION_HEADER] = str(await request.app[SERVICES].log.head())
        except LogError:  # the answer is right without it, and health says what is wrong
            logger.debug("no position for %s", headers[REQUEST_ID_HEADER])


def _route(request: web.Request) -> str:
    """The pattern of the route that the request resolved to, empty where there is none: never the path's text, which
    can be written in many ways."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""


def _ticket(request: web.Request) -> str | None:
    return request.query.get("access_token") if request.method == "GET" and request.query_string else None


def translated(request: web.Request, error: Exception) -> GatewayError | None:
    """A foreign error as one of ours; None for one that nobody foresaw."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge("The body is over the limit.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return InvalidRequest(
            f"{request.method} is not allowed here, but {allowed}.",
            code="method_not_allowed",
            headers={"Allow": allowed},
        )
    if isinstance(error, web.HTTPNotFound):
        return InvalidRequest(f"There is no {request.method} {request.path[:200]} here.", code="not_found")
    if isinstance(error, web.HTTPException):
        return InvalidRequest(error.reason) if error.status < 500 else GatewayError(error.reason)
    if isinstance(error, LogBusy):
        return not_now(error)
    if isinstance(error, LogCorrupt):
        logger.error("nothing is served from where the log is damaged: %s", error)
        return damaged()
    if isinstance(error, LogError):
        return Unavailable("The log cannot be written or read now.", headers={"Retry-After": "5"})
    if isinstance(error, NotReady):
        return Unavailable("The reports are being built from the log.", headers={"Retry-After": "1"})
    return None
