"""Conversations that the server keeps: opened, looked at, forked, rewound, deleted. Their turns: session_turns.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from aiohttp import web
from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, with_config
from typing_extensions import TypedDict

from eventstore.catalogue.session import SessionCleared, SessionCreated, SessionDeleted, SessionForked
from eventstore.catalogue.values import Usd
from gateway.api.answers import caught_up, integer, json_response, page, services
from gateway.auth import ANONYMOUS
from gateway.edge import KEY_ID, request_id
from gateway.errors import InvalidRequest, NotFound
from gateway.exchange.ids import created_s
from gateway.exchange.policy import Policy, policy_of
from gateway.exchange.submit import most_cost
from gateway.json_guard import check_ids, read_json
from gateway.services import Services
from gateway.sessions.context import Contexts
from gateway.sessions.errors import SessionBusy
from gateway.sessions.line import Line
from gateway.sessions.state import Family, Session, fold, known, setting
from gateway.sessions.store import DEEPEST, Sessions
from gateway.wire.dialects import CHAT
from gateway.wire.openai_chat_request import validate
from projections.sessions import Sessions as Report
from projections.sessions import list_sessions, list_turns, one_session

PREFIX = "session-"
OWN = frozenset({"provider", "model", "system_prompt", "title", "metadata", "context_tokens"})
PER_TURN = frozenset({"api_key", "base_url", "messages", "session_id", "stream", "stream_options"})
"""Chat fields that only a turn can have."""
NOTHING_YET = {"turns": 0, "tokens_input": 0, "tokens_output": 0, "cost_usd": Usd(0), "turns_unpriced": 0}


class Conversations:
    """What the handlers of sessions share: the sessions in the log, how calls are made of them, and who waits."""

    def __init__(self, services: Services) -> None:
        self.store = Sessions(services.log)
        self.contexts = Contexts(self.store, self._window)
        self.line = Line()
        self._services = services

    async def _window(self, model: str | None) -> int | None:
        """What the provider lists as the model's context length; of a virtual model, the shortest of its members'."""
        names = self._services.stands_for(model or self._services.settings.model or "")
        windows = [await self._window_of(name) for name in names]
        return min((window for window in windows if window is not None), default=None)

    async def _window_of(self, model: str) -> int | None:
        given = self._services
        try:
            route = await given.route(model)
        except (InvalidRequest, NotFound):
            return None  # the plan will say it
        (listing,) = await given.discovery.listings([route.provider.name])
        return next((each.context_length for each in listing.models if each.id == route.model), None)


CONVERSATIONS = web.AppKey("conversations", Conversations)

_LOOSE = ConfigDict(extra="allow", strict=True)
_STRICT = ConfigDict(extra="forbid", strict=True)
_Name = Annotated[str, StringConstraints(max_length=1024)]
_Prompt = Annotated[str, StringConstraints(max_length=200_000)]
_Turn = Annotated[int, Field(ge=0)]


class _Named(TypedDict, total=False):
    provider: _Name | None
    model: _Name | None
    system_prompt: _Prompt | None
    title: _Name | None
    metadata: dict[str, str] | None
    context_tokens: Annotated[int, Field(ge=256)] | None


@with_config(_LOOSE)
class NewSession(_Named, total=False):
    """A session to be opened. Every other field is one of chat, for each turn."""


@with_config(_STRICT)
class NewFork(_Named, total=False):
    """A session that goes on from turn `at` of another. What is not said is as it was there."""

    at: _Turn | None


@with_config(_STRICT)
class Rewind(TypedDict, total=False):
    """The turn that a session goes on from, 0 for its beginning."""

    at: _Turn | None


_NEW, _FORK, _REWIND = TypeAdapter(NewSession), TypeAdapter(NewFork), TypeAdapter(Rewind)


async def create(request: web.Request) -> web.Response:
    """Open a session: `{provider, model, system_prompt, title, metadata, context_tokens}`, and fields of chat"""
    body = await _body(request, _NEW)
    created = await _created(request, body, _settings(body))
    await conversations(request).store.open(created.session_id, created)
    return json_response(described([fold(Session(created.session_id), [created])]))


async def list_all(request: web.Request) -> web.Response:
    """Newest first; `?after=` takes the id of the last one of the page before"""
    asked = page(request)
    stale = await caught_up(request, Report.name)
    try:
        found = await services(request).read_projections(lambda rows: list_sessions(rows, asked.limit, asked.after))
    except KeyError as error:
        raise InvalidRequest("after must be the id of a session.", param="after") from error
    found["data"] = [_object(each) for each in found["data"]]
    return json_response(found | stale)


async def one(request: web.Request) -> web.Response:
    """One session: what it was opened with, its turns, tokens and cost"""
    found = conversations(request)
    stale = await caught_up(request, Report.name)
    session = await found.store.find(request.match_info["id"])
    totals = await services(request).read_projections(lambda rows: one_session(rows, session.session_id))
    described_now = described(await found.store.family(session))
    return json_response({**described_now, **{n: (totals or NOTHING_YET)[n] for n in NOTHING_YET}, **stale})


async def turns(request: web.Request) -> web.Response:
    """A session's own turns, abandoned ones and compactions too; `?after=` takes the number of the last one before"""
    session = await _asked(request)
    asked, stale = page(request), await caught_up(request, Report.name)
    after = integer(asked.after, "after", 0) or 0
    found = await services(request).read_projections(
        lambda rows: list_turns(rows, session.session_id, asked.limit, after)
    )
    return json_response(found | stale)


async def messages(request: web.Request) -> web.Response:
    """The conversation as the session goes on from it, as chat messages"""
    session = await _asked(request)
    return json_response(page(request).cut(await conversations(request).contexts.messages(session)))


async def delete(request: web.Request) -> web.Response:
    """Take a session from its clients; the log keeps it, and so do its forks"""
    session = await _asked(request)
    deleted = SessionDeleted(session_id=session.session_id, key=_key(request))
    await conversations(request).store.change(session, deleted)
    return json_response({"id": session.session_id, "object": "session", "deleted": True})


async def fork(request: web.Request) -> web.Response:
    """A new session that goes on from turn `at` of this one (its last, unless said), on another `model` if asked"""
    store, parent = conversations(request).store, await _asked(request)
    body, family = await _body(request, _FORK), await store.family(parent)
    at = _turn(family, body)
    if len(family) > DEEPEST:
        raise InvalidRequest(f"A session is at most {DEEPEST} forks away from its beginning.", param="session_id")
    created = await _created(request, body, None)
    forked = SessionForked(session_id=created.session_id, parent_id=parent.session_id, at=at, key=created.key)
    await store.open(created.session_id, created, forked)
    return json_response(described([fold(Session(created.session_id), [created, forked]), *family]))


async def clear(request: web.Request) -> web.Response:
    """Rewind a session to its turn `at`, or to its beginning; what came after stays in the log, and can be forked"""
    found, session = conversations(request), await _asked(request)
    body, family = await _body(request, _REWIND), await found.store.family(session)
    if session.open is not None:
        raise SessionBusy(session.session_id, session.version)
    at = _turn(family, {"at": body.get("at") or 0})
    cleared = SessionCleared(session_id=session.session_id, at=at, key=_key(request))
    await found.store.change(session, cleared)
    return await one(request)


def conversations(request: web.Request) -> Conversations:
    """What the handlers of sessions share."""
    return request.app[CONVERSATIONS]


def described(family: Family) -> dict[str, Any]:
    """A session as its clients see it, without what its turns came to: nothing yet."""
    session = family[0]
    assert session.created is not None
    return _object(
        {
            "id": session.session_id,
            **{name: setting(family, name) for name in ("model", "system_prompt", "settings", "context_tokens")},
            "key": session.created.key,
            "title": session.created.title,
            "metadata": session.created.metadata,
            "forked_from": None if session.parent_id is None else {"id": session.parent_id, "at": session.at},
            "version": session.version,
            "turn": session.tip,
            "busy": session.open is not None,
            **NOTHING_YET,
        }
    )


def _object(fields: Mapping[str, Any]) -> dict[str, Any]:
    session_id: str = fields["id"]
    return {"id": session_id, "object": "session", "created": created_s(session_id.removeprefix(PREFIX)), **fields}


async def _asked(request: web.Request) -> Session:
    return await conversations(request).store.find(request.match_info["id"])


async def _body(request: web.Request, shape: TypeAdapter[Any]) -> dict[str, Any]:
    """The JSON object of the request; none at all is an empty one."""
    if not request.can_read_body:
        return {}
    body, _ = await read_json(request)
    check_ids(body)
    validate(shape, body)
    _check_no_credentials(request, body)
    return body


def _check_no_credentials(request: web.Request, body: dict[str, Any]) -> None:
    """Raises `InvalidRequest` where a field holds what is never recorded: a session could not give it to its turns."""
    recorded = services(request).redactor.body(body)
    for name, value in body.items():
        if recorded.get(name) != value:
            raise InvalidRequest(f"'{name}' holds a credential: send it with each turn.", param=name)


async def _created(request: web.Request, body: Mapping[str, Any], settings: dict[str, Any] | None) -> SessionCreated:
    return SessionCreated(
        session_id=f"{PREFIX}{request_id(request)}",
        key=_key(request),
        model=await _model(request, body),
        system_prompt=body.get("system_prompt"),
        settings=settings,
        context_tokens=body.get("context_tokens"),
        title=body.get("title"),
        metadata=body.get("metadata"),
    )


async def _model(request: web.Request, body: Mapping[str, Any]) -> str | None:
    """The model as clients name it. Raises `NotFound` for one that nobody has."""
    provider, model = body.get("provider"), body.get("model")
    if not model:
        if provider:
            raise InvalidRequest("A provider needs a model.", param="model")
        return None
    name = f"{provider}/{model}" if provider else str(model)
    given = services(request)
    if given.stands_for(name) == (name,):
        await given.route(name)
    return name


def _settings(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The chat fields for every turn. Raises `InvalidRequest` for what chat would not take, or only a turn can have."""
    settings = {name: value for name, value in body.items() if name not in OWN and value is not None}
    for name in settings.keys() & PER_TURN:
        raise InvalidRequest(f"Send '{name}' with each turn; a session cannot keep it.", param=name)
    CHAT.check({**settings, "messages": [{"role": "user", "content": ""}]})
    policy_of(settings, Policy())
    most_cost(settings, {})
    return settings or None


def _turn(family: Family, body: Mapping[str, Any]) -> int:
    """The turn that is meant. Raises `InvalidRequest` where there is no such turn."""
    at = body.get("at")
    if at is None:
        return family[0].tip
    if not known(family, at):
        raise InvalidRequest(f"The session has no turn {at}.", param="at", code="turn_not_found")
    return int(at)


def _key(request: web.Request) -> str:
    key: str = request.get(KEY_ID, ANONYMOUS)
    return key
