"""/v1/providers and /v1/status on the running server: how each provider is, one tried out, one configured and kept."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from eventstore.catalogue.control import ProviderConfigured
from eventstore.memory import MemoryLog
from eventstore.reader import Reader
from eventstore.rows import FILE
from gateway.config import LentKey, Settings
from gateway.errors import Forbidden
from gateway.provider_settings import ProviderSettings
from gateway.routing.circuit import THRESHOLD
from gateway.upstreams.registry import configured
from gateway.upstreams.upstream import Provider
from tests.clients.front import Front, front, saying
from tests.gateway.scripted import Script
from tests.gateway.serving import provider, serving
from tests.serverprocess import server_process

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODELS = Script.json({"object": "list", "data": [{"id": "m-1"}, {"id": "m-2"}]})
LENT = "sk-lent-to-one-host-only"
CALLERS = "sk-of-the-caller-alone"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    env = {"GROQ_API_KEY": LENT, "ABSTRACTCORE_PROVIDER_KEYS": "GROQ_API_KEY@localhost"}
    async with front(tmp_path_factory.mktemp("providers"), env=env) as started:
        for name in ("openai", "groq", "mine"):
            started.upstream.script(f"GET /{name}/v1/models", MODELS)
        yield started


async def ask(server: Front, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, server.url + path, json=body) as answer,
    ):
        return answer.status, await answer.json()


def at(server: Front, provider: str, host: str = "127.0.0.1") -> str:
    """A URL of the scripted upstream."""
    return f"{server.upstream.base_url.replace('127.0.0.1', host)}/{provider}/v1"


async def test_every_provider_is_listed_with_its_place_and_state(server: Front) -> None:
    status, found = await ask(server, "GET", "/providers")
    by_name = {provider["name"]: provider for provider in found["data"]}
    assert (status, by_name.keys() >= {"openai", "anthropic", "demo"}) == (200, True)
    openai = by_name["openai"]
    assert (openai["status"], openai["model_count"], openai["has_key"]) == ("available", 2, True)
    assert (openai["base_url"], openai["api_key_env"], openai["configured_by"]) == (
        at(server, "openai"), "OPENAI_API_KEY", "environment",
    )  # fmt: skip
    assert (await ask(server, "GET", "/providers?limit=1"))[1]["next"] == "1"


async def test_one_provider_says_how_it_is_and_what_it_has(server: Front) -> None:
    status, found = await ask(server, "GET", "/providers/openai/status")
    assert (status, found["name"], found["status"]) == (200, "openai", "available")
    status, found = await ask(server, "GET", "/providers/openai/models")
    assert [model["id"] for model in found["data"]] == ["openai/m-1", "openai/m-2"]
    for path in ("status", "models"):
        status, found = await ask(server, "GET", f"/providers/nobody/{path}")
        assert (status, found["error"]["code"]) == (404, "provider_not_found")


async def test_the_status_has_the_documented_shape(server: Front) -> None:
    before = (await ask(server, "GET", "/status"))[1]["total_requests"]
    body = {"model": "demo/echo", "messages": [{"role": "user", "content": "Hi"}], "session_id": "s1"}
    assert (await ask(server, "POST", "/chat/completions", body))[0] == 200
    status, found = await ask(server, "GET", "/status")
    assert (status, found["status"], found["total_requests"] - before) == (200, "healthy", 1)
    assert (found["active_sessions"], found["requests"]["running"]) == (1, 0)
    assert isinstance(found["uptime_seconds"], int)
    assert isinstance(found["version"], str)
    assert {"name": "openai", "status": "healthy", "models": ["m-1", "m-2"]} in found["providers"]
    [anthropic] = [provider for provider in found["providers"] if provider["name"] == "anthropic"]
    assert (anthropic["status"], anthropic["models"], bool(anthropic["reason"])) == ("unhealthy", [], True)


async def test_a_provider_is_tried_with_what_the_caller_gives(server: Front) -> None:
    asked = {"name": "openai", "api_key": CALLERS, "base_url": at(server, "mine")}
    status, found = await ask(server, "POST", "/providers/test", asked)
    assert (status, found["success"], found["status"], found["models"]) == (200, True, "available", ["m-1", "m-2"])
    assert server.upstream.requests[-1].headers["authorization"] == f"Bearer {CALLERS}"
    status, found = await ask(server, "POST", "/providers/test", {"name": "openai", "base_url": at(server, "mine")})
    assert "authorization" not in server.upstream.requests[-1].headers  # ours goes nowhere that a caller names
    status, found = await ask(server, "POST", "/providers/test", {"name": "openai"})
    assert server.upstream.requests[-1].headers["authorization"] == "Bearer sk-openai"
    status, found = await ask(server, "POST", "/providers/test", {**asked, "base_url": at(server, "gone")})
    assert (status, found["success"], found["status"]) == (200, False, "unavailable")
    assert CALLERS not in json.dumps(found)


WRONG_TESTS: list[tuple[Any, int]] = [
    ({}, 400),
    ({"name": "nobody"}, 404),
    ({"name": "openai", "base_url": "http://169.254.169.254/"}, 403),
    ({"name": "openai", "base_url": "file:///etc/passwd"}, 400),
    ({"name": "openai", "api_key": "a\r\nb: c"}, 400),
    ({"name": ["openai"]}, 400),
    ({"name": "demo", "base_url": "http://127.0.0.1:1"}, 400),
]


@pytest.mark.parametrize(("body", "expected"), WRONG_TESTS)
async def test_what_cannot_be_tried_is_refused(server: Front, body: Any, expected: int) -> None:
    assert (await ask(server, "POST", "/providers/test", body))[0] == expected


async def test_a_provider_configured_while_running_serves_and_stays(server: Front) -> None:
    change = {"base_url": at(server, "groq", "localhost"), "api_key_env": "GROQ_API_KEY"}
    status, found = await ask(server, "PUT", "/providers/groq", change)
    assert (status, found["status"], found["model_count"], found["configured_by"]) == (200, "available", 2, "request")
    server.upstream.script("POST /groq/v1/chat/completions", saying("openai", "Hello"))
    chat = {"model": "groq/m-1", "messages": [{"role": "user", "content": "Hi"}]}
    for _ in range(2):
        status, found = await ask(server, "POST", "/chat/completions", chat)
        assert (status, found["choices"][0]["message"]["content"]) == (200, "Hello")
        assert server.upstream.requests[-1].headers["authorization"] == f"Bearer {LENT}"
        await server.process.restart()
    found = await events_of_type(server.process.data_dir, "provider_configured")
    assert [(event["provider"], event["api_key_env"], event["key"]) for event in found] == [
        ("groq", "GROQ_API_KEY", "anonymous")
    ]
    assert LENT.encode() not in (server.process.data_dir / "events.db").read_bytes()
    assert LENT.encode() not in server.process.said


async def events_of_type(data_dir: Path, kind: str) -> list[Mapping[str, Any]]:
    with Reader(data_dir / FILE) as reader:
        return [event.body for event in reader.rows(frames=False) if getattr(event, "type", None) == kind]


async def test_a_known_provider_moves_without_its_key_and_comes_back(server: Front) -> None:
    home = at(server, "openai")
    status, found = await ask(server, "PUT", "/providers/openai", {"base_url": at(server, "mine")})
    assert (status, found["status"], found["has_key"]) == (200, "available", False)
    assert "authorization" not in server.upstream.requests[-1].headers
    status, found = await ask(server, "PUT", "/providers/openai", {"base_url": home + "/"})
    assert (status, found["has_key"], found["configured_by"]) == (200, True, "environment")


async def test_what_was_configured_can_be_taken_back(server: Front) -> None:
    for name, offered in (("brief", False), ("openai", True)):
        assert (await ask(server, "PUT", f"/providers/{name}", {"base_url": at(server, "mine")}))[0] == 200
        status, found = await ask(server, "DELETE", f"/providers/{name}")
        assert (status, found) == (200, {"name": name, "removed": True, "offered": offered})
        assert (await ask(server, "DELETE", f"/providers/{name}"))[0] == (409 if offered else 404)
    await server.process.restart()
    assert (await ask(server, "GET", "/providers/brief"))[0] == 404
    status, found = await ask(server, "GET", "/providers/openai")
    assert (status, found["base_url"], found["has_key"]) == (200, at(server, "openai"), True)


async def test_one_that_is_moved_is_asked_at_once_however_its_old_place_failed(server: Front) -> None:
    """And a restart does not remember it ill."""
    refusing = Script.json({"error": {"message": "no", "type": "server_error"}}, status=500)
    server.upstream.script("POST /mine/v1/chat/completions", refusing)
    server.upstream.script("POST /groq/v1/chat/completions", saying("openai", "Hello"))
    chat = {"model": "moving/m-1", "messages": [{"role": "user", "content": "Hi"}]}
    assert (await ask(server, "PUT", "/providers/moving", {"base_url": at(server, "mine")}))[0] == 200
    for _ in range(THRESHOLD):
        assert (await ask(server, "POST", "/chat/completions", chat))[0] == 500
    _, found = await ask(server, "GET", "/circuit-breakers")
    assert [one["state"] for one in found["data"] if one["provider"] == "moving"] == ["open"]
    assert (await ask(server, "PUT", "/providers/moving", {"base_url": at(server, "groq")}))[0] == 200
    asking = {**chat, "fallback": ["demo/echo"]}
    status, found = await ask(server, "POST", "/chat/completions", asking)
    assert (status, found["choices"][0]["message"]["content"]) == (200, "Hello")
    await server.process.restart()
    _, found = await ask(server, "GET", "/circuit-breakers")
    assert "moving" not in [one["provider"] for one in found["data"]]
    assert (await ask(server, "DELETE", "/providers/moving"))[0] == 200


async def test_a_name_without_a_provider_is_found_before_anybody_asked_for_a_list(tmp_path: Path) -> None:
    async with front(tmp_path) as started:
        started.upstream.script("GET /vllm/v1/models", MODELS)
        started.say("vllm", "Hello")
        chat = {"model": "m-1", "messages": [{"role": "user", "content": "Hi"}]}
        for path, body in (("/messages/count_tokens", chat), ("/sessions", {"model": "m-1"})):
            assert (await ask(started, "POST", path, body))[0] == 200
            await started.process.restart()
        status, found = await ask(started, "POST", "/chat/completions", chat)
        assert (status, found["choices"][0]["message"]["content"]) == (200, "Hello")
        status, found = await ask(started, "POST", "/chat/completions", {**chat, "model": "m-9"})
        assert (status, found["error"]["code"]) == (404, "model_not_found")


async def test_a_callers_url_cannot_choose_the_path_that_is_called(server: Front) -> None:
    for end in ("#", "?"):
        url = f"{server.upstream.base_url}/anything{end}"
        chat = {"model": "openai/m-1", "messages": [{"role": "user", "content": "Hi"}], "base_url": url}
        status, found = await ask(server, "POST", "/chat/completions", chat)
        assert (status, found["error"]["param"]) == (400, "base_url")
    assert "/anything" not in [request.path for request in server.upstream.requests]


HERE = "http://localhost:1/v1"
WRONG_CHANGES: list[tuple[str, Any, int, str | None]] = [
    ("new", {}, 400, "base_url"),
    ("new", {"base_url": HERE, "api_key": "sk-a-value-not-a-name"}, 400, "api_key"),
    ("new", {"base_url": HERE, "api_key_env": "OPENAI_API_KEY"}, 403, "api_key_env"),
    ("new", {"base_url": "http://evil.example/v1", "api_key_env": "GROQ_API_KEY"}, 403, "api_key_env"),
    ("new", {"base_url": "http://evil.example/v1"}, 403, "base_url"),
    ("new", {"base_url": "http://user:pass@localhost/v1"}, 400, "base_url"),
    ("new", {"base_url": HERE, "family": "demo"}, 400, "family"),
    ("new", {"base_url": HERE, "familly": "ollama"}, 400, "familly"),
    ("New%20one", {"base_url": HERE}, 400, "name"),
    ("new%20one", {"base_url": HERE}, 400, "name"),
    ("openai", {"base_url": HERE, "family": "ollama"}, 409, None),
    ("demo", {"base_url": HERE}, 409, None),
]


@pytest.mark.parametrize(("name", "body", "expected", "param"), WRONG_CHANGES)
async def test_what_may_not_be_configured_is_refused(
    server: Front, name: str, body: Any, expected: int, param: str | None
) -> None:
    status, found = await ask(server, "PUT", f"/providers/{name}", body)
    assert (status, found["error"]["param"]) == (expected, param)


async def test_a_key_that_is_lent_no_more_leaves_its_provider_out(server: Front, tmp_path: Path) -> None:
    args = ("--nats", "off")
    url = at(server, "groq", "localhost")
    env = {"GROQ_API_KEY": LENT, "ABSTRACTCORE_PROVIDER_KEYS": "GROQ_API_KEY@localhost"}
    async with server_process(tmp_path / "logs", env=env, args=args) as process:
        change = {"base_url": url, "api_key_env": "GROQ_API_KEY"}
        assert (await ask(Front(process, server.upstream), "PUT", "/providers/groq", change))[0] == 200
        await process.terminate()
    async with server_process(tmp_path / "logs", args=args) as process:
        found = (await ask(Front(process, server.upstream), "GET", "/providers"))[1]
        assert "groq" not in {provider["name"] for provider in found["data"]}
        assert b"groq is not as it was configured" in process.said


async def test_a_providers_own_url_may_always_be_named() -> None:
    home = provider("openai", family="openai_compatible", api_key="k")
    made = ProviderSettings(MemoryLog(), {"openai": home}, Settings(host="0.0.0.0"))
    asked = {"provider": "openai", "family": "openai_compatible", "key": "anonymous"}
    assert await made.put(ProviderConfigured(base_url=f"{home.base_url}/", **asked)) == home
    with pytest.raises(Forbidden):
        await made.put(ProviderConfigured(base_url=f"{home.base_url}/v2", **asked))


async def test_a_start_repeats_what_is_archived_where_the_settings_still_allow_it() -> None:
    log, allowed = MemoryLog(), Settings(base_url_allowlist=frozenset({"alpha.test"}))
    made = ProviderSettings(log, {}, allowed)
    await made.put(
        ProviderConfigured(provider="own", family="openai_compatible", base_url="http://alpha.test/v1", key="anonymous")
    )
    head = await log.head()
    assert [await made.repeats(head - 1), await made.repeats(head)] == [False, True]
    assert not await ProviderSettings(log, {}, Settings()).repeats(head)
    await made.restore(head)
    assert not await made.repeats(head)


async def test_a_provider_may_be_tried_at_its_own_url_wherever_the_server_listens(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, host="0.0.0.0", api_key="a-key-long-enough")
    async with serving(tmp_path, settings=settings) as served:
        headers = {"Authorization": "Bearer a-key-long-enough"}
        for url, expected in (("http://alpha.test/v1", 200), ("http://127.0.0.1:1/v1", 403)):
            body = {"name": "alpha", "base_url": url}
            assert (await served.post("/v1/providers/test", json=body, headers=headers))[0] == expected


class Careless(ProviderSettings):
    """Gives a lent key to any host."""

    def _key(self, asked: Any, known: Any) -> str | None:
        lent = self._settings.provider_keys.get(asked.api_key_env)
        return None if lent is None else lent.value


ELSEWHERE = (
    "https://api.groq.com.evil.example/v1",
    "https://evilapi.groq.com/v1",
    "https://evil.api.groq.com/v1",
    "https://groq.com/v1",
    "https://evil.example/api.groq.com",
    "http://localhost:1/v1",
)


@pytest.mark.parametrize("settings", [ProviderSettings, Careless])
async def test_a_lent_key_goes_to_its_host_only(settings: type[ProviderSettings]) -> None:
    offered: dict[str, Provider] = {}
    lent = Settings(provider_keys={"GROQ_API_KEY": LentKey("api.groq.com", LENT)})
    made = settings(MemoryLog(), offered, lent)
    asked = {"provider": "groq", "family": "openai_compatible", "key": "anonymous", "api_key_env": "GROQ_API_KEY"}
    found = await made.put(ProviderConfigured(base_url="https://api.groq.com/openai/v1", **asked))
    assert found.api_key == LENT
    stolen = False
    for url in ELSEWHERE:
        try:
            stolen |= (await made.put(ProviderConfigured(base_url=url, **asked))).api_key == LENT
        except Forbidden:
            continue
    assert stolen is (settings is Careless)


async def test_a_key_that_is_lent_to_a_port_goes_to_no_other() -> None:
    lent = Settings(provider_keys={"GROQ_API_KEY": LentKey("groq.example:8443", LENT)})
    made = ProviderSettings(MemoryLog(), {}, lent)
    asked = {"provider": "groq", "family": "openai_compatible", "key": "anonymous", "api_key_env": "GROQ_API_KEY"}
    assert (await made.put(ProviderConfigured(base_url="https://GROQ.example:8443/v1", **asked))).api_key == LENT
    for url in ("https://groq.example/v1", "https://groq.example:9/v1"):
        with pytest.raises(Forbidden):
            await made.put(ProviderConfigured(base_url=url, **asked))


@pytest.mark.parametrize(
    ("url", "same"),
    [("https://o.example/v1", True), ("https://o.example/v1/", True), ("https://o.example/v1.other", False),
     ("https://o.example", False), ("https://o.example/v1/more", False)],
)  # fmt: skip
async def test_a_provider_that_is_moved_leaves_its_key_behind(url: str, same: bool) -> None:
    known = Provider(name="o", family="openai_compatible", base_url="https://o.example/v1", api_key="ours")
    asked = ProviderConfigured(provider="o", family="openai_compatible", base_url=url, key="anonymous")
    made = configured(known, asked, None)
    assert (made.base_url, made.api_key) == (("https://o.example/v1", "ours") if same else (url, None))
