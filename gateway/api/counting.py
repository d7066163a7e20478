"""How many tokens a prompt has, for who asks before it is sent. No exchange: nothing is generated or booked, and
clients count the same words again before they ask."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from gateway.exchange.estimate import estimate, prompt_bytes
from gateway.routing.choose import Route, credential
from gateway.services import Services
from gateway.upstreams.upstream import Counts, Upstream, UpstreamFailure
from gateway.wire.values import Unsupported, WireError

logger = logging.getLogger(__name__)

ESTIMATED = {"x-abstractcore-estimated": "true"}

InMessages = Callable[[Route, Upstream], Mapping[str, Any]]
"""The body in Anthropic's Messages, for where it goes. Raises `Unsupported`, `WireError` where it cannot be said so."""


async def counted(given: Services, body: Mapping[str, Any], in_messages: InMessages) -> int | None:
    """The provider's own count; None where it has none to give. Raises `GatewayError`: no such model, no key."""
    name = body.get("model") or given.settings.model or ""
    if given.stands_for(name) != (name,):  # each of them would count otherwise
        return None
    route = await given.route(name)
    upstream = given.upstreams[route.provider.family]
    if not isinstance(upstream, Counts) or body.get("base_url"):  # whose key goes to that host alone
        return None
    key = credential(route.provider, body.get("api_key"), None)
    try:
        return await upstream.count_tokens(route.provider, route.model, in_messages(route, upstream), key)
    except (UpstreamFailure, Unsupported, WireError) as failure:
        logger.info("%s counted no tokens: %s", route.provider.name, failure)
        return None


def guessed(chat: Mapping[str, Any]) -> int:
    """An estimate of a chat body's."""
    return estimate(prompt_bytes(orjson.dumps([chat["messages"], chat.get("tools")])), 0).input_tokens
