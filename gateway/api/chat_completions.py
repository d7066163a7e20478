"""POST /v1/chat/completions: parse, run, respond. The opinions are in gateway/exchange."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from aiohttp import web

from gateway.api.outlet import USUAL, HttpOutlet, Pace
from gateway.auth import ANONYMOUS
from gateway.edge import KEY_ID, request_id
from gateway.errors import GatewayError
from gateway.exchange.inputs import Submission
from gateway.exchange.resume import follow_answer
from gateway.exchange.run import Exchanges
from gateway.exchange.submit import Caller, Rules, submit, unread
from gateway.json_guard import read_json
from gateway.services import SERVICES


@dataclass(frozen=True, slots=True)
class Chat:
    """What the chat endpoints need besides the services."""

    exchanges: Exchanges
    rules: Rules
    pace: Pace = USUAL


ENDPOINT = "/v1/chat/completions"
CHAT = web.AppKey("chat", Chat)


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """OpenAI's chat completions, over every provider."""
    chat = request.app[CHAT]
    caller = caller_of(request, ENDPOINT)
    raw = b""
    try:
        body, raw = await read_json(request)
        submission = submit(caller, body, raw, chat.rules)
    except GatewayError as error:
        outlet = outlet_for(request, None)
        await chat.exchanges.refuse(unread(caller, raw), outlet, error)
        return outlet.response
    outlet = outlet_for(request, submission)
    await chat.exchanges.run(submission, outlet)
    return outlet.response


def caller_of(request: web.Request, endpoint: str) -> Caller:
    """Who asks, and where."""
    return Caller(request_id(request), endpoint, request.get(KEY_ID, ANONYMOUS), request.remote, request.headers)


def outlet_for(request: web.Request, submission: Submission | None) -> HttpOutlet:
    """The client of this request; one whose content is retained can read it from the log."""
    services = request.app[SERVICES]
    follow = None
    if submission is not None and submission.retained:
        follow = partial(follow_answer, services.log, submission.request_id)
    outlet = HttpOutlet(request, follow, services.monotonic, request.app[CHAT].pace)
    if submission is not None and submission.streamed:
        outlet.streams()
    return outlet
