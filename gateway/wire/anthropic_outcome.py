"""Anthropic Messages: how an answer ended and what it took, in OpenAI's words.

Sources: https://docs.anthropic.com/en/api/errors, https://docs.anthropic.com/en/api/handling-stop-reasons and, for
usage, https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from eventstore.catalogue.values import Usage
from gateway.wire.finish_reasons import finish_reason_of
from gateway.wire.values import Delta, UpstreamError, count

_PLAIN_REASONS = frozenset({"end_turn", "tool_use", "max_tokens"})

ERRORS: Mapping[str, tuple[int, str, str | None]] = {
    "invalid_request_error": (400, "invalid_request_error", None),
    "authentication_error": (401, "invalid_request_error", "invalid_api_key"),
    "billing_error": (402, "insufficient_quota", "insufficient_quota"),
    "permission_error": (403, "invalid_request_error", "permission_denied"),
    "not_found_error": (404, "invalid_request_error", "model_not_found"),
    "request_too_large": (413, "invalid_request_error", "request_too_large"),
    "rate_limit_error": (429, "rate_limit_error", "rate_limit_exceeded"),
    "api_error": (500, "server_error", None),
    "timeout_error": (504, "server_error", "timeout"),
    "overloaded_error": (529, "server_error", "overloaded"),
}
"""Their error type -> the status it amounts to, OpenAI's type and code. https://docs.anthropic.com/en/api/errors"""


def finish_of(said: Mapping[str, Any]) -> Delta:
    """The end of the answer. A reason that OpenAI has no word for rides along as it is."""
    reason = str(said["stop_reason"])
    extra = None
    if reason not in _PLAIN_REASONS:
        extra = {key: said[key] for key in ("stop_reason", "stop_sequence", "stop_details") if said.get(key)}
    return Delta(finish_reason=finish_reason_of(reason), extra=extra)


def usage_of(raw: Mapping[str, Any]) -> Usage:
    """Their usage, normalised: `input_tokens` is without cached tokens here and with them there. Writes for an hour are
    told apart by `cache_creation`; the rest of the total is for five minutes."""
    read, write = count(raw.get("cache_read_input_tokens")), count(raw.get("cache_creation_input_tokens"))
    kinds = given(raw.get("cache_creation"))
    long = count(kinds.get("ephemeral_1h_input_tokens"))
    write = write or long + count(kinds.get("ephemeral_5m_input_tokens"))
    long = min(long, write)
    return Usage(
        input_tokens=count(raw.get("input_tokens")) + read + write,
        cache_read_tokens=read,
        cache_write_5m_tokens=write - long,
        cache_write_1h_tokens=long,
        output_tokens=count(raw.get("output_tokens")),
        reasoning_tokens=count(given(raw.get("output_tokens_details")).get("thinking_tokens")),
        web_search_requests=count(given(raw.get("server_tool_use")).get("web_search_requests")),
    )


def error_of(error: Any, status: int | None) -> UpstreamError:
    """An error object. `status` is that of the answer; None inside a stream, where the error's type stands for it."""
    told = given(error)
    known, kind, code = _words(told.get("type"), status)
    message = told.get("message")
    if not isinstance(message, str) or not message:
        message = f"the provider answered {status or known}"
    return UpstreamError(message[:2000], status or known, type=kind, code=code)


def error_of_body(status: int, body: bytes) -> UpstreamError:
    """What a non-2xx answer means. A body that is not this API's (a proxy's page) is not shown."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    return error_of(answer.get("error") if isinstance(answer, dict) else None, status)


def _words(kind: Any, status: int | None) -> tuple[int, str, str | None]:
    """By the type if it is known, else by the status."""
    if isinstance(kind, str) and kind in ERRORS:
        return ERRORS[kind]
    likely = (words for words in ERRORS.values() if words[0] == status)
    return next(likely, ERRORS["invalid_request_error" if status and status < 500 else "api_error"])


def given(value: Any) -> dict[str, Any]:
    """An object's keys that are not null; nothing for anything else."""
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else {}
