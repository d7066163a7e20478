"""Which answers a request may be given, and the claim that its own is one of them. Pure.

An Idempotency-Key stands for a request of its caller's key; the cache's key is a digest of all that the answer hangs
on. Both name a stream of the log, whose version decides which of several requests at once calls an upstream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from math import nan
from typing import Any, Literal

import orjson

from eventstore.catalogue.answer import AnswerClaimed, ClaimKind
from eventstore.catalogue.event import Event
from eventstore.catalogue.request import RequestRejected
from eventstore.envelope import RecordedEvent, StreamWrite
from eventstore.value import value
from gateway.errors import InvalidRequest
from gateway.exchange.inputs import Submission
from gateway.json_guard import check_utf8
from gateway.media.parts import mentions
from gateway.wire.dialects import RESPONSES
from gateway.wire.gemini.answer import ARRAY

KEY_HEADER = "idempotency-key"
CACHE_HEADER = "x-abstractcore-cache"
AGE_HEADER = "x-abstractcore-cache-max-age"
LONGEST_KEY = 255
KEY_AGE_S = 24 * 3600.0
"""How long an Idempotency-Key stands for its request."""
NO_MATTER = frozenset(
    {"api_key", "max_cost_usd", "metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
     "session_id", "store", "stream", "stream_options", "user"}
)  # fmt: skip
"""Fields that leave the answer what it is, whatever they do to its form."""
FILE_FIELDS = frozenset({"file_id", "file_url", "image", "images", "image_url", "mask", "url"})
"""Fields of a request, and of its parts, that can name a file."""

Mode = Literal["off", "use", "refresh"]
MODES: Mapping[str, Mode] = {"off": "off", "use": "use", "refresh": "refresh"}


@dataclass(frozen=True, slots=True)
class Caching:
    """The server's own rule: whether it caches unasked, how old an answer may be, in seconds, and how alike (a cosine)
    questions must be to have one answer, 0 where they must be the same."""

    on: bool = False
    max_age_s: float = KEY_AGE_S
    alike: float = 0.0


UNASKED = Caching()


@value
class Place:
    """A stream that claims stand on. `asked` is the digest of what a claim stands for; an answer that is older than
    `max_age_s` counts no more; with `fresh` none counts. `request` is the digest of what is asked, whoever asks."""

    stream: str
    kind: ClaimKind
    key: str
    asked: str
    max_age_s: float
    fresh: bool = False
    request: str = ""


@value
class Claim:
    """A place that is taken with the request's first commit, if it still is at that version. `at`: when that was seen,
    in microseconds on the steady clock."""

    place: Place
    expected: int
    at: int


@value
class Claims:
    """What a request claims, and the `marks` by which others like it find its answer. One that is refused at once
    claims nothing."""

    claims: tuple[Claim, ...]
    marks: tuple[StreamWrite, ...] = ()

    def beside(self, request_id: str, first: bool, events: Sequence[Event]) -> tuple[StreamWrite, ...]:
        """What goes into the commit of these events of its request."""
        if not first or isinstance(events[-1], RequestRejected):
            return ()
        return (*(_claimed(claim, request_id) for claim in self.claims), *self.marks)


def _claimed(claim: Claim, request_id: str) -> StreamWrite:
    place = claim.place
    event = AnswerClaimed(request_id=request_id, kind=place.kind, key=place.key, asked=place.asked, steady_at=claim.at)
    return StreamWrite(place.stream, claim.expected, (event.new(),))


def recorded_at(event: RecordedEvent, incarnation: str) -> int:
    """When an event with a `steady_at` was recorded, on the steady clock of this incarnation: that of an earlier one
    began elsewhere, and of its events the log's clock is what is known."""
    steady_at: int | None = event.body.get("steady_at")
    return event.at if steady_at is None or event.origin != incarnation else steady_at


def age_s(at_us: int, now_us: int) -> float:
    """Nothing is younger than now, whatever a clock said of it."""
    return max(0.0, (now_us - at_us) / 1e6)


def places(submission: Submission, headers: Mapping[str, str], caching: Caching, path: str) -> tuple[Place, ...]:
    """Where an answer for the request may be found, in this order. Raises `InvalidRequest`."""
    found = []
    given = headers.get(KEY_HEADER)
    if given is not None:
        found.append(_by_key(submission, given, path))
    mode = _mode(headers, caching, submission)
    if mode != "off":
        found.append(_by_request(submission, _max_age_s(headers, caching), mode == "refresh"))
    return tuple(found)


def _by_key(submission: Submission, given: str, path: str) -> Place:
    if not given.strip() or len(given) > LONGEST_KEY:
        raise InvalidRequest(f"Idempotency-Key must have 1 to {LONGEST_KEY} characters.", param="Idempotency-Key")
    check_utf8(given, "Idempotency-Key")
    if not submission.retained:
        raise InvalidRequest("An Idempotency-Key needs an answer that is retained.", param="Idempotency-Key")
    stream = f"idempotency-{_digest(submission.key, given)}"
    by_query = [ARRAY] if (submission.options or {}).get(ARRAY) else []  # the one form that neither path nor body says
    asked = _digest(path, submission.body_digest, *by_query)
    return Place(stream, "idempotency", submission.key, asked, KEY_AGE_S)


def _by_request(submission: Submission, max_age_s: float, fresh: bool) -> Place:
    said = {name: each for name, each in submission.body.items() if name not in NO_MATTER and each is not None}
    canonical = orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()
    wire = f"{submission.wire}/{submission.renderer}"
    request = _digest(wire, submission.endpoint, submission.model, canonical)
    asked = _digest(submission.key, request)
    return Place(f"cache-{asked}", "cache", submission.key, asked, max_age_s, fresh, request)


def _digest(*parts: str) -> str:
    return sha256(orjson.dumps(parts)).hexdigest()


def _mode(headers: Mapping[str, str], caching: Caching, submission: Submission) -> Mode:
    said = headers.get(CACHE_HEADER)
    if said is None:
        return "use" if caching.on and cacheable(submission) and not by_chance(submission.body) else "off"
    if said not in MODES:
        raise InvalidRequest(f"{CACHE_HEADER} must be use, refresh or off.", param=CACHE_HEADER)
    return MODES[said] if cacheable(submission) else "off"


def cacheable(submission: Submission) -> bool:
    """Whether the answer may be another's: it is retained, hangs on nothing but the request and our own settings, and
    has no name by which its client finds it again, as turns of sessions and stored responses have."""
    own = submission.base_url is None and submission.api_key is None
    named = submission.turn is not None or submission.parent is not None or submission.wire == RESPONSES.wire
    acts = bool((submission.options or {}).get("execute_tools"))
    body = submission.body
    return submission.retained and own and not (named or acts or _mentions_file(body) or _names_file(body))


def _mentions_file(body: Mapping[str, Any]) -> bool:
    """Whether a text of the user's has an `@name`: in a message, or in a prompt, which models that chat get as one."""
    said, prompt = body.get("messages"), body.get("prompt")
    prompts = [each for each in (prompt if isinstance(prompt, list) else [prompt]) if isinstance(each, str)]
    asked = [{"role": "user", "content": each} for each in prompts]
    return bool(mentions({"messages": [*(said if isinstance(said, list) else ()), *asked]}))


def _names_file(said: Any) -> bool:
    """Whether a request, or a part of it, names a file by URL, path or id: what is there can change."""
    if isinstance(said, Mapping):
        return any((name in FILE_FIELDS and _elsewhere(each)) or _names_file(each) for name, each in said.items())
    return isinstance(said, list) and any(map(_names_file, said))


def _elsewhere(named: Any) -> bool:
    if isinstance(named, list):
        return any(map(_elsewhere, named))
    return isinstance(named, str) and not named.startswith("data:")


def by_chance(body: Mapping[str, Any]) -> bool:
    """Whether the request wants answers that differ: it says a temperature above 0, or more than one choice. What is no
    number may mean that too."""
    return _number(body.get("temperature"), 0) != 0 or not _number(body.get("n"), 1) <= 1


def _number(said: Any, usual: float) -> float:
    """A field's number, which a form says as text; NaN for what is none."""
    try:
        return usual if said is None else float(said)
    except (TypeError, ValueError):
        return nan


def _max_age_s(headers: Mapping[str, str], caching: Caching) -> float:
    given = headers.get(AGE_HEADER)
    if given is None:
        return caching.max_age_s
    try:
        age = Decimal(given)
    except InvalidOperation:
        age = Decimal(-1)
    if not age.is_finite() or age < 0:
        raise InvalidRequest(f"{AGE_HEADER} must be a number of seconds.", param=AGE_HEADER)
    return float(age)
