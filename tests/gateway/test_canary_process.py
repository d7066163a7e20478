"""The running server and all its processes, searched for secrets and for content that must not be kept: every byte of
the data directory (the NATS store too), of what was said and answered, of every command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from eventstore.reader import Reader
from gateway.exchange.submit import RETENTION_HEADER
from replay.recorded import RecordedRequest, read_request
from tests.crash.load import environ
from tests.gateway.raw import RawClient, Received, request
from tests.gateway.scripted import Request, Script, ScriptedServer
from tests.gateway.test_canaries import MARK, WORD, Canaries, requests, secret_settings, tell_tale, written
from tests.gateway.whole import COMPATIBLE, PATIENCE_S
from tests.serverprocess import ServerProcess, server_process

REPORTS = (
    "/health",
    "/metrics",
    "/v1/metrics",
    "/providers",
    "/v1/models",
    "/v1/requests",
    "/v1/usage?group_by=key",
    "/v1/usage?group_by=session",
    "/v1/nothing",
)


# Secrets.


@asynccontextmanager
async def secretive(data_dir: Path, canaries: Canaries, upstream: str) -> AsyncIterator[tuple[ServerProcess, str]]:
    """The real server with its NATS server and a canary in every variable; and the key that its callers need."""
    env = secret_settings(canaries)
    env["OPENAI_COMPATIBLE_BASE_URL"] = upstream
    args = ("--nats", "embedded", "--debug", "--log-level", "debug")
    async with server_process(data_dir, env=env, args=args) as server:
        yield server, env["ABSTRACTCORE_API_KEY"]


async def test_no_secret_is_anywhere(tmp_path: Path) -> None:
    canaries = Canaries()
    async with tell_tale() as upstream, secretive(tmp_path / "logs", canaries, upstream) as (server, key):
        feed = asyncio.create_task(read_feed(server, key))
        answered = [await exchanged(server, data) for data in asked(key, canaries, upstream)]
        found = command_lines(server.pid)
        answered.append(await feed)
        assert await server.terminate() == 0
    assert any(b"nats-server" in line for line in found)
    assert any(b"jetstream" in name.encode() for name in written(tmp_path / "logs", WORD))
    assert [raw for raw in answered if MARK.encode() in raw] == []
    assert [line for line in found if MARK.encode() in line] == []
    assert MARK.encode() not in server.said
    assert written(tmp_path / "logs", MARK) == []


async def test_a_url_with_a_secret_of_a_provider_is_refused(tmp_path: Path) -> None:
    env = {"OPENAI_BASE_URL": f"http://user:{Canaries().new()}@127.0.0.1:9/v1"}
    server = ServerProcess(tmp_path / "logs", env=env, args=("--nats", "off"))
    with pytest.raises(RuntimeError, match="must not carry credentials"):
        await server.start()
    assert MARK.encode() not in server.said
    assert written(tmp_path, MARK) == []


async def test_the_token_of_a_nats_server_is_nowhere(tmp_path: Path) -> None:
    env = {"ABSTRACTCORE_NATS_URL": f"nats://{Canaries().new()}@127.0.0.1:9"}
    async with server_process(tmp_path / "logs", env=env, args=("--log-level", "debug")) as server:
        answers = [await exchanged(server, get(path)) for path in REPORTS]
        lines = command_lines(server.pid)
        assert await server.terminate() == 0
    assert [found for found in [*answers, *lines, server.said] if MARK.encode() in found] == []
    assert written(tmp_path, MARK) == []


def asked(key: str, canaries: Canaries, upstream: str) -> Iterator[bytes]:
    """Every place of the list, reports, wrong keys, and what is no HTTP."""
    for place in requests(canaries, upstream):
        keyed = {"x-api-key": key} if "authorization" in place.headers else {"authorization": f"Bearer {key}"}
        yield request(place.body, f"/v1/chat/completions{place.query}", {**keyed, **place.headers})
    for path in REPORTS:
        yield get(path, f"Authorization: Bearer {key}")
        yield get(f"{path}{'&' if '?' in path else '?'}access_token={canaries.new()}")
        yield get(path, f"Authorization: Bearer {canaries.new()}")
    yield get("/health", f"X-Api-Key: {canaries.new()}\0")
    yield f"{canaries.new()}\r\n\r\n".encode()
    yield request({"model": "demo/echo"}, headers={"authorization": f"Bearer {canaries.new()}"})


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: localhost", *headers, "", ""]).encode()


async def exchanged(server: ServerProcess, data: bytes) -> bytes:
    """All the bytes that came back."""
    client = await RawClient.connect(server.url)
    await client.send(data)
    async with asyncio.timeout(PATIENCE_S):
        await client.answer()
    client.leave()
    return bytes(client.raw)


async def read_feed(server: ServerProcess, key: str) -> bytes:
    """The live feed with everything in it, until the server ends."""
    client = await RawClient.connect(server.url)
    types = "request_received,request_rejected,request_failed,request_completed,generation_completed,token_generated"
    await client.send(get(f"/v1/events/stream?content=1&types={types}", f"Authorization: Bearer {key}"))
    async with asyncio.timeout(PATIENCE_S):
        while b"generation_completed" not in client.raw:
            await client.more()
    client.leave()
    return bytes(client.raw)


def command_lines(pid: int) -> list[bytes]:
    """Of a process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        parents.setdefault(parent, []).append(int(status.parent.name))
    return [Path(f"/proc/{one}/cmdline").read_bytes() for one in _family(pid, parents)]


def _family(pid: int, parents: dict[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in parents.get(pid, ()):
        yield from _family(child, parents)


# Content that must not be kept.

CONTENT = "c0nt3nt"
TOOL = {"type": "function", "function": {"name": "look", "description": CONTENT, "parameters": {"type": "object"}}}
FAMILIES = {"openai-compatible/m": COMPATIBLE, "anthropic/m": "POST /v1/messages", "ollama/m": "POST /api/chat"}


def telling(asked: Request) -> Script:
    """An answer with a tool call and the content in all of it; or a refusal, or a cut, that quotes it."""
    body = asked.json()
    if "refuse" in asked.body.decode():
        return Script.json({"error": {"message": f"Not about {CONTENT}", "type": "t"}}, status=400)
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": f'"{CONTENT}"'}}
    message = {"role": "assistant", "content": CONTENT, "reasoning_content": CONTENT, "tool_calls": [call]}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return Script.json({"id": "1", "model": "m", "choices": [choice], "usage": usage})
    chunks = [
        {"id": "1", "model": "m", "choices": [{"index": 0, "delta": message, "finish_reason": "tool_calls"}]},
        {"id": "1", "model": "m", "choices": [], "usage": usage},
    ]
    text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    return Script(text.encode(), content_type="text/event-stream", cut=40 if "cut" in asked.body.decode() else None)


def unkept(stream: bool, word: str = "answer") -> dict[str, Any]:
    """A body with content wherever content can be."""
    messages = [{"role": "system", "content": CONTENT}, {"role": "user", "content": f"{CONTENT} {word} " * 400}]
    return {
        "model": "openai-compatible/m", "messages": messages, "stream": stream, "tools": [TOOL], "user": CONTENT,
        "metadata": {CONTENT: CONTENT}, "stop": CONTENT,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"title": CONTENT}}},
    }  # fmt: skip


HEADERS = {RETENTION_HEADER: "none", "x-abstractcore-tags": f"team={CONTENT}"}


async def unkept_answers(data_dir: Path, kept: bool = False) -> list[Received]:
    """Each kind of request, with its answer; `kept` leaves the wish out."""
    headers = {} if kept else HEADERS
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, telling)
        env = environ(upstream.base_url)
        async with server_process(data_dir, env=env, args=("--nats", "embedded", "--debug")) as server:
            answers = []
            for stream in (False, True):
                for word in ("answer", "refuse", "cut"):
                    client = await RawClient.connect(server.url)
                    await client.send(request(unkept(stream, word), headers=headers))
                    answers.append(await client.answer())
                bad = {**unkept(stream), "metadata": {CONTENT: 7}}
                await exchanged(server, request(bad, headers=headers))
            usage = json.loads((await exchanged(server, get("/v1/usage"))).partition(b"\r\n\r\n")[2])
            assert usage["total"]["tokens_output"] >= 6
            assert await server.terminate() == 0
    return answers


async def test_content_that_must_not_be_kept_is_nowhere(tmp_path: Path) -> None:
    answers = await unkept_answers(tmp_path / "logs")
    assert CONTENT.encode() in answers[0].body, "the client has it"
    assert CONTENT.encode() in answers[3].body
    assert written(tmp_path / "logs", CONTENT) == []
    assert CONTENT not in (tmp_path / "logs.said").read_text()
    with Reader(tmp_path / "logs") as reader:
        whole = [read_request(reader, answers[index].request_id) for index in (0, 3)]
    for one in whole:
        assert_counted(one)


def assert_counted(one: RecordedRequest) -> None:
    """Counts and cost are there."""
    assert one.state == "completed"
    completed = next(event.body for event in one.events if event.type == "generation_completed")
    assert (completed["tokens_input"], completed["tokens_output"], completed["usage_source"]) == (7, 3, "provider")
    assert completed["frames"] == 0, "none was kept that it could stand for"
    assert completed["frames_digest"]
    assert {"cost_usd", "duration_ms"} <= completed.keys()
    assert one.events[0].body["body_length"] > 4_000
    assert not any(one.frames.values())


async def test_without_the_wish_it_is_there(tmp_path: Path) -> None:
    """The search finds what is there: the twin of the test above."""
    await unkept_answers(tmp_path / "logs", kept=True)
    assert written(tmp_path / "logs", CONTENT)
