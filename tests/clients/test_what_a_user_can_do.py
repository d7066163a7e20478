"""What the README promises, done as a user does it: with the printed lines, HTTP, NATS, files and commands."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import nats
import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from tests.clients.front import MODELS, PLACES, Front, front
from tests.gateway.scripted import Script
from tests.serverprocess import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="module")

HI: Any = {"messages": [{"role": "user", "content": "hi"}]}
ONE_OF_EACH_FAMILY = ["openai", "anthropic", "ollama"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    """As it starts by default: with its own NATS server."""
    async with front(tmp_path_factory.mktemp("user"), args=()) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(http: aiohttp.ClientSession, server: Front, model: str, **more: Any) -> tuple[str, bytes]:
    """(request id, the bytes of the answer)"""
    async with http.post(f"{server.url}/chat/completions", json={"model": model, **HI, **more}) as answer:
        return answer.headers["x-request-id"], await answer.read()


async def get(http: aiohttp.ClientSession, server: Front, path: str, **params: str) -> Any:
    async with http.get(f"{server.process.url}{path}", params=params) as answer:
        assert answer.status == 200
        return await answer.json()


async def shell(line: str, cwd: Path | None = None) -> bytes:
    """What a line of the README prints."""
    process = await asyncio.create_subprocess_shell(line, cwd=cwd, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return out


async def replay(server: Front, *arguments: str) -> bytes:
    """What `abstractcore-replay` prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "replay", *arguments, "--data-dir", str(server.process.data_dir),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return out


def printed(server: Front, begins: str) -> str:
    """The rest of a line that the server printed when it started."""
    lines = server.process.said.decode().splitlines()
    return next(line for line in lines if line.strip().startswith(begins)).strip().removeprefix(begins).strip()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_line_to_try_works_as_it_is_printed(server: Front) -> None:
    answer = json.loads(await shell(printed(server, "try").replace("curl ", "curl -s ", 1)))
    assert answer["choices"][0]["message"]["content"] == "Hello!"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", [*ONE_OF_EACH_FAMILY, "demo"])
async def test_a_request_can_be_looked_at(
    server: Front, http: aiohttp.ClientSession, provider: str, stream: bool
) -> None:
    model = MODELS.get(provider, "demo/echo")
    request_id, body = await ask(http, server, model, stream=stream)
    state = await get(http, server, f"/v1/requests/{request_id}")
    assert (state["state"], state["provider"], state["model"]) == ("completed", *model.split("/", 1))
    events = (await get(http, server, f"/v1/requests/{request_id}/events"))["data"]
    types = [event["type"] for event in events]
    assert types[:3] == ["request_received", "route_selected", "generation_started"]
    assert (types[-1], "token_generated" in types) == ("request_completed", True)
    assert "".join(event.get("text", "") for event in events if event["type"] == "token_generated")
    async with http.get(f"{server.url}/requests/{request_id}/stream") as again:
        assert await again.read() == body
        assert again.content_type == ("text/event-stream" if stream else "application/json")


async def test_a_failed_request_can_be_looked_at_too(server: Front, http: aiohttp.ClientSession) -> None:
    for answer in (Script.file("openai/error.json", status=429), Script.file("openai/error.sse")):
        server.answer("openai", answer)
        request_id, body = await ask(http, server, MODELS["openai"], stream=True)
        assert (await get(http, server, f"/v1/requests/{request_id}"))["state"] == "failed"
        async with http.get(f"{server.url}/requests/{request_id}/stream") as again:
            assert (await again.read()) == body


async def feed(answer: aiohttp.ClientResponse, most: int) -> list[dict[str, str]]:
    """The next events of a feed: `{id, event, data}`."""
    found: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    while len(found) < most:
        line = (await asyncio.wait_for(answer.content.readline(), 60)).decode().rstrip("\n")
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
        elif fields:
            found.append(fields)
            fields = {}
    return found


async def test_the_feed_shows_what_happens_with_the_fields_that_dashboards_read(
    server: Front, http: aiohttp.ClientSession
) -> None:
    server.play("anthropic", stream="anthropic/tools.sse")
    types = "generation_started,generation_completed,tool_called"
    async with http.get(f"{server.url}/events/stream", params={"types": types}) as live:
        await live.content.readline()  # it listens from here on
        request_id, _ = await ask(http, server, MODELS["anthropic"], stream=True)
        started, completed, tool, _ = seen = await feed(live, 4)
    assert [one["event"] for one in seen] == [
        "generation_started",
        "generation_completed",
        "tool_called",
        "tool_called",
    ]
    assert json.loads(started["data"])["model"] == "claude-sonnet-4-5"
    assert json.loads(tool["data"])["tool_name"] == "get_weather"
    told = json.loads(completed["data"])
    assert told["tokens_output"] > 0
    assert told["cost_usd"] > 0
    assert "choices" not in told
    async with http.get(f"{server.url}/events/stream", headers={"Last-Event-ID": started["id"]}) as resumed:
        again = [one for one in await feed(resumed, 3) if one["event"] in types]
    assert again == seen[1:]
    params = {"after": started["id"], "types": "generation_completed", "request_id": request_id, "content": "1"}
    async with http.get(f"{server.url}/events/stream", params=params) as chosen:
        (only,) = await feed(chosen, 1)
    assert json.loads(only["data"])["choices"][0]["message"]["tool_calls"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("content", ["", "1"])
async def test_the_feed_shows_content_only_to_those_who_ask(
    server: Front, http: aiohttp.ClientSession, content: str, stream: bool
) -> None:
    """Whole answers and several calls in one frame too."""
    server.play("anthropic", stream="anthropic/tools.sse")
    server.play("ollama", stream="ollama/tools.ndjson")
    params = {"types": "token_generated,generation_completed,tool_called", "content": content}
    async with http.get(f"{server.url}/events/stream", params=params) as live:
        await live.content.readline()
        for model in (MODELS["anthropic"], MODELS["ollama"]):
            request_id, _ = await ask(http, server, model, stream=stream)
        shown = await until_completed(live, request_id)
    found = {word for word in ("Zürich", "18446744073709551616123", "composite") if word in shown}
    assert found == ({"Zürich", "18446744073709551616123", *([] if stream else ["composite"])} if content else set())


async def until_completed(live: aiohttp.ClientResponse, request_id: str) -> str:
    """The data of a feed up to the completion of a request."""
    shown = ""
    while True:
        (event,) = await feed(live, 1)
        shown += event["data"]
        if event["event"] == "generation_completed" and request_id in event["data"]:
            return shown


async def test_nats_shows_what_is_completed(server: Front, http: aiohttp.ClientSession) -> None:
    """With the address that was printed and the token of its file, which only the user can read."""
    token_file = server.process.data_dir / "nats" / "token"
    address = printed(server, "NATS").split("@")[-1].split('"')[0]
    assert token_file.stat().st_mode & 0o077 == 0
    assert token_file.read_text().strip() not in server.process.said.decode()
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    connection = await nats.connect(f"nats://{token_file.read_text().strip()}@{address}")
    try:
        await connection.subscribe("abstractcore.events.generation_completed.>", cb=arrived.put)
        await connection.flush()
        request_id, _ = await ask(http, server, MODELS["ollama"])
        event = await awaited(arrived, request_id)
    finally:
        await connection.close()
    assert (event["provider"], event["model"]) == ("ollama", "qwen3:4b")
    recorded = (await get(http, server, f"/v1/requests/{request_id}/events"))["data"]
    assert event in recorded


async def awaited(arrived: asyncio.Queue[Msg], request_id: str) -> dict[str, Any]:
    """The event of this request; the relay may still be busy with those before it."""
    async with asyncio.timeout(60):
        while True:
            event: dict[str, Any] = json.loads((await arrived.get()).data)
            if event["request_id"] == request_id:
                return event


async def test_reports_of_all_kinds(server: Front, http: aiohttp.ClientSession) -> None:
    await ask(http, server, MODELS["openai"])
    report = await get(http, server, "/v1/usage", group_by="model")
    row = next(row for row in report["data"] if row["model"] == "gpt-5.2")
    assert {"provider", "model", "requests", "tokens_input", "tokens_input_cached", "tokens_output", "cost_usd"} <= set(
        row
    )
    assert report["total"]["requests"] >= row["requests"]
    assert {one["name"] for one in (await get(http, server, "/providers"))["providers"]} == {
        *PLACES,
        "demo",
        "huggingface",
        "mlx",
    }
    assert (await get(http, server, "/v1/models/demo/echo"))["id"] == "demo/echo"
    async with http.get(f"{server.process.url}/health") as health:
        assert (await health.json())["status"] == "healthy"
    for path in ("/metrics", "/v1/metrics"):
        async with http.get(server.process.url + path) as page:
            assert 'outcome="completed"' in await page.text()


async def test_the_log_files_answer_the_original_servers_lines(server: Front, http: aiohttp.ClientSession) -> None:
    logs = server.process.data_dir
    server.answer("openai", Script.file("openai/error.json", status=500))
    failed, _ = await ask(http, server, MODELS["openai"])
    answered, _ = await ask(http, server, MODELS["ollama"])
    async with asyncio.timeout(60):
        while answered not in "".join(path.read_text() for path in logs.glob("verbatim_*.jsonl")):
            await asyncio.sleep(0.02)
    errors = await shell("""grep '"level": "error"' abstractcore_*.log""", logs)
    assert failed in errors.decode()
    lines = await shell("""grep '"model": "qwen3:4b"' verbatim_*.jsonl""", logs)
    line = json.loads(lines.splitlines()[-1])
    assert (line["request_id"], line["prompt"]) == (answered, HI["messages"])
    assert line["response"][0]["message"]["content"] == "No, 27 is composite."
    payloads = [json.loads(line) for path in logs.glob("*-payloads.jsonl") for line in path.read_text().splitlines()]
    assert payloads[-1]["payload"] == {"model": MODELS["ollama"], **HI}


@pytest.mark.system
async def test_the_original_servers_sum_of_tokens(server: Front, http: aiohttp.ClientSession) -> None:
    await ask(http, server, MODELS["openai"])
    line = "cat verbatim_*.jsonl | jq '.metadata.tokens | .input + .output' | awk '{sum+=$1} END {print sum}'"
    async with asyncio.timeout(60):
        while (total := (await get(http, server, "/v1/usage"))["total"]) and int(
            await shell(line, server.process.data_dir)
        ) != total["tokens_input"] + total["tokens_output"]:
            await asyncio.sleep(0.05)


async def test_the_commands_on_a_running_and_on_a_stopped_server(server: Front, http: aiohttp.ClientSession) -> None:
    """The last of this file: it stops the server."""
    sent = [await ask(http, server, MODELS[name], stream=stream) for name in PLACES for stream in (False, True)]
    await check_the_commands(server, *sent[-1])
    usage = await get(http, server, "/v1/usage")
    assert await server.process.terminate() == 0
    await check_the_commands(server, *sent[-2])
    await server.process.start()
    assert (await get(http, server, "/v1/usage"))["total"] == usage["total"]


async def check_the_commands(server: Front, request_id: str, body: bytes) -> None:
    """Each command does what the README says."""
    assert await replay(server, "show", request_id, "--as-sent") == body
    assert b"request_completed" in await replay(server, "show", request_id)
    verified = json.loads(await replay(server, "verify", "--json"))
    assert not verified["findings"]
    rebuilt = json.loads(await replay(server, "rebuild", "--json"))
    assert rebuilt["projections"]["usage"]["halted"] is None
    assert request_id in (await replay(server, "list")).decode()
