"""From a request's JSON to a submission: what is checked, what is recorded, what is only used. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Any

from eventstore.catalogue.values import Usd
from eventstore.parts import split
from eventstore.value import value
from gateway.auth import ANONYMOUS
from gateway.errors import InvalidRequest
from gateway.exchange.inputs import Submission
from gateway.exchange.policy import Policy, policy_of
from gateway.json_guard import check_id, check_ids, check_utf8
from gateway.redaction import Redactor
from gateway.routing.callers_url import check_base_url
from gateway.wire.dialect import Dialect

RETENTION_HEADER = "x-abstractcore-retention"
SESSION_HEADER = "x-abstractcore-session-id"
TAGS_HEADER = "x-abstractcore-tags"
CAP_HEADER = "x-abstractcore-max-cost-usd"
MOST_TAGS = 32
MOST_CAP = 1_000_000


@value
class Caller:
    """Who asks and how: the key's id, the address, the request's headers (names as sent, looked up in any case)."""

    request_id: str
    endpoint: str
    key: str
    address: str | None
    headers: Mapping[str, str]


@value
class Rules:
    """The settings that a submission hangs on. `default_model` stands for a request that names none, before it that of
    `endpoint_models` under its protocol; `agent_format`, `policy` and `execute_tools` for one that leaves them to the
    server."""

    redactor: Redactor
    default_model: str | None
    base_url_allowlist: Collection[str]
    bound_to_loopback: bool
    agent_format: str | None = None
    policy: Policy = field(default_factory=Policy)
    execute_tools: bool = False
    endpoint_models: Mapping[str, str] = field(default_factory=dict)


def unread(caller: Caller, dialect: Dialect, raw: bytes = b"") -> Submission:
    """What is known of a request whose body cannot be used: nothing of the body is recorded but length and digest, and
    what was wrong with it, unless the caller asked that nothing be retained. See `retained`, which comes before."""
    return Submission(
        request_id=caller.request_id,
        endpoint=caller.endpoint,
        wire=dialect.wire,
        renderer=dialect.version,
        body={},
        recorded=None,
        body_length=len(raw),
        body_digest=sha256(raw).hexdigest(),
        key=caller.key,
        retained=caller.headers.get(RETENTION_HEADER) != "none",
    )


def submit(
    caller: Caller, sent: dict[str, Any], raw: bytes, rules: Rules, dialect: Dialect, whole: dict[str, Any]
) -> Submission:
    """A request that its dialect has checked. `sent` is what came in the bytes `raw`, and is recorded; `whole` is the
    same with what it refers to, and is used. Raises `GatewayError`."""
    check_ids(sent)
    body = dialect.common(whole)
    headers = caller.headers
    session = _session(body, headers)
    base_url = body.get("base_url")
    if base_url is not None:
        check_base_url(base_url, rules.base_url_allowlist, rules.bound_to_loopback)
    kept = retained(headers)
    recorded, blobs = split(rules.redactor.body(sent), raw) if kept else ({}, [])
    streamed = body.get("stream") is True
    formed = sent if whole is sent else {**whole, **sent}  # what a session was opened with counts too
    return Submission(
        request_id=caller.request_id,
        endpoint=caller.endpoint,
        wire=dialect.wire,
        renderer=dialect.version,
        body=whole,
        recorded=recorded,
        blobs=tuple(blobs),
        body_length=len(raw),
        body_digest=sha256(raw).hexdigest(),
        model=body.get("model") or rules.endpoint_models.get(dialect.wire) or rules.default_model or "",
        streamed=streamed,
        options=dialect.options(_with_defaults(formed, rules)),
        include_usage=streamed and bool((body.get("stream_options") or {}).get("include_usage")),
        subject=_subject(session, body, caller.key, rules.redactor),
        key=caller.key,
        session_id=session,
        tags=_tags(body, headers) if kept else None,
        retained=kept,
        client=caller.address,
        headers=_recorded_headers(rules.redactor, headers, kept) or None,
        api_key=body.get("api_key") or None,
        base_url=base_url,
        policy=policy_of(body, rules.policy),
        most_cost=most_cost(body, headers),
    )


def most_cost(body: Mapping[str, Any], headers: Mapping[str, str]) -> Usd | None:
    """What the answer may cost: the smaller of what the body and the header say, which who stands between may have set.
    Raises `InvalidRequest`."""
    given = (body.get("max_cost_usd"), headers.get(CAP_HEADER))
    return min((_cap(each) for each in given if each is not None), default=None)


def _cap(given: object) -> Usd:
    try:
        most = Decimal(str(given))
    except InvalidOperation:
        most = Decimal(-1)
    if isinstance(given, bool) or not most.is_finite() or not 0 <= most <= MOST_CAP:
        raise InvalidRequest(f"max_cost_usd must be a number of dollars, at most {MOST_CAP}.", param="max_cost_usd")
    return Usd.parse(most)


def _with_defaults(sent: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """What the form of the answer hangs on, with what the request leaves to the server."""
    if rules.agent_format is not None and sent.get("agent_format") in (None, "auto"):
        sent = {**sent, "agent_format": rules.agent_format}
    if rules.execute_tools and sent.get("execute_tools") is None and sent.get("tools"):
        sent = {**sent, "execute_tools": True}
    return sent


def _session(body: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    session = body.get("session_id") or headers.get(SESSION_HEADER)
    if session:
        check_id(session, "session_id")
    return session or None


def retained(headers: Mapping[str, str]) -> bool:
    """Whether content may be written down. Raises `InvalidRequest`: a misspelt header must not mean that it may."""
    retention = headers.get(RETENTION_HEADER)
    if retention not in (None, "none", "full"):
        raise InvalidRequest(f"{RETENTION_HEADER} must be none or full.", param=RETENTION_HEADER)
    return retention != "none"


def _recorded_headers(redactor: Redactor, headers: Mapping[str, str], kept: bool) -> dict[str, str]:
    recorded = redactor.headers(headers)
    if not kept:
        recorded.pop(TAGS_HEADER, None)
    return recorded


def _subject(session: str | None, body: Mapping[str, Any], key: str, redactor: Redactor) -> str:
    """Whose data this is: the session's, else the end user's (hashed), else the key's. Raises `InvalidRequest`."""
    user = _text(body, "safety_identifier") or _text(body, "user")
    if session:
        return session if session.startswith("session-") else f"session-{session}"
    return f"user-{redactor.fingerprint(user)}" if user else (key if key != ANONYMOUS else ANONYMOUS)


def _text(body: Mapping[str, Any], name: str) -> str | None:
    """A field that not every dialect checks. Raises `InvalidRequest`."""
    said = body.get(name)
    if said is None or isinstance(said, str):
        return said
    raise InvalidRequest(f"Invalid value for '{name}': it must be a string.", param=name, code="invalid_type")


def _tags(body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, str] | None:
    """From `metadata`, and from a header `name=value, name=value`, which wins."""
    tags, given = dict(body.get("metadata") or {}), headers.get(TAGS_HEADER)
    if given:
        check_utf8(given, TAGS_HEADER)
        for pair in given.split(","):
            name, equals, value = pair.partition("=")
            if equals and name.strip():
                tags[name.strip()] = value.strip()
    if len(tags) > MOST_TAGS:
        raise InvalidRequest(f"There are more than {MOST_TAGS} tags.", param="metadata")
    return tags or None
