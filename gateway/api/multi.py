"""POST /v1/generate/multi: several models at once. Each answer is an exchange, what they come to a group; see
`gateway/multi`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Any

import orjson
from aiohttp import web

from eventstore.catalogue import decode
from eventstore.catalogue.group import GroupSettled, GroupStarted
from eventstore.catalogue.values import Usd, dumps
from eventstore.envelope import Appended
from eventstore.errors import LogError
from eventstore.log import Log
from gateway.api.answers import json_response, services
from gateway.api.channels import Channel, Muted, SseChannel
from gateway.api.exchange import DESK, caller_of, check_no_key, outlet_for, pattern
from gateway.api.groups import GROUPS, say
from gateway.api.lanes import Lane, leave, run_lane
from gateway.api.stored_responses import streamed_form
from gateway.edge import POSITION_HEADER, new_id
from gateway.errors import GatewayError, InvalidRequest, NotFound
from gateway.exchange.ids import stream_of
from gateway.exchange.resume import follow_answer
from gateway.exchange.submit import RETENTION_HEADER, Caller, retained, submit, unread
from gateway.json_guard import read_json
from gateway.multi.choosing import Choice, choose, question, verdict
from gateway.multi.request import Group, group_of
from gateway.multi.results import Result, answer_of, cost_of, result_of
from gateway.routing.choose import choose as route_of
from gateway.services import Services
from gateway.wire.dialects import CHAT

LEFT = Choice(None, "client_left")

logger = logging.getLogger(__name__)


async def multi(request: web.Request) -> web.StreamResponse:
    """Several models at once: `{models, messages | prompt, mode: all | first | best}` and any field of chat"""
    desk, caller, raw = request.app[DESK], caller_of(request, pattern(request)), b""
    try:
        if not retained(request.headers):  # first, as in `accept`
            raise InvalidRequest("The members' answers are read from the log.", param=RETENTION_HEADER)
        body, raw = await read_json(request)
        check_no_key(request, "A request to several models")
        asked = group_of(body)
        _check_lent(services(request), body, asked.models)
        for member in asked.bodies:
            CHAT.check(member)
        submit(caller, asked.bodies[0], raw, desk.rules, CHAT, asked.bodies[0])  # the others differ in the model alone
    except GatewayError as error:
        outlet = outlet_for(request, None)
        await desk.exchanges.refuse(unread(caller, CHAT, raw), outlet, error)
        return outlet.response
    return await Members(request, caller, asked).answer(raw)


def _check_lent(given: Services, body: Mapping[str, Any], models: Sequence[str]) -> None:
    """Raises `InvalidRequest` where a caller's own key or URL would go to providers that it is not for."""
    lent = next((name for name in ("api_key", "base_url") if body.get(name)), None)
    if lent is None:
        return
    named = set()
    for model in models:
        with suppress(GatewayError):  # its member says what is wrong with it
            route = route_of(model, given.providers, given.settings.provider, given.discovery.listed())
            named.add(route.provider.name)
    if len(named) > 1:
        raise InvalidRequest(f"{lent} is for one provider, not for {' and '.join(sorted(named))}.", param=lent)


async def one(request: web.Request) -> web.Response:
    """What became of a group, from the log: the answer again, or as far as it is"""
    return json_response(await answer_from(services(request).log, request.match_info["id"]))


async def answer_from(log: Log, group_id: str) -> dict[str, Any]:
    """A group's answer as the log has it now. Raises `NotFound`."""
    events = [decode(recorded) for recorded in await log.read_stream(f"{GROUPS}{group_id}")]
    if not events or not isinstance(events[0], GroupStarted):
        raise NotFound(f"There is no group {group_id[:80]!r}.", code="group_not_found")
    started, settled = events[0], events[-1] if isinstance(events[-1], GroupSettled) else None
    judge: Usd | None = Usd(0)
    if settled and settled.judge_request:
        judge = cost_of(await log.read_stream(stream_of(settled.judge_request)))
    results = await _results(log, started.members, started.models)
    answer: dict[str, Any] = answer_of(started, settled, results, judge)
    return answer


async def _results(log: Log, members: Sequence[str], models: Sequence[str]) -> list[Result]:
    return [
        result_of(member, model, await log.read_stream(stream_of(member)))
        for member, model in zip(members, models, strict=True)
    ]


class Members:
    """One group while it runs. Where its client leaves, every member is cancelled."""

    def __init__(self, request: web.Request, caller: Caller, asked: Group) -> None:
        self._request, self._caller, self._asked = request, caller, asked
        self._desk, self._given = request.app[DESK], services(request)
        self._log, self._id = self._given.log, caller.request_id
        self._channel = SseChannel(request, self._given.monotonic, self._desk.shared)
        self._names = [new_id(self._given.now_us()) for _ in asked.models]

    async def answer(self, raw: bytes) -> web.StreamResponse:
        """Record the group, run it, record what came of it, and only then say it."""
        settled = await self._served(raw)
        whole = await answer_from(self._log, self._id)
        if self._asked.streamed:
            return await self._close(whole)
        headers = {POSITION_HEADER: str(settled.last)}
        if whole["cost_usd"] is not None:
            headers["x-abstractcore-cost-usd"] = whole["cost_usd"].decimal()
        response = json_response(whole, status=502 if "error" in whole else 200)
        response.headers.update(headers)
        return response

    async def _served(self, raw: bytes) -> Appended:
        """The group from its first event to its last. One that is cut short stays open for the next start to settle."""
        appended = await self._begin(raw)
        try:
            if self._asked.streamed:
                await self._open(appended)
            await self._run()
            settled = await self._say(*await self._choice(await self._results()))
        except LogError:
            raise
        except ConnectionError:
            settled = await self._say(LEFT)
        except Exception:
            logger.exception("group %s failed", self._id)
            settled = await self._say(Choice(None, "internal_error"))
        del self._desk.groups[self._id]
        return settled

    async def _begin(self, raw: bytes) -> Appended:
        self._desk.groups[self._id] = await self._log.head()
        try:
            return await say(self._log, self._started(raw), admit=True)
        except LogError:
            del self._desk.groups[self._id]
            raise

    async def _run(self) -> None:
        """Every member to its end."""
        lanes = [self._lane(n, self._channel) for n in range(len(self._names))]
        tasks = [asyncio.create_task(self._serve(n, lane)) for n, lane in enumerate(lanes)]
        if self._asked.mode == "first":
            await self._race(tasks)
            await asyncio.gather(*(leave(self._desk, lane, "lost") for lane in lanes))
        await asyncio.gather(*tasks)

    async def _race(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Until a member has a whole answer, or none is left that could have one."""
        left: set[asyncio.Task[None]] = set(tasks)
        while left:
            _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            if any(result.whole for result in await self._results()):
                return

    async def _choice(self, results: Sequence[Result]) -> tuple[Choice, str | None]:
        """Who won, and the request that asked a judge."""
        asked, whole = self._asked, [result for result in results if result.whole]
        if self._channel.gone():
            return LEFT, None
        if not whole:
            return Choice(None, "no_whole_answer"), None
        if asked.mode == "first":
            return await self._earliest(whole), None
        if asked.policy is None:
            return Choice(None, "all"), None
        seen = choose(asked.policy, results)
        if asked.judge is None or len(whole) == 1:
            return seen, None
        judge, said = await self._judged(asked.judge, whole)
        return said or Choice(seen.winner, "judge_failed", seen.inputs), judge

    async def _earliest(self, whole: Sequence[Result]) -> Choice:
        """The one whose end was recorded first; another may have come in before it heard that it had lost."""
        ends = {r.request_id: (await self._log.read_stream(stream_of(r.request_id)))[-1].position for r in whole}
        return Choice(min(ends, key=ends.__getitem__), "first", {"positions": ends})

    async def _judged(self, judge: str, whole: Sequence[Result]) -> tuple[str, Choice | None]:
        """The judge's request, an exchange of the group, and what it came to."""
        name = new_id(self._given.now_us())
        lane = Lane(Muted(self._channel), {}, name, self._follow(name))
        await self._serve_body(name, question(judge, self._asked.messages, whole), lane)
        said = result_of(name, judge, await self._log.read_stream(stream_of(name)))
        return name, verdict(said.text, whole)

    async def _results(self) -> list[Result]:
        return await _results(self._log, self._names, self._asked.models)

    def _lane(self, number: int, channel: Channel) -> Lane:
        name = self._names[number]
        return Lane(channel, {"member": number, "model": self._asked.models[number]}, name, self._follow(name))

    def _follow(self, name: str) -> Any:
        return partial(follow_answer, self._log, name, form=streamed_form)

    async def _serve(self, number: int, lane: Lane) -> None:
        await self._serve_body(self._names[number], self._asked.bodies[number], lane)

    async def _serve_body(self, name: str, body: dict[str, Any], lane: Lane) -> None:
        caller = self._caller
        member = Caller(name, caller.endpoint, caller.key, caller.address, caller.headers)
        await run_lane(self._desk, member, body, lane, parent=self._id)

    def _started(self, raw: bytes) -> GroupStarted:
        asked = self._asked
        return GroupStarted(
            group_id=self._id,
            key=self._caller.key,
            mode=asked.mode,
            members=self._names,
            models=list(asked.models),
            body_length=len(raw),
            body_digest=sha256(raw).hexdigest(),
            policy=asked.policy,
            judge=asked.judge,
        )

    async def _say(self, choice: Choice, judge: str | None = None) -> Appended:
        """Record what came of the group."""
        winner, reason, inputs = choice.winner, choice.reason, choice.inputs
        return await say(
            self._log,
            GroupSettled(group_id=self._id, reason=reason, winner=winner, inputs=inputs, judge_request=judge),
        )

    async def _open(self, appended: Appended) -> None:
        await self._channel.open({"x-request-id": self._id, POSITION_HEADER: str(appended.last)})
        members = [
            {"member": n, "model": model, "request_id": name}
            for n, (model, name) in enumerate(zip(self._asked.models, self._names, strict=True))
        ]
        said = {"type": "group", "id": self._id, "mode": self._asked.mode, "members": members}
        await self._channel.send("group", orjson.dumps(said))

    async def _close(self, whole: dict[str, Any]) -> web.StreamResponse:
        if self._channel.gone():
            self._channel.drop()
            return self._channel.response
        try:
            await self._channel.send("result", dumps({"type": "result", **whole}))
            await self._channel.end()
        except (ConnectionError, TimeoutError):
            self._channel.drop()
        return self._channel.response
