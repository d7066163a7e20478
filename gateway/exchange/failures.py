"""From a failure to the words of an error answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from eventstore.catalogue.request import FaultDomain
from gateway.errors import STATUS_OF_KIND
from gateway.exchange.inputs import Failure
from gateway.upstreams.upstream import UpstreamFailure
from gateway.wire.values import UpstreamError

LONGEST_MESSAGE = 2000
MOST_LIMITS = 48
"""Rate-limit headers of one error. Anthropic has about thirty; clients read no answer with a hundred headers, or with
16 KiB of them."""
LONGEST_VALUE = 200
_TOO_LONG = re.compile(
    r"prompt (?:is )?too long|maximum (?:context|model|prompt) length|context length (?:is|of) only"
    r"|exceed(?:s|ed)? (?:the |max |maximum )?(?:available )?context|greater than the context length"
    r"|exceeds the maximum number of tokens allowed",
    re.IGNORECASE,
)
"""What providers say of a prompt that is longer than their model's context; few but OpenAI have a code for it."""
_PASSED_ON = ("retry-after", "retry-after-ms", "x-should-retry")
_LIMIT = re.compile(r"(x|anthropic)-ratelimit-[a-z0-9_-]{1,64}")
_CALLERS_FAULT = frozenset({400, 404, 405, 409, 413, 415, 422})
_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "invalid_request_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


def failure_of_call(error: UpstreamFailure) -> Failure:
    """A call that broke on the way."""
    return Failure(error.kind, error.message)


def failure_of_error(error: UpstreamError, headers: Mapping[str, str], now_us: int) -> Failure:
    """An error that the provider reported, by status or inside its stream. Its rate-limit headers are passed on."""
    status = error.status if 400 <= error.status <= 599 else 502
    code, message = error.code, error.message[:LONGEST_MESSAGE]
    if status == 404 and code in (None, "model_not_found", "not_found_error"):
        code, message = "model_not_found", f"{message.rstrip('.')}. GET /v1/models lists what there is."
    if code in (None, "invalid_request_error") and status in (400, 413, 422) and _TOO_LONG.search(message):
        code = "context_length_exceeded"
    return Failure(
        kind=error.kind,
        message=message,
        fault_domain=_domain(status),
        status=status,
        type=error.type,
        code=code,
        param=error.param,
        retry_after_s=retry_after_s(headers, now_us),
        headers=passed_on(headers) or None,
    )


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The provider's headers that its client should see: when to try again, and what is left of its limits. Whatever it
    sends, they are as many and as long as every client reads."""
    by_name = {key.lower(): value[:LONGEST_VALUE] for key, value in headers.items()}
    limits = [name for name in by_name if _LIMIT.fullmatch(name)][:MOST_LIMITS]
    return {name: by_name[name] for name in (*_PASSED_ON, *limits) if name in by_name}


def retry_after_s(headers: Mapping[str, str], now_us: int) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `retry-after` (seconds or a date, RFC 9110 10.2.3); None where there is
    no sane one. A date counts from the answer's own `date`, so that the two clocks need not agree."""
    by_name = {key.lower(): value for key, value in headers.items()}
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return _sane(float(by_name[name]) / unit)
        except (KeyError, ValueError):
            continue
    until, since = _moment(by_name.get("retry-after", "")), _moment(by_name.get("date", ""))
    if until is None:
        return None
    return _sane(max(0.0, (until - (since or datetime.fromtimestamp(now_us / 1e6, UTC))).total_seconds()))


def error_value(failure: Failure) -> tuple[int, dict[str, Any]]:
    """(status, `{message, type, param, code}`) of the answer."""
    status = failure.status or STATUS_OF_KIND.get(failure.kind, 502)
    kind = failure.type or _TYPES.get(status, "server_error")
    return status, {
        "message": failure.message,
        "type": kind,
        "param": failure.param,
        "code": failure.code or (None if failure.status else failure.kind),
    }


def _domain(status: int) -> FaultDomain:
    return "caller" if status in _CALLERS_FAULT else "provider"


def _sane(seconds: float) -> float | None:
    return seconds if 0 <= seconds <= 86_400 * 30 else None


def _moment(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
