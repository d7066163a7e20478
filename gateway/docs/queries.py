"""What routes take in their queries, for the documents."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from gateway.docs.answers import Count
from projections.requests import State


class StreamForm(TypedDict):
    """How a stream is written: server-sent events, else an array."""

    alt: NotRequired[Literal["sse", "json"]]


class Waiting(TypedDict, total=False):
    """How many seconds to wait for a session that is busy."""

    wait: Annotated[int, Field(ge=0, le=600)]


class Paging(TypedDict, total=False):
    """A page of a list: at most `limit`, after the item that `after` names."""

    limit: Annotated[int, Field(ge=1, le=10_000)]
    after: str


class FreshPaging(Paging, total=False):
    """The same of a list that is folded from the log, which must have seen this position."""

    min_position: Count


class RequestsQuery(FreshPaging, total=False):
    """The same of requests; which of them."""

    state: State
    provider: str
    model: str
    key: str
    session_id: str


class Fresh(TypedDict, total=False):
    """The position of the log that must have been seen."""

    min_position: Count


class UsageQuery(FreshPaging, total=False):
    """`since` and `until`: ISO dates or times, or Unix seconds. `tag`: which, where it is grouped by one. `after`: a
    group's name, empty for what has none."""

    group_by: Literal["model", "provider", "key", "session", "day", "subject", "tag"]
    tag: str
    since: str
    until: str


class ModelsQuery(TypedDict, total=False):
    """Which models."""

    provider: str
    type: Literal["text-generation", "text-embedding", "text-reranking"]


class EventsQuery(TypedDict, total=False):
    """Which events, from where."""

    types: str
    request_id: str
    session_id: str
    content: bool
    after: str


class StoredQuery(TypedDict, total=False):
    """A stored response as its events again."""

    stream: bool
    starting_after: Count


class ItemsQuery(TypedDict, total=False):
    """A page of items."""

    order: Literal["asc", "desc"]
    after: str
    limit: Annotated[int, Field(ge=1, le=100)]
