"""HTTP tools: registered by schema and endpoint, only where the operator allows; kept in the log; secrets by name."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from gateway.config import LentKey
from gateway.errors import Forbidden, GatewayError, InvalidRequest
from gateway.tools.http import check_endpoint, header_values
from gateway.tools.registry import ToolRegistry
from tests.gateway.scripted import Script, ScriptedServer
from tests.tools.running import Tooled, tooled

CANARY = "canary-of-a-tool-1234567890"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def registration(url: str, **changed: Any) -> dict[str, Any]:
    return {"name": "forecast", "description": "Tells.", "parameters": PARAMETERS, "endpoint": f"{url}/run", **changed}


def host_of(upstream: ScriptedServer) -> str:
    return upstream.base_url.removeprefix("http://").split("/")[0]


def allowing(upstream: ScriptedServer) -> dict[str, str]:
    host = host_of(upstream)
    return {
        "ABSTRACTCORE_TOOL_URL_ALLOWLIST": host,
        "ABSTRACTCORE_TOOL_KEYS": f"FORECAST_TOKEN@{host}",
        "FORECAST_TOKEN": CANARY,
    }


async def test_a_registered_tool_runs_and_survives_a_restart(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        url = f"http://{host_of(upstream)}"
        upstream.script("POST /run", Script(b"rain", content_type="text/plain"))
        async with tooled(tmp_path / "logs", env=allowing(upstream)) as server:
            status, said = await server.ask("POST", "/register", registration(url))
            assert (status, said["kind"], said["source"]) == (200, "http", f"{url}/run")
            assert (await server.execute("forecast", {"city": "Brest"}))["output"] == "rain"
            assert upstream.requests[-1].json() == {"city": "Brest"}
        async with tooled(tmp_path / "logs", env=allowing(upstream)) as server:
            assert (await server.execute("forecast", {"city": "Brest"}))["output"] == "rain"
            assert (await server.execute("forecast", {"town": "Brest"}))["error"] == "bad_arguments"
            assert (await server.ask("DELETE", "/forecast"))[0] == 200
            assert (await server.ask("DELETE", "/forecast"))[0] == 404
            events = [event["type"] for event in await server.recorded("tools")]
            assert events == ["tool_registered", "tool_removed"]
        async with tooled(tmp_path / "logs", env=allowing(upstream)) as server:
            assert (await server.ask("POST", "/execute", {"name": "forecast"}))[0] == 404


async def test_what_the_operator_no_longer_allows_is_not_offered(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        async with tooled(tmp_path / "logs", env=allowing(upstream)) as server:
            await server.ask("POST", "/register", registration(f"http://{host_of(upstream)}"))
        async with tooled(tmp_path / "logs") as server:
            assert (await server.ask("POST", "/execute", {"name": "forecast"}))[0] == 404


async def test_a_registration_in_an_archive_that_may_be_dropped_is_said_again(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, tooled(tmp_path / "logs", env=allowing(upstream)) as server:
        await server.ask("POST", "/register", registration(f"http://{host_of(upstream)}"))
        registry, head = server.gate.server.tools.registry, await server.gate.server.log.head()
        assert not await registry.repeats(0)
        await registry.restore(0)
        assert len(await server.recorded("tools")) == 1
        assert await registry.repeats(head)
        await registry.restore(head)
        assert not await registry.repeats(head)
        assert [event["type"] for event in await server.recorded("tools")] == ["tool_registered"] * 2


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://tools.example/run", True), ("http://tools.example:9/run", True), ("https://TOOLS.example", True),
        ("https://evil-tools.example", False), ("https://tools.example.evil", False), ("http://a.tools.example", False),
        ("https://secure.example", True), ("https://secure.example:443/x", True), ("http://secure.example", False),
        ("https://secure.example:8443", False), ("http://plain.example:80", True), ("https://plain.example", False),
    ],
)  # fmt: skip
def test_an_endpoint_is_on_the_list_by_its_whole_host_or_with_its_port(url: str, may: bool) -> None:
    with nullcontext() if may else pytest.raises(Forbidden):
        check_endpoint(url, {"tools.example", "secure.example:443", "plain.example:80"})


@pytest.mark.parametrize(
    ("url", "headers", "error"),
    [
        ("https://tools.example/run", {"X-Token": "TOKEN"}, None),
        ("https://port.example:8443/run", {"X-Token": "PORTED"}, None),
        ("https://port.example/run", {"X-Token": "PORTED"}, Forbidden),
        ("https://other.example/run", {"X-Token": "TOKEN"}, Forbidden),
        ("https://evil-tools.example/run", {"X-Token": "TOKEN"}, Forbidden),
        ("https://tools.example/run", {"X-Token": "UNSET"}, Forbidden),
        ("https://tools.example/run", {"X-Token": "PATH"}, Forbidden),
        ("https://tools.example/run", {"HOST": "TOKEN"}, InvalidRequest),
        ("https://tools.example/run", {"Transfer-Encoding": "TOKEN"}, InvalidRequest),
    ],
)
def test_a_tools_secret_goes_to_the_host_that_it_is_lent_to(
    url: str, headers: dict[str, str], error: type[GatewayError] | None
) -> None:
    lent = {
        "TOKEN": LentKey("tools.example", "secret"),
        "PORTED": LentKey("port.example:8443", "secret"),
        "UNSET": LentKey("tools.example", None),
    }
    if error is None:
        assert list(header_values(headers, url, lent).values()) == ["secret"]
        return
    with pytest.raises(error):
        header_values(headers, url, lent)


REFUSED: list[tuple[dict[str, Any], int, str | None]] = [
    ({"endpoint": "http://169.254.169.254/latest"}, 403, "endpoint_not_allowed"),
    ({"endpoint": "http://localhost/run"}, 403, "endpoint_not_allowed"),
    ({"endpoint": "file:///etc/passwd"}, 400, None),
    ({"endpoint": "http://user:pass@tools.example/run"}, 400, None),
    ({"parameters": {"type": "string"}}, 400, None),
    ({"parameters": {"type": "object", "properties": {"a": {"pattern": "(?=a)"}}}}, 400, None),
    ({"name": "two words"}, 400, None),
    ({"name": "al__moon"}, 400, None),
    ({"name": "weather"}, 409, "conflict"),
    ({"command": "rm -rf /"}, 400, None),
    ({"code": "import os"}, 400, None),
    ({"header_env": {"Authorization": "PATH"}}, 403, "key_not_lent"),
    ({"header_env": {"Content-Length": "FORECAST_TOKEN"}}, 400, None),
    ({"header_env": {"host": "FORECAST_TOKEN"}}, 400, None),
    ({"header_env": {"Authorization": "ABSTRACTCORE_API_KEY"}}, 403, "key_not_lent"),
    ({"timeout_s": -1}, 400, None),
]


async def test_what_must_not_be_registered_is_refused_in_words(tmp_path: Path) -> None:
    env = {"ABSTRACTCORE_TOOL_URL_ALLOWLIST": "tools.example"}
    async with tooled(tmp_path / "logs", env=env) as server:
        for changed, status, code in REFUSED:
            found, said = await server.ask("POST", "/register", registration("http://tools.example", **changed))
            assert found == status, (changed, said)
            assert code is None or said["error"]["code"] == code
        for missing in ("name", "endpoint", "parameters"):
            body = registration("http://tools.example")
            del body[missing]
            assert (await server.ask("POST", "/register", body))[0] == 400
        assert await server.recorded("tools") == []
        assert (await server.ask("DELETE", "/weather"))[0] == 409


async def _with_a_secret(server: Tooled, upstream: ScriptedServer) -> dict[str, Any]:
    """Runs a tool that sends its caller's own header back."""
    body = registration(f"http://{host_of(upstream)}", header_env={"Authorization": "FORECAST_TOKEN"})
    status, said = await server.ask("POST", "/register", body)
    assert status == 200
    assert CANARY not in str(said)
    return await server.execute("forecast", {"city": "Brest"})


def _holds(data_dir: Path, secret: str) -> list[str]:
    return [str(path) for path in data_dir.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


async def test_a_secret_goes_to_its_host_and_nowhere_else(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script("POST /run", Script(f"you sent {CANARY}".encode(), content_type="text/plain"))
        async with tooled(tmp_path / "logs", env=allowing(upstream)) as server:
            ran = await _with_a_secret(server, upstream)
            assert upstream.requests[-1].headers["authorization"] == CANARY
            assert CANARY not in str(ran)
            assert CANARY not in str(await server.ask("GET", ""))
        assert not _holds(tmp_path / "logs", CANARY)


async def test_the_search_for_the_secret_finds_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bug put in: results are not scrubbed."""
    async with ScriptedServer() as upstream:
        upstream.script("POST /run", Script(f"you sent {CANARY}".encode(), content_type="text/plain"))
        async with tooled(tmp_path / "logs", env=allowing(upstream)) as server:
            runner = server.gate.server.tools.runner
            runner._redactor = type(runner._redactor)(b"k" * 32)
            await _with_a_secret(server, upstream)
        assert _holds(tmp_path / "logs", CANARY)


@pytest.mark.parametrize(("status", "before"), [(500, 495), (200, 65_470)])
async def test_a_secret_where_an_answer_is_cut_is_no_half_one(tmp_path: Path, status: int, before: int) -> None:
    async with ScriptedServer() as upstream, tooled(tmp_path / "logs", env=allowing(upstream)) as server:
        body = b"x" * before + CANARY.encode() * 5
        upstream.script("POST /run", Script(body, status=status, content_type="text/plain"))
        await server.ask("POST", "/register", registration(f"http://{host_of(upstream)}"))
        ran = await server.execute("forecast", {"city": "Brest"})
        assert (ran["is_error"], len(ran["output"]) > 500) == (status == 500, True)
        assert CANARY[:4] not in ran["output"]


async def test_errors_and_redirects_of_an_endpoint_are_no_results(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream:
        upstream.script(
            "POST /run",
            Script(b"no", status=500),
            Script(b"", status=302, headers={"Location": "http://127.0.0.1:9/"}),
            Script(b"", cut=-1),
            Script(b"y" * 300_000),
        )
        async with tooled(tmp_path / "logs", env=allowing(upstream)) as server:
            await server.ask("POST", "/register", registration(f"http://{host_of(upstream)}"))
            ran = [await server.execute("forecast", {"city": "Brest"}) for _ in range(4)]
        assert [each["error"] for each in ran] == ["tool_error", "tool_error", "unreachable", None]
        assert ran[3]["cut"]


class Trusting(ToolRegistry):
    """A bug put in: any endpoint will do."""

    async def register(self, asked):  # type: ignore[no-untyped-def]
        self._allowlist = frozenset({"169.254.169.254"})
        return await super().register(asked)


async def test_a_registry_that_takes_any_endpoint_is_noticed(tmp_path: Path) -> None:
    async with tooled(tmp_path / "logs") as server:
        tools = server.gate.server.tools
        tools.registry.__class__ = Trusting
        status, _ = await server.ask("POST", "/register", registration("http://169.254.169.254"))
        assert status == 200, "the check of REFUSED would have seen it"


@pytest.mark.parametrize("url", ["http://tools.example:8080/x", "http://tools.example:443/x"])
def test_a_port_that_is_not_allowed_is_refused(url: str) -> None:
    check_endpoint("https://tools.example/x", {"tools.example:443"})
    with pytest.raises(Exception, match="operator"):
        check_endpoint(url.replace(":443", ":80"), {"tools.example:443"})
