"""The turns of a session: chat with its history, and its compaction. Each is an exchange like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any

from aiohttp import web
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from eventstore.errors import WrongExpectedVersion
from gateway.api.answers import integer
from gateway.api.exchange import DESK, Expand, Read, accept, attend, attend_again, outlet_for
from gateway.api.sessions import conversations
from gateway.errors import GatewayError, InvalidRequest
from gateway.exchange.claims import KEY_HEADER
from gateway.exchange.inputs import Submission
from gateway.exchange.submit import RETENTION_HEADER
from gateway.json_guard import read_json
from gateway.sessions.context import INSTRUCTIONS, KEPT, Planned
from gateway.sessions.errors import NoSession, SessionBusy
from gateway.sessions.state import Session, setting
from gateway.sessions.turn import PlannedTurn
from gateway.wire.dialects import CHAT
from gateway.wire.openai_chat_request import validate

CONTEXT_HEADER = "x-abstractcore-context"
LONGEST_WAIT_S = 600

Plan = Callable[[Session, dict[str, Any]], Awaitable[Planned]]
"""From a session and what was sent to it to the whole request and its turn. Raises `GatewayError`."""


@with_config(ConfigDict(extra="allow", strict=True))
class Compaction(TypedDict, total=False):
    """A summary to be made. `keep` is how many of the last turns stay as they are. Every other field is one of chat."""

    keep: Annotated[int, Field(ge=0, le=10_000)] | None
    instructions: str | None
    model: str | None


_COMPACTION = TypeAdapter(Compaction)


async def chat(request: web.Request) -> web.StreamResponse:
    """The session's next turn: chat completions that know what was said before; `?wait=SECONDS` where it is busy"""
    return await _Taking(request, read_json, conversations(request).contexts.chat, _as_opened).answer()


async def compact(request: web.Request) -> web.StreamResponse:
    """Let a model summarise all but the last turns: `{keep, model, instructions}`; the summary then stands for them"""
    compaction = _Compaction(request)
    return await _Taking(request, compaction.read, compaction.plan).answer()


async def _as_opened(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    """The body with the fields that its session was opened with, on which the form of the answer hangs too. Of a
    session that is gone there are none."""
    store = conversations(request).store
    try:
        family = await store.family(await store.find(request.match_info["id"]))
    except NoSession:
        return body
    return {**(setting(family, "settings") or {}), **body}


class _Compaction:
    """A request for a summary, said as a chat request: its one message is the instruction."""

    def __init__(self, request: web.Request) -> None:
        self._contexts = conversations(request).contexts
        self._kept = KEPT

    async def read(self, request: web.Request) -> tuple[dict[str, Any], bytes]:
        body, raw = await read_json(request) if request.can_read_body else ({}, b"")
        validate(_COMPACTION, body)
        for name in body.keys() & {"messages", "tools"}:
            raise InvalidRequest(f"A compaction has no '{name}'.", param=name)
        kept, instructions = body.pop("keep", None), body.pop("instructions", None)
        self._kept = KEPT if kept is None else kept
        return {**body, "messages": [{"role": "user", "content": instructions or INSTRUCTIONS}]}, raw

    async def plan(self, session: Session, body: dict[str, Any]) -> Planned:
        return await self._contexts.compaction(session, body, self._kept)


class _Taking:
    """One request's way to its turn. Where another came first it goes back to its place in the line, if it may wait,
    and is put together anew with what the other said; else it is refused. `expand` adds to a body what a retry needs of
    its session."""

    def __init__(self, request: web.Request, read: Read, plan: Plan, expand: Expand | None = None) -> None:
        self._request, self._read_once, self._plan, self._expand = request, read, plan, expand
        self._session_id = request.match_info["id"]
        self._conversations = conversations(request)
        self._was_read: tuple[dict[str, Any], bytes] | None = None
        self._turn: PlannedTurn | None = None
        self._clock = asyncio.get_running_loop().time
        self._until = self._clock() + (integer(request.query.get("wait"), "wait", 0, LONGEST_WAIT_S) or 0)

    async def answer(self) -> web.StreamResponse:
        """Take the turn, or say why not. Who took it before with the same Idempotency-Key takes no other."""
        if KEY_HEADER in self._request.headers and (again := await self._again()) is not None:
            return again
        async with self._conversations.line.place(self._session_id, self._until) as leave:
            while True:
                accepted = await accept(self._request, CHAT, self._whole, self._read)
                if not isinstance(accepted, Submission):
                    return accepted
                try:
                    return await self._run(replace(accepted, turn=self._turn), leave)
                except WrongExpectedVersion as moved:
                    if self._clock() >= self._until:
                        return await self._refused(accepted, SessionBusy(self._session_id, moved.actual))

    async def _again(self) -> web.StreamResponse | None:
        accepted = await accept(self._request, CHAT, self._expand, self._read)
        if not isinstance(accepted, Submission):
            return accepted
        return await attend_again(self._request, accepted, CHAT)

    async def _read(self, request: web.Request) -> tuple[dict[str, Any], bytes]:
        """The body can be read only once."""
        if self._was_read is None:
            self._was_read = await self._read_once(request)
        return self._was_read

    async def _whole(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        """The request with its history, as the session's next turn. Raises `GatewayError`."""
        if request.headers.get(RETENTION_HEADER) == "none":
            raise InvalidRequest("A session is made of what is retained.", param=RETENTION_HEADER)
        if body.get("session_id") not in (None, self._session_id):
            raise InvalidRequest("session_id names another session than the URL.", param="session_id")
        while True:
            session = await self._conversations.store.find(self._session_id)
            if self._gone():
                raise SessionBusy(self._session_id, session.version)
            try:
                whole, self._turn = await self._plan(session, body)
            except SessionBusy:
                if self._clock() >= self._until:
                    raise
                await self._over()
            else:
                return whole

    def _gone(self) -> bool:
        """Whether the client left, perhaps while it waited: then nobody wants the turn."""
        transport = self._request.transport
        return transport is None or transport.is_closing()

    async def _over(self) -> None:
        """Wait until a turn is over, or the time is."""
        over = self._conversations.line.look(self._session_id)
        session = await self._conversations.store.find(self._session_id)
        if session.open is not None:
            try:
                async with asyncio.timeout_at(self._until):
                    await over.wait()
            except TimeoutError:
                return

    async def _run(self, submission: Submission, leave: Callable[[], None]) -> web.StreamResponse:
        """Raises `WrongExpectedVersion` where another came first. The next one's turn comes when the end of this one is
        recorded, however slowly its client reads."""
        assert self._turn is not None
        headers = {CONTEXT_HEADER: self._turn.carried.header(self._turn.number)}
        line = self._conversations.line

        def over() -> None:
            leave()
            line.left(self._session_id)

        try:
            return await attend(self._request, submission, CHAT, headers, over)
        finally:
            line.left(self._session_id)

    async def _refused(self, submission: Submission, error: GatewayError) -> web.StreamResponse:
        outlet = outlet_for(self._request, None)
        await self._request.app[DESK].exchanges.refuse(submission, outlet, error)
        return outlet.response
