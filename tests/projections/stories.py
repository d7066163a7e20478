"""What happens in the tests' logs: events with usual values, and whole requests made of them."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from eventstore.catalogue import Event
from eventstore.catalogue.control import NodeStarted
from eventstore.catalogue.generation import GenerationCompleted, GenerationFailed, GenerationStarted
from eventstore.catalogue.request import (
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestInterrupted,
    RequestReceived,
    RequestRejected,
    RouteSelected,
)
from eventstore.catalogue.session import (
    SessionCleared,
    SessionCompacted,
    SessionCreated,
    SessionDeleted,
    SessionForked,
    SessionTurnAbandoned,
    SessionTurnCompleted,
    SessionTurnStarted,
)
from eventstore.catalogue.tool import ToolCalled, ToolCompleted, ToolFailed
from eventstore.catalogue.values import Usd
from tests.projections.ledger import Ledger

DIGEST = "0" * 64
NO_FRAMES = sha256().hexdigest()
MODEL = "qwen3-coder:30b"


def usd(dollars: str) -> Usd:
    return Usd.parse(dollars)


def node_started() -> NodeStarted:
    return NodeStarted(node="n1", release="0.1.0")


def received(request_id: str, **changed: Any) -> RequestReceived:
    body = {"model": f"ollama/{MODEL}", "messages": [{"role": "user", "content": f"hello from {request_id}"}]}
    usual: dict[str, Any] = {
        "endpoint": "/v1/chat/completions", "wire": "openai_chat", "renderer": 1, "stream_answer": False,
        "model": f"ollama/{MODEL}", "subject": "anonymous", "key": "anonymous", "body_length": 90,
        "body_digest": DIGEST, "body": body,
    }  # fmt: skip
    return RequestReceived(request_id=request_id, **usual | changed)


def routed(request_id: str, provider: str = "ollama", model: str = MODEL) -> RouteSelected:
    return RouteSelected(request_id=request_id, provider=provider, model=model, family=provider, reason="named")


def started(request_id: str, attempt: int = 1, provider: str = "ollama", model: str = MODEL) -> GenerationStarted:
    return GenerationStarted(
        request_id=request_id, attempt=attempt, provider=provider, model=model, decoder="ollama_chat.1",
        streamed=True, url="http://127.0.0.1:11434/api/chat", call_digest=DIGEST, call_length=80,
    )  # fmt: skip


def generated(request_id: str, attempt: int = 1, **changed: Any) -> GenerationCompleted:
    answer = {"role": "assistant", "content": f"hi {request_id}"}
    usual: dict[str, Any] = {
        "provider": "ollama", "model": MODEL, "finish_reason": "stop", "tokens_input": 12, "tokens_output": 7,
        "usage": {"input_tokens": 12, "output_tokens": 7}, "usage_source": "provider", "cost_usd": usd("0.00116"),
        "duration_ms": 812.25, "ttft_ms": 120.5, "frames": 0, "frames_digest": NO_FRAMES,
        "choices": [{"index": 0, "message": answer, "finish_reason": "stop"}], "price_rule": "ollama/local",
    }  # fmt: skip
    return GenerationCompleted(request_id=request_id, attempt=attempt, **usual | changed)


def ran(name: str, duration_ms: float) -> ToolCompleted:
    return ToolCompleted(tool_name=name, call_id="call_1", duration_ms=duration_ms, length=2, digest=DIGEST)


def did_not(name: str, kind: str, duration_ms: float | None) -> ToolFailed:
    return ToolFailed(tool_name=name, call_id="call_1", kind=kind, duration_ms=duration_ms)


def broke(request_id: str, attempt: int = 1, **changed: Any) -> GenerationFailed:
    usual: dict[str, Any] = {
        "provider": "ollama", "model": MODEL, "kind": "connect_failed", "message": "connection refused",
        "fault_domain": "provider", "began": False, "tokens_input": 0, "tokens_output": 0, "usage": {},
        "usage_source": "none", "cost_usd": None, "frames": 0, "frames_digest": NO_FRAMES,
    }  # fmt: skip
    return GenerationFailed(request_id=request_id, attempt=attempt, **usual | changed)


def completed(request_id: str, **changed: Any) -> RequestCompleted:
    usual: dict[str, Any] = {
        "provider": "ollama", "model": MODEL, "status": 200, "attempts": 1, "duration_ms": 815.5, "overhead_ms": 3.25,
        "payload_digest": DIGEST, "payload_length": 300, "cost_usd": usd("0.00116"), "ttft_ms": 121.0,
    }  # fmt: skip
    return RequestCompleted(request_id=request_id, **usual | changed)


def failed(request_id: str, **changed: Any) -> RequestFailed:
    error = {"message": "the provider cannot be reached", "type": "server_error", "param": None, "code": None}
    usual: dict[str, Any] = {
        "provider": "ollama", "model": MODEL, "status": 502, "attempts": 1, "duration_ms": 5.5, "overhead_ms": 1.5,
        "error": error, "fault_domain": "provider", "began": False, "payload_digest": DIGEST, "payload_length": 90,
        "cost_usd": usd("0"),
    }  # fmt: skip
    return RequestFailed(request_id=request_id, **usual | changed)


def rejected(request_id: str, **changed: Any) -> RequestRejected:
    error = {"message": "no such model", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    usual: dict[str, Any] = {
        "endpoint": "/v1/chat/completions", "wire": "openai_chat", "key": "anonymous", "status": 404, "error": error,
        "fault_domain": "caller", "model": "nobody/nothing",
    }  # fmt: skip
    return RequestRejected(request_id=request_id, **usual | changed)


def cancelled(request_id: str, **changed: Any) -> RequestCancelled:
    usual: dict[str, Any] = {
        "provider": "ollama", "model": MODEL, "reason": "client_left", "attempts": 1, "duration_ms": 40.0,
        "payload_digest": DIGEST, "payload_length": 10, "cost_usd": usd("0.0001"),
    }  # fmt: skip
    return RequestCancelled(request_id=request_id, **usual | changed)


def interrupted(request_id: str) -> RequestInterrupted:
    return RequestInterrupted(
        request_id=request_id, reason="restart", incarnation="n1i1", attempts=1, cost_usd=usd("0")
    )


def answered(request_id: str, **changed: Any) -> list[Event]:
    """A request that went well, from its arrival to its end."""
    return [
        received(request_id, **changed), routed(request_id), started(request_id), generated(request_id),
        completed(request_id),
    ]  # fmt: skip


def turn(session_id: str, number: int, request_id: str, *end: Event) -> list[Event]:
    """A turn of a session that ends so (well, unless said), with its request."""
    begun = SessionTurnStarted(
        session_id=session_id, turn=number, request_id=request_id, before=number - 1, purpose="chat",
        carried=number - 1, dropped=0, tokens=9, window=100,
    )  # fmt: skip
    said = SessionTurnCompleted(session_id=session_id, turn=number, request_id=request_id, cost_usd=usd("0.00116"))
    return [begun, *answered(request_id, session_id=session_id)[:-2], *(end or [said]), *answered(request_id)[-2:]]


def sessions() -> list[Event]:
    """Two sessions, one forked from the other; turns of every ending."""
    lost = SessionTurnAbandoned(session_id="session-1", turn=2, request_id="s2", reason="failed", cost_usd=None)
    short = SessionCompacted(session_id="session-1", turn=3, request_id="s3", kept=0, cost_usd=usd("0.00116"))
    return [
        SessionCreated(session_id="session-1", key="key-1", model="a/b", title="Ä", metadata={"team": "a"}),
        *turn("session-1", 1, "s1"),
        *turn("session-1", 2, "s2", lost),
        SessionCreated(session_id="session-2", key="key-1"),
        SessionForked(session_id="session-2", parent_id="session-1", at=1, key="key-1"),
        *turn("session-1", 3, "s3", short),
        *turn("session-2", 2, "s4"),
        SessionCleared(session_id="session-1", at=1, key="key-1"),
        SessionCreated(session_id="session-3", key="key-1"),
        SessionDeleted(session_id="session-3", key="key-1"),
    ]


def everything() -> Ledger:
    """A log with every ending, retries, a fallback, blobs, retention none, two requests at once, and a restart."""
    log = Ledger()
    log.add(node_started(), *answered("r1", key="key-1", session_id="s1"))
    log.add_frames(5)
    log.add(received("r2"), routed("r2"), started("r2"), received("r3", retention="none", body=None))
    log.add(broke("r2"), started("r2", 2), generated("r2", 2, cost_usd=None, price_rule=None))
    log.add(completed("r2", attempts=2, cost_usd=None), routed("r3"), started("r3"))
    log.add(generated("r3", choices=None, tokens_input_cached=4), completed("r3"))
    log.add(rejected("r4"), received("r5"), rejected("r5", model=f"ollama/{MODEL}", status=400))
    large = log.add_blob({"role": "user", "content": "long " * 400})
    log.add(received("r6", body={"model": f"ollama/{MODEL}", "messages": [large], "tools": log.add_blob([{"a": 1}])}))
    log.add(routed("r6"), started("r6"), ToolCalled(
        request_id="r6", attempt=1, provider="ollama", model=MODEL, tool_name="weather", call_id="c1", arguments="{}",
    ))  # fmt: skip
    log.add(broke("r6", kind="cut", began=True, tokens_input=9, tokens_output=3, cost_usd=usd("0.000000000007")))
    log.add(started("r6", 2, "anthropic", "claude"), generated("r6", 2, provider="anthropic", model="claude"))
    log.add(completed("r6", attempts=2, provider="anthropic", model="claude", cost_usd=usd("0.001160000007")))
    log.add(received("r7"), routed("r7"), started("r7"), broke("r7"), failed("r7"))
    log.add(received("r8"), routed("r8"), started("r8"))
    log.add(broke("r8", kind="client_left", tokens_input=5, tokens_output=1, cost_usd=usd("0.0001")), cancelled("r8"))
    log.add(received("r9"), routed("r9"), started("r9"))
    log.now += 36 * 3_600_000_000
    log.add(node_started(), interrupted("r9"), *answered("r10"), received("r11"), routed("r11"))
    log.add_frames(3)
    return log
