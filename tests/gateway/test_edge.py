"""The door: who is let in, and how every error leaves. Over a real socket, headers written as an attacker would."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.__main__ import Scrub
from gateway.auth import RejectionLimiter
from gateway.config import Settings
from gateway.edge import KEY_ID, Edge, HostCheck, check_hop, check_origin
from gateway.errors import Forbidden, GatewayError, HopLoop, InvalidRequest
from tests.gateway.serving import HOP, Served, serving
from tests.gateway.whole import gateway

API_KEY = "a-long-enough-key"
CHAT = "/v1/chat/completions"


def keyed(data_dir: Path, **changed: Any) -> Settings:
    return Settings(data_dir=data_dir, api_key=API_KEY, **changed)


def is_openai_error(body: Any) -> bool:
    return isinstance(body, dict) and set(body["error"]) == {"message", "type", "param", "code"}


async def raw(served: Served, request: bytes) -> bytes:
    """The first bytes of the answer to a request written by hand."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
    writer.write(request)
    answer = await reader.read(65536)
    writer.close()
    return answer


GOOD_HOSTS = ["localhost", "localhost:8000", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "localhost.:80"]
BAD_HOSTS = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "10.0.0.1", "0.0.0.0:8000"]
MALFORMED_HOSTS = ["", "a/?x=", "local host", "localhost:80:80", "user@localhost", "localhost:99999999", "[::1", "-x"]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_loopback_answers_to_its_own_names(host: str) -> None:
    HostCheck("127.0.0.1", keyed=False).check(host)


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_loopback_refuses_a_rebound_name(host: str) -> None:
    with pytest.raises(Forbidden):
        HostCheck("127.0.0.1", keyed=False).check(host)


@pytest.mark.parametrize("host", MALFORMED_HOSTS)
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_a_malformed_host_is_refused_everywhere(bound: str, host: str) -> None:
    with pytest.raises(InvalidRequest):
        HostCheck(bound, keyed=True).check(host)


def test_the_name_that_the_server_was_told_to_listen_on_is_its_own() -> None:
    HostCheck("127.0.0.2", keyed=False).check("127.0.0.2:8000")
    HostCheck("::1", keyed=False).check("[::1]:8000")


def test_behind_a_key_or_on_a_public_address_a_proxys_name_is_let_in() -> None:
    HostCheck("127.0.0.1", keyed=True).check("api.example.com")
    HostCheck("0.0.0.0", keyed=False).check("api.example.com:443")


FOREIGN = ["http://evil.example", "null", "https://localhost", "http://localhost:8001", "", "http://localhost:80001"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_may_change_nothing(origin: str, method: str) -> None:
    with pytest.raises(Forbidden):
        check_origin(method, {"Origin": origin, "Host": "localhost:8000"})


def test_names_that_were_let_in_are_remembered_within_bounds() -> None:
    hosts = HostCheck("0.0.0.0", keyed=True)
    for number in range(1_000):
        hosts.check(f"host-{number}.example")
    assert len(hosts._seen) <= 256


def test_our_own_page_may_post_and_a_foreign_one_may_only_look() -> None:
    check_origin("POST", {"Origin": "http://localhost:8000", "Host": "localhost:8000"})
    check_origin("GET", {"Origin": "http://evil.example", "Host": "localhost:8000"})
    check_origin("POST", {"Host": "localhost:8000"})


def test_our_own_call_coming_back_is_a_loop() -> None:
    check_hop({"x-abstractcore-hop": "another"}, HOP)
    with pytest.raises(HopLoop):
        check_hop({"x-abstractcore-hop": f"another, {HOP}"}, HOP)


async def test_the_checks_stand_before_every_route(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for path in ("/health", "/v1/models", "/v1/nothing"):
            status, body, _ = await served.get(path, headers={"Host": "evil.example"})
            assert (status, body["error"]["code"]) == (403, "host_not_allowed")
        status, body, _ = await served.post(CHAT, json={}, headers={"Origin": "http://evil.example"})
        assert (status, body["error"]["code"]) == (403, "origin_not_allowed")
        status, body, _ = await served.post(CHAT, json={}, headers={"x-abstractcore-hop": HOP})
        assert (status, body["error"]["code"]) == (508, "loop_detected")


async def test_a_server_whose_host_check_is_gone_lets_the_rebound_page_in(tmp_path: Path) -> None:
    """The deliberate bug: the test above would see it."""

    class Careless(Edge):
        def __init__(self, bound: str, *rest: Any) -> None:
            super().__init__("0.0.0.0", *rest)

    async with serving(tmp_path, edge=Careless) as served:
        status, _, _ = await served.get("/health", headers={"Host": "evil.example"})
        assert status == 200


async def test_a_door_that_asks_nothing_is_caught(tmp_path: Path) -> None:
    """The deliberate bug: every check of this file would see it."""

    class Open(Edge):
        def _refusal(self, request: web.Request) -> GatewayError | None:
            request[KEY_ID] = "anonymous"
            return None

    foreign = [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"x-abstractcore-hop": HOP}, {}]
    async with serving(tmp_path, settings=keyed(tmp_path), edge=Open) as served:
        assert [(await served.post(CHAT, json={}, headers=headers))[0] for headers in foreign] == [200] * 4


PATHS = ["/v1/usage", "/v1/metrics", "/metrics", "/providers", "/v1/requests", "/v1/events/stream", "/v1/nothing"]
SPELLINGS = [
    "//health",
    "/health/",
    "/HEALTH",
    "/v1/%75sage",
    "/v1/usage;x=/health",
    "/health/../v1/usage",
    "/%2e/v1/usage",
]


@pytest.mark.parametrize("path", [*PATHS, *SPELLINGS])
async def test_without_the_key_nothing_but_health_answers(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path, settings=keyed(tmp_path)) as served:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        assert (await raw(served, head.encode() + b"\r\n")).startswith(b"HTTP/1.1 401")
        assert (await served.get("/health"))[0] == 200


async def test_an_edge_that_looks_at_the_paths_text_is_caught(tmp_path: Path) -> None:
    """The deliberate bug: openness by prefix, not by the resolved route."""

    class ByText(Edge):
        def _refusal(self, request: web.Request) -> GatewayError | None:
            return None if request.rel_url.raw_path.startswith("/health") else super()._refusal(request)

    async with serving(tmp_path, settings=keyed(tmp_path), edge=ByText) as served:
        answer = await raw(served, b"GET /health/../v1/usage HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert not answer.startswith(b"HTTP/1.1 401")


CREDENTIALS = [
    {"Authorization": f"Bearer {API_KEY}"},
    {"authorization": f"bearer  {API_KEY}"},
    {"x-api-key": API_KEY},
    {"api-key": API_KEY},
    {"x-goog-api-key": API_KEY},
]


@pytest.mark.parametrize("headers", CREDENTIALS)
async def test_the_key_opens_in_each_header_that_clients_use(tmp_path: Path, headers: dict[str, str]) -> None:
    async with serving(tmp_path, settings=keyed(tmp_path)) as served:
        status, body, _ = await served.post(CHAT, json={}, headers=headers)
        assert status == 200
        assert body["key"].startswith("key-")
        assert API_KEY not in body["key"]


WRONG = [
    {"Authorization": f"Basic {API_KEY}"},
    {"Authorization": API_KEY},
    {"x-api-key": API_KEY + "x"},
    {"api-key": API_KEY[:-1]},
    {"Cookie": f"api_key={API_KEY}"},
]


@pytest.mark.parametrize("headers", WRONG)
async def test_a_wrong_key_gets_401_in_openais_shape(tmp_path: Path, headers: dict[str, str]) -> None:
    async with serving(tmp_path, settings=keyed(tmp_path)) as served:
        status, body, answered = await served.post(CHAT, json={}, headers=headers)
        assert status == 401
        assert is_openai_error(body)
        assert body["error"]["code"] == "invalid_api_key"
        assert answered["WWW-Authenticate"] == "Bearer"


async def test_the_key_in_a_url_opens_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, settings=keyed(tmp_path)) as served:
        for query in ("access_token", "api_key", "key", "token"):
            assert (await served.get(f"/v1/usage?{query}={API_KEY}"))[0] == 401


async def test_a_ticket_opens_one_get(tmp_path: Path) -> None:
    async with serving(tmp_path, settings=keyed(tmp_path)) as served:
        status, body, headers = await served.post("/v1/tickets", headers={"x-api-key": API_KEY})
        assert (status, body["expires_in"], headers["Cache-Control"]) == (200, 60, "no-store")
        query = f"?access_token={body['ticket']}"
        assert (await served.post(CHAT + query, json={}))[0] == 401  # not a GET, and not spent by it
        assert (await served.get("/v1/usage" + query))[0] == 200
        assert (await served.get("/v1/usage" + query))[0] == 401


async def test_refused_callers_of_an_exchange_are_recorded_but_a_flood_is_not(tmp_path: Path) -> None:
    async with serving(tmp_path, settings=keyed(tmp_path)) as served:
        assert (await served.get("/v1/usage"))[0] == 401
        for _ in range(100):
            _, _, headers = await served.post(CHAT, json={})
        assert len(served.recorded) == 60
        served.clock.now += 60
        _, _, headers = await served.post(CHAT, json={})
        assert len(served.recorded) == 61
        assert served.recorded[-1][0] == headers["x-request-id"]


async def test_a_door_that_writes_down_every_refusal_is_caught(tmp_path: Path) -> None:
    """The deliberate bug: no limit."""

    class Talkative(Edge):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self._limiter = RejectionLimiter(lambda: 0.0, per_minute=10**9)

    async with serving(tmp_path, settings=keyed(tmp_path), edge=Talkative) as served:
        for _ in range(100):
            await served.post(CHAT, json={})
        assert len(served.recorded) > 60


async def test_every_answer_names_its_request_and_the_logs_position(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        seen = set()
        for path in ("/v1/models", "/v1/nothing", "/v1/broken", "/v1/models?type=x"):
            _, _, headers = await served.get(path)
            assert headers["x-abstractcore-position"].isdecimal()
            seen.add(headers["x-request-id"])
        assert len(seen) == 4


async def test_the_routers_own_errors_are_in_openais_shape(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        status, body, _ = await served.get("/v1/nothing")
        assert (status, is_openai_error(body)) == (404, True)
        status, body, headers = await served.get(CHAT)
        assert (status, body["error"]["code"], headers["Allow"]) == (405, "method_not_allowed", "POST")


async def test_the_routers_own_errors_are_in_the_shape_of_the_protocol_that_a_path_belongs_to(tmp_path: Path) -> None:
    async with gateway(tmp_path, "http://127.0.0.1:9") as served, aiohttp.ClientSession(served.url) as client:
        for method, path, status, key in (
            ("GET", "/v1/messages", 405, "type"),
            ("GET", "/v1/messages/zz", 404, "type"),
            ("GET", "/v1beta/zz", 404, "status"),
            ("POST", "/v1beta/models/demo/echo:fooBar", 405, "status"),
            ("GET", "/v1/messagesandmore", 404, "param"),
            ("GET", "/v1/chat/completions", 405, "param"),
        ):
            async with client.request(method, path) as answer:
                body = await answer.json()
                assert (answer.status, key in body["error"]) == (status, True), path
                assert body.get("type") == ("error" if key == "type" else None), path


async def test_an_unforeseen_error_shows_nothing_of_our_inside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, settings=Settings(data_dir=tmp_path, debug=True)) as served:
        with caplog.at_level(logging.ERROR, "gateway.edge"):
            status, body, headers = await served.get("/v1/broken")
        assert (status, body["error"]["type"]) == (500, "server_error")
        assert "boom" not in str(body)
        assert "passwd" not in str(body)
        assert headers["x-request-id"] in caplog.text


async def test_its_traceback_is_logged_without_secrets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path) as served:
        await served.get("/v1/broken")
    (record,) = [each for each in caplog.records if each.name == "gateway.edge"]
    assert "sk-a-secret-of-ours" in logging.Formatter().format(record)  # the deliberate bug: no filter
    assert Scrub(Settings(openai_api_key="sk-a-secret-of-ours")).filter(record)
    scrubbed = logging.Formatter().format(record)
    assert "RuntimeError" in scrubbed
    assert "sk-a-secret-of-ours" not in scrubbed


async def test_an_answer_that_broke_off_does_not_look_whole(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = await raw(served, b"GET /v1/begun HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        assert not answer.endswith(b"0\r\n\r\n")


async def test_without_cors_headers_no_foreign_page_reads(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        _, _, headers = await served.get("/v1/models", headers={"Origin": "http://evil.example"})
        assert not [name for name in headers if name.lower().startswith("access-control-")]
