"""A worker from inside, with an engine that talks until it is told to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from gateway.config import Settings
from gateway.errors import NotOffered
from gateway.upstreams.local.engine import Asked, Outcome, Say
from gateway.upstreams.local.family import Library, LocalModels
from gateway.upstreams.local.host import Host
from gateway.upstreams.local.worker import Worker
from gateway.upstreams.registry import providers
from gateway.upstreams.upstream import UpstreamFailure

CHAT = {"messages": [{"role": "user", "content": "hi"}], "sampling": {}}


class Talker:
    """Says a word a token; after three the client leaves, as the test has it."""

    context = 100

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        return [1]

    def generate(self, prompt: list[int], asked: Asked, limit: int, say: Say) -> Outcome:
        for token in range(1, limit + 1):
            if token == 3:
                self._worker._cancelled.add(1)
            if not say("word "):
                return Outcome(token, "stop")
        return Outcome(limit, "length")


class Deaf(Worker):
    """Bug: what is cancelled goes on."""

    def __init__(self, write: Any) -> None:
        super().__init__(write)
        self._cancelled = NeverIn()


class NeverIn(set[int]):
    def __contains__(self, item: object) -> bool:
        return False


def tokens(worker: type[Worker]) -> int:
    said: list[Mapping[str, Any]] = []
    made = worker(said.append)
    made._one(Talker(made), 1, {"chat": CHAT})
    ended: int = said[-1]["ended"]["completion_tokens"]
    return ended


def test_a_cancelled_request_stops_at_its_next_token() -> None:
    assert tokens(Worker) == 3


def test_the_check_notices_a_worker_that_goes_on() -> None:
    assert tokens(Deaf) > 3


async def nothing(event: Any) -> None:
    """No log here."""


async def test_without_its_packages_a_provider_says_what_to_install() -> None:
    family = LocalModels("mlx", Library("mlx", ("no_such_package",), "mlx"), Host(nothing, lambda: 0.0), None)
    provider = providers(Settings())["mlx"]
    with pytest.raises(NotOffered, match=r"abstractcore-server\[mlx\]") as refused:
        family.encode(provider, "tiny", CHAT)
    assert refused.value.status == 501
    with pytest.raises(UpstreamFailure, match=r"abstractcore-server\[mlx\]"):
        await family.models(provider, None)
