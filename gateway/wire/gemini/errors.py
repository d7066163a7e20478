"""Errors in Google's words: https://cloud.google.com/apis/design/errors"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

STATUSES: Mapping[int, str] = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    504: "DEADLINE_EXCEEDED",
}
"""HTTP status -> google.rpc.Code; any other is INVALID_ARGUMENT below 500 and UNAVAILABLE above."""
_BY_CODE: Mapping[str, int] = {"overloaded": 503, "timeout": 504}
_BY_TYPE: Mapping[str, int] = {"rate_limit_error": 429, "insufficient_quota": 429, "invalid_request_error": 400}


def error_body(status: int | None, error: Mapping[str, Any]) -> bytes:
    """`{"error": {code, message, status}}` of `{message, type, param, code}`. An error that ends a stream has no HTTP
    status: it gets the one that its code or type stands for."""
    if status is None:
        status = _BY_CODE.get(str(error.get("code")), _BY_TYPE.get(str(error.get("type")), 500))
    name = STATUSES.get(status, "INVALID_ARGUMENT" if status < 500 else "UNAVAILABLE")
    return orjson.dumps({"error": {"code": status, "message": error.get("message"), "status": name}})
