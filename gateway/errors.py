"""What a caller can be told went wrong, and its one translation to OpenAI's error body.

    GatewayError             status, type, code, param, message, fault domain, headers
    ├── InvalidRequest       400  the body or a parameter is wrong
    │   ├── MissingParameter       400 `missing_required_parameter`
    │   └── UnsupportedParameter   400 `unsupported_parameter`: the provider's family cannot carry it
    ├── Unauthorized         401  no key, a wrong key, or no key for the provider
    ├── CostCapped           402  it would cost more than it allows itself
    ├── Forbidden            403  an origin, a host or a base_url that is not allowed
    ├── NotFound             404  no such model, provider, request or route
    ├── RequestTimeout       408  the body did not arrive in time
    ├── Conflict             409  not now: what was asked about is still going on
    ├── TooLarge             413  the body is over the limit
    ├── KeyReused            422  an Idempotency-Key that stands for another request
    ├── NotOffered           501  the provider has no such service, or what it needs is not installed
    ├── HopLoop              508  our own call came back to us
    ├── CircuitOpen          503  the provider failed too often of late, and nothing else may take the request
    ├── DeadlinePassed       504  the request's deadline passed before anything was called
    ├── Unavailable          503  the queue is full, or a projection lags; try again
    │   └── StorageFull      507  the disk is nearly full; try again when there is room
    ├── LogDamaged           500  what was asked for is in the log, but not as it was written
    └── UpstreamFailed       the provider refused or broke: its status, or 502/504

Fault domains: caller (fix your request), policy (our rules), provider (their fault), gateway (ours).
The body's shape: https://platform.openai.com/docs/guides/error-codes, all four keys always there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from eventstore.catalogue.request import FaultDomain
from eventstore.errors import LogBusy, LogFull, LogHeld


class GatewayError(Exception):
    """Anything that becomes an error answer. `message` is shown to the caller: no secrets, no paths of the server."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    fault_domain: ClassVar[FaultDomain] = "gateway"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Any = None,
    ) -> None:
        super().__init__(message)
        self.message, self.param = message, param
        self.error_code = code if code is not None else self.code
        self.headers: dict[str, str] = dict(headers or {})
        self.details = details

    def error(self) -> dict[str, Any]:
        """`{message, type, param, code}`, as recorded and as shown (with `details` under `--debug` only)."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.error_code}


class InvalidRequest(GatewayError):
    """The body or a parameter is wrong."""

    status, type, fault_domain = 400, "invalid_request_error", "caller"


class MissingParameter(InvalidRequest):
    """A field that must be there is not; `message` where a protocol has words of its own for that."""

    code = "missing_required_parameter"

    def __init__(self, param: str, message: str | None = None) -> None:
        found = {"field": param, "message": "Field required", "type": "missing"}
        super().__init__(message or f"Missing required parameter: '{param}'.", param=param, details=[found])


class UnsupportedParameter(InvalidRequest):
    """The provider's family cannot carry a field that changes the answer."""

    code = "unsupported_parameter"


class Unauthorized(GatewayError):
    """No key, a wrong key, or no key for the provider."""

    status, type, code, fault_domain = 401, "invalid_request_error", "invalid_api_key", "caller"


class CostCapped(GatewayError):
    """The request would cost more than it allows itself."""

    status, type, code, fault_domain = 402, "invalid_request_error", "cost_cap", "caller"


class Forbidden(GatewayError):
    """An origin, a host or a base_url that is not allowed."""

    status, type, fault_domain = 403, "invalid_request_error", "policy"


class NotFound(GatewayError):
    """No such model, provider, request or route."""

    status, type, fault_domain = 404, "invalid_request_error", "caller"


class RequestTimeout(GatewayError):
    """The body did not arrive in time."""

    status, type, code, fault_domain = 408, "invalid_request_error", "request_timeout", "caller"


class Conflict(GatewayError):
    """Not now: what was asked about is still going on."""

    status, type, code, fault_domain = 409, "invalid_request_error", "conflict", "caller"


class KeyReused(GatewayError):
    """An Idempotency-Key that stands for another request."""

    status, type, code, fault_domain = 422, "invalid_request_error", "idempotency_key_reused", "caller"


class TooLarge(GatewayError):
    """The body is over the limit."""

    status, type, code, fault_domain = 413, "invalid_request_error", "request_too_large", "caller"


class HopLoop(GatewayError):
    """Our own upstream call came back to us."""

    status, type, code, fault_domain = 508, "invalid_request_error", "loop_detected", "policy"


class NotOffered(GatewayError):
    """The provider has no such service, or what it needs is not installed here."""

    status, type, code, fault_domain = 501, "invalid_request_error", "not_implemented", "policy"


class CircuitOpen(GatewayError):
    """The provider failed too often of late; `Retry-After` says when it is tried again."""

    status, type, code, fault_domain = 503, "server_error", "circuit_open", "provider"


class DeadlinePassed(GatewayError):
    """The request's deadline passed before anything was called."""

    status, type, code, fault_domain = 504, "server_error", "total_timeout", "caller"


class Unavailable(GatewayError):
    """The queue of appends or a projection cannot take this now; `Retry-After` says when to try again."""

    status, type, code, fault_domain = 503, "server_error", "unavailable", "gateway"


class StorageFull(Unavailable):
    """The disk has no room for new requests; nothing of this one is recorded."""

    status, code = 507, "insufficient_storage"


class LogDamaged(GatewayError):
    """What was asked for is in the log, but not as it was written: it is given to nobody."""

    code = "log_damaged"


def damaged() -> LogDamaged:
    """What the caller is told."""
    return LogDamaged(
        "The log is damaged where this was recorded, so it is not shown. On the server, `abstractcore-replay verify`"
        " says what is wrong, and `abstractcore-replay repair` makes damaged rows again."
    )


def not_now(busy: LogBusy) -> Unavailable:
    """What the caller is told where the log takes no new work."""
    headers = {"Retry-After": str(busy.retry_after_s)}
    if isinstance(busy, LogFull):
        return StorageFull("The server's disk is nearly full: it takes no new requests.", headers=headers)
    if isinstance(busy, LogHeld):
        return Unavailable("Another process keeps the server from its log: it takes no new requests.", headers=headers)
    return Unavailable("The server is busy: its log has a full queue.", headers=headers)


STATUS_OF_KIND: Mapping[str, int] = {
    "connect_failed": 502,
    "connect_timeout": 504,
    "first_byte_timeout": 504,
    "idle_timeout": 504,
    "total_timeout": 504,
    "connection_lost": 502,
    "cut": 502,
    "bad_response": 502,
    "validation_failed": 502,
    "upstream_error": 502,
    "internal_error": 500,
    "client_left": 499,
    "stopped": 499,
    "cost_cap": 402,
    "interrupted": 503,
    "circuit_open": 503,
}
"""Why a generation failed -> the status of the answer, where the provider gave none of its own."""


def openai_error_body(error: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's envelope around `{message, type, param, code}` and whatever rides along."""
    known = {key: error.get(key) for key in ("message", "type", "param", "code")}
    return {"error": {**known, **error}}
