"""Whether a request may be answered from the cache, and under which key. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Literal, get_args

import orjson

from eventstore.value import value
from gateway.errors import InvalidRequest
from gateway.exchange.inputs import Submission

Mode = Literal["off", "use", "refresh"]
"""`use`: an answer that is kept, else one that is then kept; `refresh`: a new one, which is kept instead."""

CACHE_HEADER = "x-abstractcore-cache"
MAX_AGE_HEADER = "x-abstractcore-cache-max-age"

WIRES = frozenset({"completions", "embeddings", "messages", "openai_chat", "structured"})
"""Protocols whose answers stand alone. A response of `/v1/responses` does not: others go on from it by its id."""
SAME_ANSWER = frozenset({"max_cost_usd", "metadata", "safety_identifier", "stream", "stream_options", "user"})
"""Fields that change how an answer is told or accounted, not what it says."""


@value
class Asked:
    """How a request wants the cache used; no kept answer older than `max_age_s` will do."""

    mode: Mode
    max_age_s: float


def asked(headers: Mapping[str, str], usual: Asked) -> Asked:
    """By its headers, else as configured. Raises `InvalidRequest`."""
    mode, age = headers.get(CACHE_HEADER), headers.get(MAX_AGE_HEADER)
    if mode is None and age is None:
        return usual
    return Asked(usual.mode if mode is None else _mode(mode), usual.max_age_s if age is None else _seconds(age))


def _mode(text: str) -> Mode:
    for mode in get_args(Mode):
        if text == mode:
            found: Mode = mode
            return found
    raise InvalidRequest(f"{CACHE_HEADER} must be off, use or refresh.", param=CACHE_HEADER)


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise InvalidRequest(f"{MAX_AGE_HEADER} must be a whole number of seconds.", param=MAX_AGE_HEADER)
    return float(text)


def cacheable(submission: Submission) -> bool:
    """Whether its answer can be one of another: it is no part of a conversation that is kept here, its content is
    retained, and it goes where we are configured to send it, with our credentials."""
    return (
        submission.wire in WIRES
        and submission.retained
        and submission.session_id is None
        and submission.turn is None
        and submission.api_key is None
        and submission.base_url is None
    )


def key_of(submission: Submission) -> str:
    """sha256, hex, of who asks and what: each caller's key has a cache of its own."""
    body = {name: said for name, said in submission.body.items() if name not in SAME_ANSWER}
    whole = [submission.key, submission.wire, submission.model, body]
    return sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()


def stream_of_key(key: str) -> str:
    """The log's stream of the answers that are kept for a key."""
    return f"cache-{key}"
