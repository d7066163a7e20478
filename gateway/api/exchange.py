"""What every endpoint does whose requests are exchanges: read, check, submit, run, respond."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web

from gateway.api import channels
from gateway.api.groups import OpenGroups
from gateway.api.outlet import USUAL, HttpOutlet, Pace
from gateway.auth import ANONYMOUS
from gateway.edge import KEY_ID, request_id
from gateway.errors import GatewayError, InvalidRequest
from gateway.exchange.alike import question
from gateway.exchange.claims import KEY_HEADER, UNASKED, Caching, places
from gateway.exchange.elsewhere import Elsewhere
from gateway.exchange.inputs import Submission
from gateway.exchange.proven import for_a_caller
from gateway.exchange.resume import follow_answer
from gateway.exchange.run import Exchanges
from gateway.exchange.sharing import Sharing
from gateway.exchange.sources import Likeness
from gateway.exchange.submit import Caller, Rules, retained, submit, unread
from gateway.json_guard import read_json
from gateway.services import SERVICES
from gateway.wire.dialect import Dialect
from gateway.wire.sse import PING


@dataclass(frozen=True, slots=True)
class Desk:
    """What these endpoints need besides the services. `shared`: the pace of connections with several answers;
    `groups`: those that are not settled."""

    exchanges: Exchanges
    rules: Rules
    pace: Pace = USUAL
    shared: channels.ChannelPace = channels.USUAL
    caching: Caching = UNASKED
    groups: OpenGroups = field(default_factory=dict)
    elsewhere: Elsewhere | None = None
    nearest: Likeness | None = None


DESK = web.AppKey("desk", Desk)

Expand = Callable[[web.Request, dict[str, Any]], Awaitable[dict[str, Any]]]
"""From a checked body to one that stands alone, such as with the history that it refers to. What is recorded is the
body as it came. Raises `GatewayError`."""


Read = Callable[[web.Request], Awaitable[tuple[dict[str, Any], bytes]]]
"""From a request to its body, and the bytes that it was read from. Raises `GatewayError`."""


async def serve(
    request: web.Request, dialect: Dialect, expand: Expand | None = None, read: Read = read_json
) -> web.StreamResponse:
    """Answer a request in its dialect."""
    accepted = await accept(request, dialect, expand, read)
    return accepted if isinstance(accepted, web.StreamResponse) else await attend(request, accepted, dialect)


async def accept(
    request: web.Request, dialect: Dialect, expand: Expand | None = None, read: Read = read_json
) -> Submission | web.StreamResponse:
    """The request as a submission; or the answer, where it was refused."""
    desk = request.app[DESK]
    caller = caller_of(request, pattern(request))
    raw = b""
    try:
        retained(request.headers)  # first: what is wrong with a body may repeat a part of it, and is recorded
        body, raw = await read(request)
        dialect.check(body)
        whole = body if expand is None else await _expanded(expand, request, body)
        return submit(caller, body, raw, desk.rules, dialect, whole)
    except GatewayError as error:
        outlet = outlet_for(request, None)
        outlet.prepare(_ids(caller.request_id, dialect))
        await desk.exchanges.refuse(unread(caller, dialect, raw), outlet, error)
        return outlet.response


async def _expanded(expand: Expand, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    with for_a_caller():
        return await expand(request, body)


async def attend(
    request: web.Request,
    submission: Submission,
    dialect: Dialect,
    headers: Mapping[str, str] | None = None,
    over: Callable[[], None] | None = None,
) -> web.StreamResponse:
    """Run it for the client that waits; `headers` are more for its answer; `over`: see `HttpOutlet`."""
    outlet = outlet_for(request, submission, dialect.ping, over)
    outlet.prepare(_ids(submission.request_id, dialect))
    if headers is not None:
        outlet.prepare(headers)
    desk = request.app[DESK]
    try:
        if where := places(submission, request.headers, desk.caching, request.path):
            asked = question(submission, request.headers, desk.caching, where)
            await _sharing(request).run(submission, outlet, where, asked)
        else:
            await desk.exchanges.run(submission, outlet)
    except GatewayError as error:
        await desk.exchanges.refuse(submission, outlet, error)
    return outlet.response


async def attend_again(request: web.Request, submission: Submission, dialect: Dialect) -> web.StreamResponse | None:
    """The answer that the request's Idempotency-Key stands for; None where there is none yet."""
    outlet, desk = outlet_for(request, submission, dialect.ping), request.app[DESK]
    outlet.prepare(_ids(submission.request_id, dialect))
    try:
        keyed = places(submission, request.headers, UNASKED, request.path)[:1]
        return outlet.response if await _sharing(request).again(submission, outlet, keyed) else None
    except GatewayError as error:
        await desk.exchanges.refuse(submission, outlet, error)
        return outlet.response


def _sharing(request: web.Request) -> Sharing:
    desk, services = request.app[DESK], request.app[SERVICES]
    clocks = services.steady_us, services.monotonic
    return Sharing(desk.exchanges, services.log, *clocks, desk.elsewhere, desk.nearest)


def check_no_key(request: web.Request, what: str) -> None:
    """Raises `InvalidRequest` where a retry would be made again though it has an Idempotency-Key."""
    if KEY_HEADER in request.headers:
        raise InvalidRequest(f"{what} cannot be retried by an Idempotency-Key.", param="Idempotency-Key")


def _ids(request_id: str, dialect: Dialect) -> dict[str, str]:
    return {} if dialect.id_header is None else {dialect.id_header: request_id}


def caller_of(request: web.Request, endpoint: str) -> Caller:
    """Who asks, and where."""
    return Caller(request_id(request), endpoint, request.get(KEY_ID, ANONYMOUS), request.remote, request.headers)


def outlet_for(
    request: web.Request, submission: Submission | None, ping: bytes = PING, over: Callable[[], None] | None = None
) -> HttpOutlet:
    """The client of this request; one whose content is retained can read it from the log."""
    services = request.app[SERVICES]
    follow = None
    if submission is not None and submission.retained:
        follow = partial(follow_answer, services.log, submission.request_id)
    outlet = HttpOutlet(request, follow, services.monotonic, request.app[DESK].pace, over)
    if submission is not None and submission.streamed:
        outlet.streams(ping)
    return outlet


def pattern(request: web.Request) -> str:
    """The route that the request resolved to, as it stands in the route table."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else request.path
