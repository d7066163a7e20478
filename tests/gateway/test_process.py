"""The server as a process: how it ends, what stops it, what it refuses, and what a client that says nothing gets."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from gateway.command_line import load
from gateway.connection import Connection
from gateway.server import Server
from replay.recorded import read_request
from replay.verify import verified
from tests.crash.check import wrongs
from tests.crash.load import environ, openai_stream
from tests.gateway.raw import RawClient, Received, request
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, chat, gateway
from tests.ports import free_port
from tests.serverprocess import COMMAND, ROOT, ServerProcess, server_process

LOCKED = 69
DISK_REFUSED = 74
SMALL_DISK = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
os.execv(sys.executable, [sys.executable, "-m", "gateway", *sys.argv[1:]])
"""
"""No file of the server may grow past a megabyte, the write-ahead log included."""


async def streaming(server: ServerProcess, prompt: str = "Tell me.") -> RawClient:
    """A client whose stream has begun."""
    client = await RawClient.connect(server.url)
    messages = [{"role": "user", "content": prompt}]
    await client.send(request({"model": "openai-compatible/m", "messages": messages, "stream": True}))
    async with asyncio.timeout(PATIENCE_S):
        await client.until(b"word")
    return client


async def test_an_orderly_end_lets_answers_finish_and_records_those_that_do_not(tmp_path: Path) -> None:
    """One stream ends within the drain timeout, the other one would go on for ever."""
    stream = openai_stream(words=30)
    cut = stream.index(b"word3")
    async with ScriptedServer() as upstream:
        finishing = Script(stream, content_type="text/event-stream", split=len(stream) // 10, pace_s=0.08)
        held = Script(stream[:cut], content_type="text/event-stream", hold=True)
        upstream.script(COMPATIBLE, lambda asked: held if b"for ever" in asked.body else finishing)
        async with server_process(
            tmp_path / "logs", env=environ(upstream.base_url), args=("--nats", "off", "--drain-timeout", "5")
        ) as server:
            finishes, goes_on = await streaming(server), await streaming(server, "Talk for ever.")
            ending = asyncio.create_task(server.terminate())
            finished, interrupted = await asyncio.gather(finishes.answer(), goes_on.answer())
            assert await ending == 0
    assert finished.whole
    assert finished.body.endswith(b"data: [DONE]\n\n")
    assert not interrupted.whole
    assert wrongs(tmp_path / "logs", [finished, interrupted]) == []
    with Reader(tmp_path / "logs") as reader:
        assert read_request(reader, finished.request_id).state == "completed"
        end = read_request(reader, interrupted.request_id).events[-1].body
        last = list(reader.rows(frames=False))[-1]
    assert (end["type"], end["reason"]) == ("request_interrupted", "shutdown")
    assert isinstance(last, RecordedEvent)
    assert (last.type, last.body["open_requests"]) == ("node_stopped", 1)


async def test_a_second_server_on_the_same_log_is_refused(tmp_path: Path) -> None:
    async with server_process(tmp_path / "logs") as first:
        second = ServerProcess(tmp_path / "logs", env={}, args=("--nats", "off"))
        with pytest.raises(RuntimeError, match="owns"):
            await second.start()
        assert second.exit_code == LOCKED
        assert f"another abstractcore-server (pid {first.pid}) owns".encode() in second.said
        assert b"Traceback" not in second.said
        assert first.exit_code is None


async def test_a_taken_port_leaves_the_log_free(tmp_path: Path) -> None:
    async with server_process(tmp_path / "logs") as first:
        port = first.url.rpartition(":")[2]
        other = ServerProcess(tmp_path / "other", env={}, args=("--nats", "off", "--port", port))
        with pytest.raises(RuntimeError, match="cannot start on"):
            await other.start()
    async with server_process(tmp_path / "other") as free:
        assert free.url


async def test_a_disk_that_refuses_ends_the_server_at_once(tmp_path: Path) -> None:
    """What it had acknowledged is all there when the disk takes bytes again."""
    answers: list[Received] = []
    async with ScriptedServer() as upstream:
        upstream.script(COMPATIBLE, Script(openai_stream(words=2_000), content_type="text/event-stream"))
        async with server_process(
            tmp_path / "logs", env=environ(upstream.base_url), command=(sys.executable, "-c", SMALL_DISK)
        ) as server:
            async with asyncio.timeout(PATIENCE_S):
                while server.exit_code is None:
                    answers += await asyncio.gather(*(asked(server) for _ in range(4)))
            assert await server.wait() == DISK_REFUSED
            assert b"the log can write no more" in server.said
            assert b"Traceback" not in server.said
        async with server_process(tmp_path / "logs", env=environ(upstream.base_url), command=COMMAND):
            assert wrongs(tmp_path / "logs", [answer for answer in answers if answer.status == 200]) == []
    with Reader(tmp_path / "logs") as reader:
        assert verified(reader)["findings"] == 0
    assert any(answer.whole and answer.status == 200 for answer in answers)


async def asked(server: ServerProcess) -> Received:
    """One stream, as far as it comes."""
    try:
        client = await RawClient.connect(server.url)
        await client.send(request(chat(stream=True)))
        return await client.answer()
    except ConnectionError:  # it has ended
        await asyncio.sleep(0.02)
        return Received()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
async def test_a_server_that_cannot_say_where_it_listens_listens(tmp_path: Path) -> None:
    command = [*COMMAND, "--port", str(port := free_port()), "--data-dir", str(tmp_path / "logs"), "--nats", "off"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with Path("/dev/full").open("wb") as full:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=full, stderr=PIPE)
    try:
        said = b""
        async with asyncio.timeout(PATIENCE_S):
            while b"cannot be printed" not in said:
                assert process.stderr is not None
                said += (line := await process.stderr.readline())
                assert line
        client = await RawClient.connect(f"http://127.0.0.1:{port}")
        await client.send(request(chat("demo/echo")))
        assert (await client.answer()).status == 200
    finally:
        process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.communicate()
    with Reader(tmp_path / "logs") as reader:
        last = list(reader.rows(frames=False))[-1]
    assert isinstance(last, RecordedEvent)
    assert last.type == "node_stopped"


class Halfway(Server):
    """A start that fails when nearly all is open."""

    async def _serve(self, listening: socket.socket) -> None:
        raise RuntimeError("halfway")


async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    settings = load(["--port", "0", "--nats", "off", "--data-dir", str(tmp_path / "logs")], {})
    with pytest.raises(RuntimeError, match="halfway"):
        await Halfway(settings).start()
    again = Server(settings)  # the lock is free
    await again.start()
    await again.stop()
    with Reader(tmp_path / "logs") as reader:
        nodes = [row for row in reader.rows(frames=False) if isinstance(row, RecordedEvent) and row.type[:5] == "node_"]
    assert [(row.type, row.body.get("reason")) for row in nodes] == [
        ("node_started", None), ("node_stopped", "failed start"), ("node_started", None), ("node_stopped", "signal"),
    ]  # fmt: skip


class Hasty(Connection):
    """Waits a moment for a head."""

    head_s = 1.0


class HastyServer(Server):
    """A server of such connections."""

    connection = Hasty


@pytest.mark.parametrize("head", [b"", b"POST /v1/chat/comp", b"GET /health HTTP/1.1\r\nhost: local"])
async def test_a_connection_that_says_nothing_is_closed(tmp_path: Path, head: bytes) -> None:
    async with gateway(tmp_path / "logs", "http://127.0.0.1:9", kind=HastyServer) as served:
        client = await RawClient.connect(served.url)
        await client.send(head)
        async with asyncio.timeout(PATIENCE_S):
            assert not await client.more()


async def test_one_that_has_asked_is_not(tmp_path: Path) -> None:
    async with gateway(tmp_path / "logs", "http://127.0.0.1:9", kind=HastyServer) as served:
        client = await RawClient.connect(served.url)
        for pause_s in (1.5 * Hasty.head_s, 0):
            client.raw.clear()
            await client.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert (await client.answer()).status == 200
            await asyncio.sleep(pause_s)


async def test_the_log_level_is_about_our_own_words(tmp_path: Path) -> None:
    """What libraries say for their own debugging (every statement, with its values) is nobody's business."""
    args = ("--nats", "off", "--log-level", "debug")
    async with server_process(tmp_path / "logs", args=args) as server:
        client = await RawClient.connect(server.url)
        await client.send(request({"model": "demo/echo", "messages": [{"role": "user", "content": "Hello!"}]}))
        assert (await client.answer()).status == 200
        assert await server.terminate() == 0
    assert b"DEBUG aiosqlite" not in server.said
    assert b"DEBUG asyncio" not in server.said


async def test_debug_logs_each_request_and_nothing_of_its_query(tmp_path: Path) -> None:
    async with server_process(tmp_path / "logs", args=("--nats", "off", "--debug")) as server:
        client = await RawClient.connect(server.url)
        await client.send(request({"model": "demo/echo", "messages": [{"role": "user", "content": "Hello!"}]}))
        answer = await client.answer()
        client.raw.clear()
        await client.send(b"GET /v1/nothing%0Ahere?key=a-secret-of-mine HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert (await client.answer()).status == 404
        assert await server.terminate() == 0
    said = server.said.decode()
    assert re.search(
        rf"DEBUG gateway\.edge: POST /v1/chat/completions from 127\.0\.0\.1: 200 in [\d.]+ ms "
        rf"\({answer.headers['x-request-id']}\)\n",
        said,
    )
    assert "GET /v1/nothing%0Ahere from 127.0.0.1: 404 in " in said
    assert "a-secret-of-mine" not in said


async def test_a_default_provider_that_is_none_is_named_at_the_start(tmp_path: Path) -> None:
    async with server_process(tmp_path / "logs", args=("--nats", "off", "--provider", "antropic")) as server:
        assert b"there is no provider 'antropic'" in server.said
