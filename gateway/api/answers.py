"""What the handlers share: JSON answers, paging, and reading one's own writes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from eventstore.catalogue.values import dumps
from gateway.errors import InvalidRequest
from gateway.services import SERVICES, Services

PATIENCE_S = 2.0
"""How long a query waits for its projection to have seen what was written before it came."""
LIMIT = 1000
MOST = 10_000


def json_response(value: Any, status: int = 200) -> web.Response:
    """JSON, money as exact decimal numbers."""
    return web.Response(body=dumps(value), status=status, content_type="application/json")


def services(request: web.Request) -> Services:
    """What the composition root put together."""
    return request.app[SERVICES]


@dataclass(frozen=True, slots=True)
class Page:
    """`?limit=&after=`: at most `limit` items (1,000 if not said), after the item that `after` names."""

    limit: int
    after: str | None

    def cut(self, items: Sequence[Any]) -> dict[str, Any]:
        """A page of a whole list, `after` being a count of items: `{data, next?}`, `next` being the next `after`."""
        start = integer(self.after, "after", 0) or 0
        shown: dict[str, Any] = {"data": list(items[start : start + self.limit])}
        if start + self.limit < len(items):
            shown["next"] = str(start + self.limit)
        return shown


def page(request: web.Request) -> Page:
    """The page that was asked for. Raises `InvalidRequest`."""
    limit = integer(request.query.get("limit"), "limit", 1, MOST)
    return Page(LIMIT if limit is None else limit, request.query.get("after") or None)


def integer(text: str | None, name: str, least: int, most: int = 2**63 - 1) -> int | None:
    """A whole number from a URL, None where there is none. Raises `InvalidRequest`."""
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 19 or not least <= int(text) <= most:
        raise InvalidRequest(f"{name} must be a whole number from {least} to {most}.", param=name)
    return int(text)


async def caught_up(request: web.Request, *projections: str) -> dict[str, Any]:
    """Waits until the projections have seen what was in the log when the request came (or `?min_position=`).

    Empty when they have; `{"stale": true}` when one has not within two seconds, and the answer is older than its
    reader."""
    given = services(request)
    position = integer(request.query.get("min_position"), "min_position", 0)
    if position is None:
        position = await given.log.head()
    waiting = (given.follower.wait_for(projection, position, PATIENCE_S) for projection in projections)
    return {} if all(await asyncio.gather(*waiting)) else {"stale": True}
