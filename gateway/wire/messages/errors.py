"""Errors in Anthropic's words: https://docs.anthropic.com/en/api/errors"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_BY_OURS: Mapping[str, str] = {
    "rate_limit_error": "rate_limit_error",
    "invalid_request_error": "invalid_request_error",
    "insufficient_quota": "billing_error",
}
_BY_CODE: Mapping[str, str] = {"overloaded": "overloaded_error", "timeout": "timeout_error"}


def error_object(status: int | None, error: Mapping[str, Any], request_id: str | None = None) -> dict[str, Any]:
    """`{type, error: {type, message}, request_id}` of `{message, type, param, code}`; by the status where there is
    one."""
    if status is not None:
        kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    else:
        kind = _BY_CODE.get(str(error.get("code")), _BY_OURS.get(str(error.get("type")), "api_error"))
    told = {"type": "error", "error": {"type": kind, "message": error.get("message")}}
    return told if request_id is None else {**told, "request_id": request_id}
