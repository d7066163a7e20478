"""The same files run by the programs that they are for, with no more changed than places and ports."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.clients.front import front
from tests.gateway.scripted import SCRIPTS, Script
from tests.ports import free_port
from tests.serverprocess import ROOT, server_process

DEPLOY = ROOT / "gateway" / "deploy"
KEY = "a-key-long-enough"
WITHIN_S = 180.0

pytestmark = pytest.mark.system


@asynccontextmanager
async def running(*command: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program, for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


async def answering(url: str) -> None:
    async with asyncio.timeout(WITHIN_S), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


def nginx_conf(folder: Path, site: str, port: int, gateway: str) -> Path:
    """The site as nginx runs it here."""
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("127.0.0.1:8000", gateway)
    kept = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}"
    path = folder / "nginx.conf"
    path.write_text(f"{main}\nhttp {{ access_log off; {kept}\n{site}\n}}\n")
    return path


async def first_words(folder: Path, site: str, patience_s: float = WITHIN_S) -> bytes:
    """What of an answer that has not ended reaches a client through nginx; nothing, where that takes too long."""
    port = free_port()
    body = (SCRIPTS / "openai" / "text.sse").read_bytes()
    script = Script(body[: body.index(b"[DONE]")], content_type="text/event-stream", hold=True)
    async with front(folder, env={"ABSTRACTCORE_API_KEY": KEY}) as server:
        server.answer("openai", script)
        conf = nginx_conf(folder, site, port, server.process.url.removeprefix("http://"))
        async with running("nginx", "-c", conf, "-p", folder):
            await answering(f"http://127.0.0.1:{port}/health")
            asked = {"model": "openai/gpt-5.2", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
            headers = {"Host": "api.example.com", "Authorization": f"Bearer {KEY}"}
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            async with aiohttp.ClientSession() as session:
                try:
                    async with asyncio.timeout(patience_s), session.post(url, json=asked, headers=headers) as answer:
                        assert answer.status == 200
                        return await answer.content.readany()
                except TimeoutError:
                    return b""


async def test_tokens_pass_nginx_before_the_answer_ends(tmp_path: Path) -> None:
    assert b"chat.completion.chunk" in await first_words(tmp_path, (DEPLOY / "nginx.conf").read_text())


async def test_a_proxy_that_holds_back_is_noticed(tmp_path: Path) -> None:
    """It compresses what it buffers, and passes over the gateway's own word against that."""
    site = (DEPLOY / "nginx.conf").read_text()
    holding = site.replace("proxy_buffering off;", "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;")
    compressing = "gzip on; gzip_types text/event-stream; gzip_min_length 0; gzip_proxied any;"
    assert await first_words(tmp_path, holding.replace("gzip off;", compressing), 3) == b""


async def test_supervisor_starts_it_again_and_ends_it_in_order(tmp_path: Path) -> None:
    port, data, said = free_port(), tmp_path / "data", tmp_path / "said.log"
    data.mkdir()
    text = (DEPLOY / "supervisor.conf").read_text()
    command = f"{sys.executable} -m gateway --port {port} --nats off --data-dir {data}"
    text = re.sub(r"^command=.*$", f"command={command}", text, flags=re.MULTILINE)
    text = re.sub(r"^user=.*\n", "", text, flags=re.MULTILINE).replace("/var/log/abstractcore.log", str(said))
    text = text.replace("directory=/var/lib/abstractcore", f"directory={ROOT}")
    conf = tmp_path / "supervisord.conf"
    conf.write_text(f"[supervisord]\nnodaemon=true\nlogfile={tmp_path}/log\npidfile={tmp_path}/pid\n{text}")
    async with running("supervisord", "-n", "-c", conf):
        await answering(f"http://127.0.0.1:{port}/health")
        first = started(said)
        os.kill(server_pid(data), signal.SIGKILL)
        async with asyncio.timeout(WITHIN_S):
            while started(said) == first:
                await asyncio.sleep(0.05)
        await answering(f"http://127.0.0.1:{port}/health")
    done = subprocess.run(
        [sys.executable, "-m", "replay", "export", "--data-dir", data], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout.count(b'"type":"node_started"') == 2
    assert done.stdout.count(b'"type":"node_stopped"') == 1


def started(said: Path) -> int:
    """How often the server said that it listens."""
    return said.read_bytes().count(b"AbstractCore Server listens on") if said.exists() else 0


def server_pid(data: Path) -> int:
    """The process whose command line names this data directory, and which has no such parent."""
    found = subprocess.run(["pgrep", "-o", "-f", f"gateway.*{data}"], capture_output=True, check=True)
    return int(found.stdout.split()[0])


def test_systemd_has_nothing_against_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "abstractcore.service").read_text()
    text = text.replace("/opt/abstractcore/bin/abstractcore-server", str(Path(sys.executable)))
    for unit, expected in ((text, True), (text.replace("KillMode=mixed", "KillMode=gently"), False)):
        path = tmp_path / "abstractcore.service"
        path.write_text(unit)
        done = subprocess.run(
            ["systemd-analyze", "verify", path], capture_output=True, text=True, timeout=180, check=False
        )
        told = [line for line in done.stderr.splitlines() if "abstractcore.service" in line]
        assert (told == []) is expected, done.stderr


PAGES = {"/docs": b"/v1/generate/structured", "/redoc": b"/v1/generate/structured"}


@pytest.mark.parametrize("page", PAGES)
async def test_a_browser_shows_the_documents_and_is_refused_nothing(page: str, tmp_path: Path) -> None:
    async with server_process(tmp_path / "logs") as server:
        async with asyncio.timeout(WITHIN_S):
            process = await asyncio.create_subprocess_exec(
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000",
                "--enable-logging=stderr", f"--user-data-dir={tmp_path}/profile", "--dump-dom", server.url + page,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            shown, told = await process.communicate()
    # Swagger UI breaks long paths with zero-width spaces.
    assert PAGES[page] in shown.replace("\u200b".encode(), b"").replace(b"<wbr>", b"")
    refused = [line for line in told.splitlines() if b"Content Security Policy" in line]
    assert all(b"https://cdn.redoc.ly/" in line for line in refused), refused  # a logo, which the page hides
