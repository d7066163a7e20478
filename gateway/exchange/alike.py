"""Which questions can be alike: those that differ in the last user text alone. Pure.

A likeness of vectors says what texts are about, and little of what they say of it; so figures must be the same, and a
text must be short enough for a small embedding model to read all of it.
"""

from __future__ import annotations

import re
import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import sqrt
from typing import Any

import orjson

from eventstore.catalogue.answer import QuestionEmbedded
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.value import value
from gateway.errors import InvalidRequest
from gateway.exchange.claims import NO_MATTER, Caching, Place
from gateway.exchange.inputs import Submission

HEADER = "x-abstractcore-semantic-cache"
LONGEST = 512
"""Bytes of a text."""
_FIGURES = re.compile(r"[-\u2012-\u2015\u2212]?\d+")
"""With what may be a minus before them."""


@value
class Question:
    """A text, and the digest of everything else that its answer hangs on, its figures too. `threshold`: the least
    cosine; an answer older than `max_age_s` does not count, and with `fresh` none does."""

    text: str
    others: str
    key: str
    threshold: float
    max_age_s: float
    fresh: bool


@value
class Near:
    """A request that asked something alike, at a time in microseconds on the steady clock."""

    request_id: str
    at: int
    similarity: float


def question(
    submission: Submission, headers: Mapping[str, str], caching: Caching, places: Sequence[Place]
) -> Question | None:
    """What the request asks, where the answer to a question like it will do. Raises `InvalidRequest`."""
    threshold = _threshold(headers.get(HEADER), caching)
    place = next((place for place in places if place.kind == "cache"), None)
    if not threshold or place is None or (split := _split(submission.body)) is None:
        return None
    text, rest = split
    wire = f"{submission.wire}/{submission.renderer}"
    said = [submission.key, wire, submission.endpoint, submission.model, rest, _FIGURES.findall(text)]
    others = sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return Question(text, others, submission.key, threshold, place.max_age_s, place.fresh)


def _threshold(said: str | None, caching: Caching) -> float:
    """0 where questions must be the same."""
    if said is None:
        return caching.alike
    if said == "off":
        return 0.0
    if not caching.alike:
        raise InvalidRequest("This server has no semantic cache: see --semantic-cache.", param=HEADER)
    try:
        threshold = float(said)
    except ValueError:
        threshold = 0.0
    if not 0 < threshold <= 1:
        raise InvalidRequest(f"{HEADER} must be off, or a number above 0 and up to 1.", param=HEADER)
    return threshold


def _split(body: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The last user text, and the body without it; None where the body does not end in one."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "user" or (text := _text(last.get("content"))) is None:
        return None
    if not text.strip() or len(text.encode(errors="replace")) > LONGEST:
        return None
    rest = {name: each for name, each in body.items() if name not in NO_MATTER and each is not None}
    rest["messages"] = [*body["messages"][:-1], {name: each for name, each in last.items() if name != "content"}]
    return text, rest


def _text(content: Any) -> str | None:
    """A message's text, where it is nothing else."""
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        part = content[0]
        content = part.get("text") if part.keys() == {"type", "text"} and part["type"] == "text" else None
    return content if isinstance(content, str) else None


def stream_for(question: Question, model: str) -> str:
    """The stream of all that are like it but for the text, whose vectors this model made."""
    return f"alike-{sha256(f'{question.others} {model}'.encode()).hexdigest()}"


def embedded(stream: str, request_id: str, question: Question, model: str, vector: bytes, at: int) -> StreamWrite:
    """What is recorded of a question whose answer is to count for others; `at` on the steady clock."""
    packed = b64encode(vector).decode()
    event = QuestionEmbedded(request_id=request_id, key=question.key, model=model, vector=packed, steady_at=at)
    return StreamWrite(stream, ANY_VERSION, (event.new(),))


def packed(vector: Sequence[float]) -> bytes:
    """The vector at length 1, as half-precision floats, little-endian."""
    length = sqrt(sum(x * x for x in vector)) or 1.0
    return struct.pack(f"<{len(vector)}e", *(x / length for x in vector))


def recorded_vector(body: Mapping[str, Any]) -> bytes:
    """The same, from `question_embedded`."""
    return b64decode(body["vector"])
