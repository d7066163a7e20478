"""OpenAI's Responses: made, fetched again, resumed, cancelled and deleted, over every provider."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast

import orjson
from aiohttp import web
from aiohttp.http_writer import StreamWriter

from eventstore.catalogue.response import ResponseDeleted
from eventstore.envelope import NEW_STREAM, StreamWrite
from eventstore.errors import WrongExpectedVersion
from gateway.api.answers import integer, json_response, services
from gateway.api.channels import taken, unread
from gateway.api.counting import ESTIMATED, counted, guessed
from gateway.api.exchange import DESK, accept, attend, check_no_key
from gateway.api.stored_responses import (
    PREFIX,
    Stored,
    deletion_stream,
    history,
    input_id,
    items_of,
    not_found,
    resolved,
    stored,
    streamed_form,
)
from gateway.api.unattended import Refusal, Unattended, begin
from gateway.auth import ANONYMOUS
from gateway.edge import KEY_ID, mark
from gateway.errors import InvalidRequest
from gateway.exchange.inputs import Submission
from gateway.exchange.plan import said_to
from gateway.exchange.render import SSE_HEADERS, form
from gateway.exchange.resume import Cut, follow_answer
from gateway.exchange.running import Leave, running_of
from gateway.exchange.submit import retained
from gateway.json_guard import read_json
from gateway.routing.choose import Route
from gateway.upstreams.upstream import Upstream
from gateway.wire.dialects import RESPONSES
from gateway.wire.responses.items import resource
from gateway.wire.responses.objects import response_object
from gateway.wire.responses.references import referred
from gateway.wire.sse import PING

PING_S = 15.0
CANCEL_S = 5.0
PAGE = 20
MOST = 100
_NUMBER = re.compile(rb'"sequence_number":(\d+)')


async def create(request: web.Request) -> web.StreamResponse:
    """OpenAI's Responses, over every provider; conversations by their ids or those of items, background work"""
    accepted = await accept(request, RESPONSES, expand=_with_history)
    if isinstance(accepted, web.StreamResponse):
        return accepted
    if accepted.body.get("background"):
        return await _in_background(request, accepted)
    return await attend(request, accepted, RESPONSES)


async def retrieve(request: web.Request) -> web.StreamResponse:
    """A stored response; `?stream=true&starting_after=` gives its events again, and those to come"""
    found = await _asked(request)
    if request.query.get("stream") == "true":
        if request.method == "HEAD":
            return web.StreamResponse(headers=SSE_HEADERS)
        after = integer(request.query.get("starting_after"), "starting_after", 0)
        await found.prove()
        return await _stream(request, found.request_id, -1 if after is None else after)
    return json_response(await found.object())


async def delete(request: web.Request) -> web.Response:
    """Take a stored response from its clients; the log keeps it"""
    found = await _asked(request)
    event = ResponseDeleted(request_id=found.request_id, key=request.get(KEY_ID, ANONYMOUS))
    write = StreamWrite(deletion_stream(found.request_id), NEW_STREAM, (event.new(),))
    try:
        await services(request).log.append(write, admit=True)
    except WrongExpectedVersion as error:
        raise not_found(f"{PREFIX}{found.request_id}") from error  # another client deleted it meanwhile
    return json_response({"id": f"{PREFIX}{found.request_id}", "object": "response", "deleted": True})


async def cancel(request: web.Request) -> web.Response:
    """End a response that is made in the background"""
    found = await _asked(request)
    if not (await found.body()).get("background"):
        raise InvalidRequest("Only responses made in the background can be cancelled.", param="response_id")
    running = running_of(found.request_id, request.app[DESK].exchanges.open)
    if running is not None and isinstance(running.outlet, Unattended):
        running.end(Leave("cancelled"))
        await asyncio.wait([running.task], timeout=CANCEL_S)
    return json_response(await (await _asked(request)).object())


async def input_items(request: web.Request) -> web.Response:
    """What a stored response was asked, newest first unless `?order=asc`"""
    found = await _asked(request)
    given = await found.input_items()
    items = [resource(item, input_id(found.request_id, index)) for index, item in enumerate(given)]
    if request.query.get("order", "desc") != "asc":
        items.reverse()
    ids = [item["id"] for item in items]
    after, limit = request.query.get("after"), integer(request.query.get("limit"), "limit", 1, MOST) or PAGE
    if after is not None and after not in ids:
        raise InvalidRequest("'after' is no item of this response.", param="after")
    start = 0 if after is None else ids.index(after) + 1
    page = items[start : start + limit]
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return json_response({"object": "list", "data": page, **ends, "has_more": start + limit < len(items)})


async def input_tokens(request: web.Request) -> web.Response:
    """Tokens of a Responses request: Anthropic's own count, else an estimate that says so"""
    body, _ = await read_json(request)
    RESPONSES.check(body)
    body = await _with_history(request, body)

    def in_messages(route: Route, upstream: Upstream) -> dict[str, Any]:
        provider = route.provider
        call = upstream.encode(provider, route.model, said_to(RESPONSES, body, provider))
        said: dict[str, Any] = orjson.loads(call.body)
        return said

    tokens, headers = await counted(services(request), body, in_messages), None
    if tokens is None:
        tokens, headers = guessed(RESPONSES.chat(body)), ESTIMATED
    return web.json_response({"object": "response.input_tokens", "input_tokens": tokens}, headers=headers)


async def _asked(request: web.Request) -> Stored:
    return await stored(services(request).log, request.match_info["id"])


async def _with_history(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    """The body with the conversation that it goes on from before its own input, and without references."""
    if body.get("background"):
        check_no_key(request, "A response in the background")
        if not retained(request.headers):  # nobody could have it, and it would be paid for
            raise InvalidRequest("A background response must be stored.", param="background")
    log, previous = services(request).log, body.get("previous_response_id")
    items = items_of(body)
    if previous:
        items = [*await history(log, previous), *items]
    elif not any(referred(item) for item in items):
        return body
    return {**body, "input": await resolved(log, items)}


async def _in_background(request: web.Request, submission: Submission) -> web.StreamResponse:
    try:
        await begin(request.app[DESK].exchanges, submission)
    except Refusal as refused:
        return web.Response(status=refused.status, headers=refused.headers, body=refused.body)
    if submission.streamed:
        return await _stream(request, submission.request_id, -1)
    return json_response(response_object(form(submission), "queued", []))


async def _stream(request: web.Request, request_id: str, after: int) -> web.StreamResponse:
    """The events whose numbers are beyond `after`, as they come, from the log. A client that takes none has left."""
    response = web.StreamResponse(headers=SSE_HEADERS)
    await mark(request, response)
    writer = cast(StreamWriter, await response.prepare(request))
    pieces = follow_answer(services(request).log, request_id, form=streamed_form)
    try:
        async for event in _kept_alive(_events(pieces)):
            number = _NUMBER.search(event)
            if number is None or int(number.group(1)) > after:
                await writer.write(event, drain=False)
                await taken(writer, partial(unread, request), request.app[DESK].pace.stalled_s)
    except Cut:
        writer.send_headers()  # where nothing came before the cut
        if request.transport is not None:
            request.transport.close()  # behind what waits for it, and without the end that a whole answer has
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    return response


async def _events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole events: pieces end with one, but may hold several."""
    async for piece in pieces:
        for event in piece.split(b"\n\n"):
            if event:
                yield event + b"\n\n"


async def _kept_alive(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """With a comment in every silence."""
    following = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait([following], timeout=PING_S)
            if not done:
                yield PING
                continue
            event = following.result()
            if event is None:
                return
            yield event
            following = asyncio.ensure_future(anext(events, None))
    finally:
        following.cancel()
