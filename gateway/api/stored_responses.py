"""Responses that were stored: read from the log's own streams, over any provider and across restarts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from eventstore.catalogue.request import TERMINAL
from eventstore.catalogue.values import dumps
from eventstore.envelope import RecordedEvent
from eventstore.log import Log
from gateway.errors import InvalidRequest, NotFound, TooLarge
from gateway.exchange.ids import stream_of
from gateway.exchange.proven import prove
from gateway.exchange.recorded import frames_of, whole_body
from gateway.exchange.render import MakeForm, NotRenderable, recorded_form, render_again
from gateway.exchange.resume import Reading
from gateway.exchange.shared import source_of
from gateway.json_guard import LARGEST_BODY
from gateway.wire.dialect import Form
from gateway.wire.dialects import RESPONSES
from gateway.wire.responses.objects import error_object, response_object
from gateway.wire.responses.references import by_id, referred, request_of

PREFIX = "resp_"
LONGEST_CHAIN = 1000
_GONE = {"message": "The server ended before the response did.", "type": "server_error"}


def whole_form(received: Mapping[str, Any]) -> Form:
    """The answer as one object, however it was sent."""
    return replace(recorded_form(received), streamed=False)


def signed_form(received: Mapping[str, Any]) -> Form:
    """The answer as one object, with the thinking that its provider wants back."""
    form = whole_form(received)
    return replace(form, options={**form.options, "sealed": True})


def streamed_form(received: Mapping[str, Any]) -> Form:
    """The answer as a stream, however it was sent."""
    return replace(recorded_form(received), streamed=True)


def deletion_stream(request_id: str) -> str:
    """Where it is said that a response was deleted."""
    return f"response-{request_id}"


class Stored:
    """One stored response: its id in the log and its events."""

    def __init__(self, log: Log, request_id: str, events: list[RecordedEvent]) -> None:
        self._log, self.request_id, self._events = log, request_id, events
        self.received: dict[str, Any] = events[0].body

    @property
    def ended(self) -> bool:
        return self._events[-1].type in TERMINAL

    async def object(self, make_form: MakeForm = whole_form) -> dict[str, Any]:
        """The response object as it is now."""
        form, last = make_form(self.received), self._events[-1]
        if not self.ended:
            return response_object(form, "in_progress", [])
        if last.type == "request_cancelled":
            return response_object(form, "cancelled", [])
        if last.type == "request_interrupted":
            return response_object(form, "failed", [], error=error_object(_GONE))
        frames = await frames_of(self._log, self._events, last.position)
        rendered: dict[str, Any] = orjson.loads(render_again(self._events, frames, make_form).body)
        return rendered

    async def output(self, make_form: MakeForm) -> list[dict[str, Any]]:
        """Its items; of a response that was cut, or goes on, those that had come."""
        reading = Reading(self._log, stream_of(self.request_id), make_form)
        made = b"".join([data async for data in reading.until(await self._log.head())])
        output: list[dict[str, Any]] = orjson.loads(made or reading.rendering.broken_off(_GONE))["output"]
        return output

    async def prove(self) -> None:
        """Raises `LogCorrupt` where what was answered is not as it was written."""
        await prove(self._log, self._events)

    async def body(self) -> dict[str, Any]:
        """The request as it came."""
        return await whole_body(self._log, self.received["body"])

    async def input_items(self) -> list[dict[str, Any]]:
        """What it was asked, as a list of items."""
        return items_of(await self.body())


def items_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The input of a request as items: a text is a message of the user's."""
    given = body.get("input")
    if given is None:
        given = body.get("messages") or []
    return [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else list(given)


async def stored(log: Log, response_id: str) -> Stored:
    """One that was given again for an Idempotency-Key is the one that was given. Raises `NotFound` for what was never
    stored, was deleted, or has no content any more."""
    request_id = response_id.removeprefix(PREFIX)
    events = await log.read_stream(stream_of(request_id)) if response_id.startswith(PREFIX) else []
    if (source := source_of(events)) is not None:
        request_id, events = source, await log.read_stream(stream_of(source))
    if not events or not _is_stored(events) or await log.read_stream(deletion_stream(request_id)):
        raise not_found(response_id)
    return Stored(log, request_id, events)


def not_found(response_id: str) -> NotFound:
    """In OpenAI's words."""
    return NotFound(f"Response with id '{response_id[:80]}' not found.", param="response_id")


def _is_stored(events: list[RecordedEvent]) -> bool:
    first = events[0].body
    if events[0].type != "request_received" or first["wire"] != RESPONSES.wire or first.get("retention") == "none":
        return False
    return events[-1].type != "request_rejected" and (first.get("options") or {}).get("store") is not False


async def history(log: Log, response_id: str) -> list[dict[str, Any]]:
    """All items of a conversation up to and with a response. Raises `InvalidRequest` where a part of it is missing,
    `TooLarge`."""
    turns: list[list[dict[str, Any]]] = []
    room = _Room("previous_response_id")
    while response_id:
        if len(turns) == LONGEST_CHAIN:
            raise InvalidRequest("The conversation is too long.", param="previous_response_id")
        try:
            response = await stored(log, response_id)
            if not response.ended:
                raise InvalidRequest(
                    f"Response '{response_id}' is still going on.", param="previous_response_id", code="conflict"
                )
            body, output = await response.body(), (await response.object(signed_form))["output"]
        except (NotFound, NotRenderable) as error:
            raise InvalidRequest(
                f"Previous response with id '{response_id[:80]}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            ) from error
        turns.append([*items_of(body), *output])
        room.take(turns[-1])
        response_id = body.get("previous_response_id") or ""
    return [item for turn in reversed(turns) for item in turn]


async def resolved(log: Log, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items, references replaced by what they name. Raises `NotFound` for one that cannot be (the model would be
    asked to go on from a conversation with a hole), `TooLarge`."""
    known: dict[str, dict[str, list[dict[str, Any]]]] = {}
    found: list[dict[str, Any]] = []
    room = _Room("input")
    for item in items:
        name = referred(item)
        if name is None:
            found.append(item)
            continue
        request_id = request_of(name)
        if request_id not in known:
            if len(known) == LONGEST_CHAIN:
                raise InvalidRequest("The conversation is too long.", param="input")
            known[request_id] = await _issued(log, request_id)
        if name not in known[request_id]:
            raise NotFound(f"Item with id '{name[:80]}' not found.", param="input")
        room.take(known[request_id][name])
        found += known[request_id][name]
    return found


class _Room:
    """What may stand before a request's own input: as much as a request may be. A few bytes can name megabytes, and as
    often as they like."""

    def __init__(self, param: str) -> None:
        self._left, self._param = LARGEST_BODY, param

    def take(self, items: Sequence[dict[str, Any]]) -> None:
        """Raises `TooLarge`."""
        self._left -= len(dumps(items))
        if self._left < 0:
            raise TooLarge(f"The conversation is over {LARGEST_BODY} bytes.", param=self._param)


async def _issued(log: Log, request_id: str) -> dict[str, list[dict[str, Any]]]:
    """Id -> items, of all that a response and the list of its input gave an id; nothing where it is not there."""
    try:
        response = await stored(log, f"{PREFIX}{request_id}")
        shown, signed = await response.output(whole_form), await response.output(signed_form)
        given = await response.input_items()
    except (NotFound, NotRenderable):
        return {}
    asked = {input_id(request_id, index): [item] for index, item in enumerate(given) if referred(item) is None}
    return asked | by_id(shown, signed)


def input_id(request_id: str, index: int) -> str:
    """The id under which an item of the input is listed, where its client gave it none."""
    return f"item_{request_id}_{index}"
