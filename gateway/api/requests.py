"""GET /v1/requests[/{id}[/events|/stream]]: what became of each request, what was recorded, and what its client got."""

from __future__ import annotations

from typing import Any, get_args

import orjson
from aiohttp import web

from eventstore.catalogue.request import TERMINAL
from eventstore.envelope import RecordedEvent
from eventstore.log import Log
from gateway.api.answers import caught_up, json_response, page, services
from gateway.api.generated import TokenReader
from gateway.errors import Conflict, InvalidRequest, NotFound, Unavailable
from gateway.exchange.ids import stream_of
from gateway.exchange.proven import check_bytes
from gateway.exchange.recorded import copy_blob, frames_of
from gateway.exchange.render import NotRenderable, Rendered, render_again
from gateway.exchange.shared import copy_of, render_copy, render_shared, source_of
from projections.requests import Choice, Requests, State, list_requests, one_request


async def list_all(request: web.Request) -> web.Response:
    """Newest first, `?state=`, `?provider=`, `?model=`, `?key=` and `?session_id=` choosing; `?after=` takes the id of
    the last one of the page before."""
    asked, only = page(request), _only(request)
    stale = await caught_up(request, Requests.name)
    try:
        found = await services(request).read_projections(
            lambda rows: list_requests(rows, asked.limit, asked.after, only)
        )
    except KeyError as error:
        raise InvalidRequest("after must be the id of a request.", param="after") from error
    return json_response(found | stale)


def _only(request: web.Request) -> dict[Choice, str]:
    """What the listed requests shall have. Raises `InvalidRequest` for a state that does not exist."""
    only: dict[Choice, str] = {name: given for name in get_args(Choice) if (given := request.query.get(name))}
    if "state" in only and only["state"] not in get_args(State):
        raise InvalidRequest(f"state must be one of {', '.join(get_args(State))}.", param="state")
    return only


async def one(request: web.Request) -> web.Response:
    """The state of one request."""
    request_id = request.match_info["id"]
    stale = await caught_up(request, Requests.name)
    found = await services(request).read_projections(lambda rows: one_request(rows, request_id))
    if found is None and stale:
        raise Unavailable("The reports lag behind the log.", headers={"Retry-After": "1"})
    if found is None:
        raise _not_found(request_id)
    return json_response(found | stale)


async def events(request: web.Request) -> web.Response:
    """What was recorded, both lanes, in the log's order: the flat events as they are, the tokens composed."""
    asked, log = page(request), services(request).log
    recorded = await _recorded(log, request.match_info["id"])
    head = await log.head()
    tokens = TokenReader(log)
    placed: list[tuple[int, Any]] = [(event.position, orjson.Fragment(event.data)) for event in recorded]
    for rows in (await frames_of(log, recorded, head)).values():
        placed += [(row.position, body) for row in rows for body in await tokens.objects(row)]
    placed.sort(key=lambda pair: pair[0])
    return json_response(asked.cut([body for _, body in placed]) | {"position": head})


async def stream(request: web.Request) -> web.Response:
    """The answer again, byte for byte as its client got it: SSE if it was streamed, else JSON."""
    log = services(request).log
    recorded = await _recorded(log, request.match_info["id"])
    if recorded[-1].type not in TERMINAL:
        raise Conflict("This request has not ended yet.", headers={"Retry-After": "1"})
    try:
        rendered = await _rendered(log, recorded)
    except NotRenderable as error:
        raise NotFound(f"This answer cannot be shown again: {error}.", code="not_renderable") from error
    check_bytes(rendered.digest, recorded[-1])
    return web.Response(status=rendered.status, headers=rendered.headers, body=rendered.body)


async def _rendered(log: Log, recorded: list[RecordedEvent]) -> Rendered:
    """The answer, from its own frames or those of the request that it was taken from. Raises `NotRenderable`."""
    source = source_of(recorded)
    copy = copy_of(recorded)
    if copy is not None:
        return render_copy(recorded, await copy_blob(log, copy))
    if source is None:
        return render_again(recorded, await frames_of(log, recorded, recorded[-1].position))
    theirs = await log.read_stream(stream_of(source))
    if not theirs:
        raise NotRenderable("the request that it was taken from is gone")
    return render_shared(recorded, theirs, await frames_of(log, theirs, theirs[-1].position))


async def _recorded(log: Log, request_id: str) -> list[RecordedEvent]:
    recorded = await log.read_stream(stream_of(request_id))
    if not recorded:
        raise _not_found(request_id)
    return recorded


def _not_found(request_id: str) -> NotFound:
    return NotFound(f"There is no request {request_id[:80]!r}.", code="request_not_found")
