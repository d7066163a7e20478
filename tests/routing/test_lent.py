"""A caller's own key and URL: for the provider that its request named, whoever else is called for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange.attempt import Attempt
from gateway.exchange.plan import Plan
from gateway.exchange.run import Exchanges
from gateway.exchange.running import Running, Verdict
from gateway.exchange.successor import Successor
from gateway.server import Server
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, Gateway, chat, gateway

THEIRS = "sk-theirs-canary-0123456789"
OURS_THERE = "Bearer sk-ours-there-0123456789"
NAMED, ELSEWHERE = "openai/m", "openai-compatible/x"
BUSY = Script.json({"error": {"message": "busy"}}, status=503)
SILENT = Script(b"", content_type="text/event-stream", hold=True)


@dataclass(frozen=True)
class Places:
    """The server, the provider that requests name, and the other one."""

    gateway: Gateway
    named: ScriptedServer
    other: ScriptedServer

    async def ask(self, **fields: Any) -> tuple[list[str | None], list[str | None]]:
        """The credentials that the two were shown."""
        await self.gateway.ask(chat(NAMED, **fields))
        return credentials(self.named), credentials(self.other)


def credentials(upstream: ScriptedServer) -> list[str | None]:
    return [request.headers.get("authorization") for request in upstream.requests]


@asynccontextmanager
async def places(tmp_path: Path, kind: type[Exchanges] = Exchanges) -> AsyncIterator[Places]:
    """Both are busy."""
    async with ScriptedServer() as named, ScriptedServer() as other:
        env = {
            "OPENAI_BASE_URL": f"{named.base_url}/v1",
            "OPENAI_API_KEY": "sk-ours-0123456789",
            "OPENAI_COMPATIBLE_BASE_URL": f"{other.base_url}/v1",
            "OPENAI_COMPATIBLE_API_KEY": OURS_THERE.removeprefix("Bearer "),
        }
        for upstream in (named, other):
            upstream.script(COMPATIBLE, BUSY)
        server = type("Lent", (Server,), {"runs": kind})
        args = ("--provider", "openai-compatible")
        async with gateway(tmp_path, named.base_url, *args, kind=server, env=env) as served:
            yield Places(served, named, other)


class Lending(Exchanges):
    """The deliberate bug: what follows a call has the credentials of whoever was called last."""

    def _successor(self, running: Running, plan: Plan, attempt: Attempt, verdict: Verdict) -> Successor | None:
        return super()._successor(running, replace(plan, lent_to=plan.provider.name), attempt, verdict)


@pytest.mark.parametrize("bug", [False, True])
async def test_a_key_goes_to_no_provider_that_its_caller_did_not_name(tmp_path: Path, bug: bool) -> None:
    async with places(tmp_path, Lending if bug else Exchanges) as both:
        named, other = await both.ask(api_key=THEIRS, fallback=[ELSEWHERE, "openai-compatible/y"])
        assert named == [f"Bearer {THEIRS}"]
        assert (other == [OURS_THERE] * 2) is not bug
        assert (f"Bearer {THEIRS}" in other) is bug


async def test_a_key_comes_back_to_its_provider(tmp_path: Path) -> None:
    async with places(tmp_path) as both:
        named, other = await both.ask(api_key=THEIRS, fallback=[ELSEWHERE, "openai/n"])
        assert named == [f"Bearer {THEIRS}"] * 2
        assert other == [OURS_THERE]


async def test_a_url_is_for_its_provider_alone(tmp_path: Path) -> None:
    async with places(tmp_path) as both, ScriptedServer() as theirs:
        theirs.script(COMPATIBLE, BUSY)
        url, fallback = f"{theirs.base_url}/v1", [ELSEWHERE, "openai-compatible/y", "openai/n"]
        named, other = await both.ask(api_key=THEIRS, base_url=url, fallback=fallback)
        assert (named, other) == ([], [OURS_THERE] * 2)
        assert [request.json()["model"] for request in theirs.requests] == ["m", "n"]


async def test_a_key_goes_nowhere_by_a_call_beside(tmp_path: Path) -> None:
    async with places(tmp_path) as both:
        both.named.script(COMPATIBLE, SILENT)
        both.other.script(COMPATIBLE, Script(b"<html>"), BUSY)
        hedge = {"after_ms": 1, "model": ELSEWHERE}
        _, other = await both.ask(api_key=THEIRS, hedge=hedge, fallback=["openai-compatible/y"])
        assert other == [OURS_THERE] * 2


async def test_a_model_that_is_called_like_the_provider_is_not_taken_for_it(tmp_path: Path) -> None:
    async with places(tmp_path) as both:
        named, other = await both.ask(api_key=THEIRS, fallback=["openai"])  # a model of the default provider
        assert (named, other) == ([f"Bearer {THEIRS}"], [OURS_THERE])
