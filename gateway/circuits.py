"""The circuit breakers of this server: fed with each attempt's end, asked before a call, kept in the log.

While all is well an attempt costs one dictionary lookup. Caller-named URLs are no provider of ours, and have none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from eventstore.catalogue import decode
from eventstore.catalogue.circuit import CircuitClosed, CircuitHalfOpened, CircuitOpened
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.log import Log
from eventstore.reader import Reader
from gateway.errors import CircuitOpen
from gateway.exchange.inputs import Failure
from gateway.exchange.plan import Plan
from gateway.exchange.policy import Policy
from gateway.redaction import Redactor
from gateway.routing.circuit import CLOSED, Circuit, after, event_of, evolve, no_longer, outcome_of, probing
from gateway.upstreams.upstream import Provider

MOST_CREDENTIALS = 1024
"""Of one provider: callers bring their own keys, as many as they like."""
RECENT = 2 * MOST_CREDENTIALS
"""Changes of one provider that a start reads: one that comes and goes has any number of them."""


class Circuits:
    """`refusing`: an open circuit refuses requests that have no model to fall back on. Times are on the steady clock:
    whatever the wall clock does, a cool-down is as long as it is."""

    def __init__(self, log: Log, redactor: Redactor, cool_down_s: float, refusing: bool) -> None:
        self._log, self._redactor, self._cool_down_s, self.refusing = log, redactor, cool_down_s, refusing
        self._circuits: dict[str, dict[str | None, Circuit]] = {}

    def restore(self, reader: Reader, providers: Iterable[str], now_us: int) -> None:
        """As the log says it was, but for no longer than the longest cool-down. A circuit that is not among the last
        changes of its provider is closed: to forget one costs a call."""
        for stream, provider in [(_stream(provider), provider) for provider in providers]:
            for recorded in reader.read_stream(stream, reader.version(stream) - RECENT):
                event = decode(recorded)
                if isinstance(event, CircuitOpened | CircuitHalfOpened | CircuitClosed):
                    self._keep(provider, event.credential, no_longer(evolve(event), now_us))

    async def ended(self, plan: Plan, failure: Failure | None, now_us: int) -> None:
        """An attempt gave a whole answer (None), or failed so."""
        provider = plan.provider.name
        if (failure is None and provider not in self._circuits) or plan.callers_url:
            return
        wait_s = None if failure is None else failure.retry_after_s
        outcome = "answered" if failure is None else outcome_of(failure.kind, failure.status, wait_s)
        if outcome is None:
            return
        before, credential = self._of(plan)
        now = after(before, outcome, now_us, self._cool_down_s, wait_s or 0.0)
        reason = "answered" if failure is None else str(failure.status or failure.kind)
        inputs = {"outcome": outcome, "wait_s": wait_s}
        await self._step(provider, credential, before, now, reason, now_us, inputs)

    async def forget(self, provider: str, now_us: int) -> None:
        """It was configured anew: how its calls ended says nothing of where it is now."""
        for credential, before in list(self._circuits.get(provider, {}).items()):
            await self._step(provider, credential, before, CLOSED, "configured", now_us, {"outcome": "configured"})

    def bar(self, plan: Plan, policy: Policy | None, now_us: int) -> None:
        """Raises `CircuitOpen` where the provider is left alone, and requests without another model are refused."""
        if _falls_back(policy) or not self.refusing or not self.open(plan, now_us):
            return
        raise CircuitOpen(_left_alone(plan), headers=_told_when(self._of(plan)[0], now_us))

    async def called(self, plan: Plan, policy: Policy | None, now_us: int) -> Failure | None:
        """A call is made now: as the probe, where it is time for one. Gives why it is not made after all, as if it had
        failed, where the request has another model, or somebody else has become the probe meanwhile."""
        if not (_falls_back(policy) or self.refusing) or not self._has(plan):
            return None
        before, credential = self._of(plan)
        if before.state == "closed":
            return None
        now = probing(before, now_us, self._cool_down_s)
        if now is None:
            headers = _told_when(before, now_us) if self.refusing else None  # else it is called after all
            return Failure("circuit_open", _left_alone(plan), code="circuit_open", headers=headers)
        await self._step(plan.provider.name, credential, before, now, "probe", now_us, {})
        return None

    def open(self, plan: Plan, now_us: int) -> bool:
        """Whether it is no use to make a call beside another to this."""
        if not self._has(plan):
            return False
        circuit, _ = self._of(plan)
        return circuit.state != "closed" and now_us < (circuit.retry_at or 0)

    def left_alone(self, provider: Provider, now_us: int) -> bool:
        """The same, of calls with the server's own key."""
        if provider.name not in self._circuits:
            return False
        credential = self._redactor.fingerprint(provider.api_key) if provider.api_key else None
        circuit = self._circuits[provider.name].get(credential, CLOSED)
        return circuit.state != "closed" and now_us < (circuit.retry_at or 0)

    def shown(self) -> list[dict[str, Any]]:
        """`{provider, credential, state, failures, opened_at, retry_at}` of each that has anything to say."""
        return [
            {"provider": provider, "credential": credential, "state": circuit.state, "failures": circuit.failures,
             "opened_at": circuit.opened_at, "retry_at": circuit.retry_at}
            for provider, of in sorted(self._circuits.items())
            for credential, circuit in of.items()
        ]  # fmt: skip

    def _has(self, plan: Plan) -> bool:
        return plan.provider.name in self._circuits and not plan.callers_url

    def _of(self, plan: Plan) -> tuple[Circuit, str | None]:
        credential = self._redactor.fingerprint(plan.api_key) if plan.api_key else None
        return self._circuits.get(plan.provider.name, {}).get(credential, CLOSED), credential

    async def _step(
        self,
        provider: str,
        credential: str | None,
        before: Circuit,
        now: Circuit,
        reason: str,
        now_us: int,
        more: dict[str, Any],
    ) -> None:
        """Held from now on, so that one request alone is the probe; and recorded where it is news."""
        self._keep(provider, credential, now)
        inputs = {"now_us": now_us, "cool_down_s": self._cool_down_s, "before": asdict(before), **more}
        event = event_of(before, now, provider, credential, reason, inputs)
        if event is not None:
            await self._log.append(StreamWrite(_stream(provider), ANY_VERSION, (event.new(),)))

    def _keep(self, provider: str, credential: str | None, circuit: Circuit) -> None:
        of = self._circuits.setdefault(provider, {})
        of.pop(credential, None)
        if circuit != CLOSED:
            of[credential] = circuit
            if len(of) > MOST_CREDENTIALS:
                del of[next(iter(of))]
        if not of:
            del self._circuits[provider]


def _falls_back(policy: Policy | None) -> bool:
    return policy is not None and bool(policy.fallback)


def _left_alone(plan: Plan) -> str:
    return f"{plan.provider.name} failed too often of late, and is left alone for a while."


def _told_when(circuit: Circuit, now_us: int) -> dict[str, str]:
    """The header that says when it may be tried again."""
    wait_s = ((circuit.retry_at or now_us) - now_us) / 1_000_000
    return {"retry-after": str(int(wait_s) + 1)}


def _stream(provider: str) -> str:
    return f"provider-{provider}"
