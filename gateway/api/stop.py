"""POST /v1/requests/{id}/stop: end a running answer at the frame that came last, and say why."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Annotated, Any

from aiohttp import web
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from eventstore.catalogue.group import GroupSettled
from eventstore.catalogue.request import TERMINAL
from eventstore.catalogue.values import Usd
from eventstore.envelope import RecordedEvent
from eventstore.log import Log
from gateway.api.answers import json_response, services
from gateway.api.exchange import DESK
from gateway.api.groups import GROUPS
from gateway.api.multi import answer_from
from gateway.errors import Conflict, NotFound
from gateway.exchange.ids import stream_of
from gateway.exchange.inputs import Stop
from gateway.exchange.running import running_of
from gateway.exchange.shared import source_of
from gateway.json_guard import read_json
from gateway.wire.openai_chat_request import validate

SETTLED = frozenset({GroupSettled.type})
PATIENCE_S = 5.0
"""How long the stop waits until the end is recorded."""


@with_config(ConfigDict(extra="forbid", strict=True))
class StopRequest(TypedDict, total=False):
    """Why. It is recorded, and the client of the answer is told."""

    reason: Annotated[str, Field(min_length=1, max_length=200)] | None


_BODY = TypeAdapter(StopRequest)


async def stop(request: web.Request) -> web.Response:
    """End a running answer: what came until now is kept and booked, its client is told why"""
    body = (await read_json(request))[0] if request.can_read_body else {}
    validate(_BODY, body)
    request_id, reason = request.match_info["id"], body.get("reason") or "stopped"
    verdict = Stop("stopped", f"The answer was stopped: {reason}", "caller", reason=reason)
    running = running_of(request_id, request.app[DESK].exchanges.open)
    if running is not None:
        await _check_own(services(request).log, request_id)
        running.end(verdict)
    elif await services(request).log.read_stream(f"{GROUPS}{request_id}"):
        return json_response(await _stopped_group(request, request_id, verdict))
    return json_response(await _end_of(request, request_id, stopped=running is not None))


async def _stopped_group(request: web.Request, group_id: str, verdict: Stop) -> dict[str, Any]:
    """End every member that runs, and its judge: the group settles with what there is. Raises `Conflict`."""
    desk, log = request.app[DESK], services(request).log
    if group_id not in desk.groups:
        raise Conflict("The request has ended already.", code="request_ended")
    for running in desk.exchanges.open:
        if running.submission.parent == group_id:
            running.end(verdict)
    last = await _last(log, f"{GROUPS}{group_id}", SETTLED, PATIENCE_S)
    if last is None or last.type not in SETTLED:
        raise Conflict("The request has not ended yet.", headers={"Retry-After": "1"})
    cost = (await answer_from(log, group_id))["cost_usd"]
    said = {"state": "settled", "reason": last.body["reason"], "cost_usd": cost, "position": last.position}
    return {"id": group_id, **said}


async def _check_own(log: Log, request_id: str) -> None:
    """Raises `Conflict` for a request that is given the answer of another: only that one has a call to end."""
    source = source_of(await log.read_stream(stream_of(request_id)))
    if source is not None:
        raise Conflict(f"This request is given the answer of {source}: stop that one.", code="answer_shared")


async def _end_of(request: web.Request, request_id: str, stopped: bool) -> dict[str, Any]:
    """How it ended: `{id, state, reason, cost_usd, position}`. Raises `NotFound`, and `Conflict` where it was over
    before, or is not yet."""
    last = await _last(services(request).log, stream_of(request_id), TERMINAL, PATIENCE_S if stopped else 0)
    if last is None:
        raise NotFound(f"There is no request {request_id[:80]!r}.", code="request_not_found")
    if last.type not in TERMINAL:
        raise Conflict("The request has not ended yet.", headers={"Retry-After": "1"})
    if not stopped:
        raise Conflict("The request has ended already.", code="request_ended")
    cost = last.body.get("cost_usd")
    return {
        "id": request_id,
        "state": last.type.removeprefix("request_"),
        "reason": last.body.get("reason"),
        "cost_usd": None if cost is None else Usd.parse(cost),
        "position": last.position,
    }


async def _last(log: Log, stream: str, ends: Collection[str], patience_s: float) -> RecordedEvent | None:
    """A stream's last event: its end, if that comes in time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            async for _ in log.follow(0):
                events = await log.read_stream(stream)
                if not events or events[-1].type in ends:
                    return events[-1] if events else None
    events = await log.read_stream(stream)
    return events[-1] if events else None
