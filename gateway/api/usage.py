"""GET /v1/usage: what was used and what it cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast, get_args

from aiohttp import web

from gateway.api.answers import caught_up, json_response, page, services
from gateway.errors import InvalidRequest
from projections.usage import GroupBy, read_by, usage_report

GROUPS: tuple[str, ...] = get_args(GroupBy)
_EPOCH = datetime.fromtimestamp(0, UTC)


async def usage(request: web.Request) -> web.Response:
    """`?group_by=model|provider|key|session|day|subject|tag&since=&until=`: the report, up to what was just answered.

    A `subject` is a request's session, else its end user (hashed), else its key. `group_by=tag` wants `tag`, the name
    of one, and groups by its values, null being the requests without it. `after` names the last group of the page
    before (`provider/model`; empty for that of no session or tag). `since` (inclusive) and `until` (exclusive) are ISO
    dates or times, UTC where they do not say, or Unix seconds.
    """
    group_by = request.query.get("group_by", "model")
    if group_by not in GROUPS:
        raise InvalidRequest(f"group_by must be one of {', '.join(GROUPS)}.", param="group_by")
    since, until, asked = moment(request, "since"), moment(request, "until"), page(request)
    by, tag = cast(GroupBy, group_by), request.query.get("tag") or None
    if (by == "tag") != (tag is not None):
        raise InvalidRequest("group_by=tag and tag, the name of one, go together.", param="tag")
    after = request.query.get("after")  # an empty one too: behind the group of what has none
    stale = await caught_up(request, *read_by(by))
    report = await services(request).read_projections(
        lambda rows: usage_report(rows, by, since, until, asked.limit, after, tag)
    )
    return json_response(report | stale)


def moment(request: web.Request, name: str) -> int | None:
    """A time from the URL in microseconds since 1970 UTC. Raises `InvalidRequest`."""
    text = request.query.get(name)
    if not text:
        return None
    try:
        if text.isascii() and text.isdecimal():
            found = datetime.fromtimestamp(int(text), UTC)
        else:
            # An unescaped + of a zone arrives as a space.
            found = datetime.fromisoformat(text.replace(" ", "+") if text.count(":") > 1 else text)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidRequest(
            f"{name} must be a date (2026-11-21), a time (2026-11-21T10:00:00Z) or Unix seconds.", param=name
        ) from error
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (found - _EPOCH) // timedelta(microseconds=1)
