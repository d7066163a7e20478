"""Whatever a client sends to any route, the answer is one that /openapi.json allows: made up by schemathesis from the
document that the running server gives. 500 is not among the answers that the document knows."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web

from gateway.api import docs
from gateway.docs.document import Document
from tests.serverprocess import server_process

CHECKS = "status_code_conformance,content_type_conformance,response_schema_conformance"
ENDLESS = ("/v1/events/stream", "/v1/stream")
"""Routes whose answers have no end, which schemathesis would wait for."""


async def fuzzed(url: str, folder: Path, *more: str) -> tuple[int, str]:
    """The exit code of schemathesis (0: nothing found), and what it said."""
    left_out = [word for path in ENDLESS for word in ("--exclude-path", path)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", CHECKS, *left_out,
        "--suppress-health-check", "all", "--generation-database", "none", "--warnings", "off", "--no-color",
        "--request-timeout", "120", *more,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=folder,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def check_server(tmp_path: Path, options: Sequence[str]) -> None:
    async with server_process(tmp_path / "logs", args=("--nats", "off", "--model", "demo/echo")) as server:
        code, said = await fuzzed(server.url, tmp_path, *options)
        assert code == 0, said
        assert re.search(r"[1-9]\d* passed", said)
        assert b"Traceback" not in server.said


async def test_no_request_gets_an_answer_that_is_not_documented(tmp_path: Path) -> None:
    await check_server(tmp_path, ("--phases", "examples,fuzzing", "--max-examples", "3", "--seed", "1"))


@pytest.mark.soak
async def test_many_requests_get_no_answer_that_is_not_documented(tmp_path: Path) -> None:
    await check_server(tmp_path, ("--phases", "examples,coverage,fuzzing", "--max-examples", "100"))


async def sick(request: web.Request) -> web.Response:
    """GET /health: says what the document does not know"""
    return web.json_response({"status": "fine"})


async def test_an_answer_that_breaks_the_document_is_found(tmp_path: Path) -> None:
    routes = [web.get("/health", sick), web.get("/openapi.json", docs.openapi)]
    app = web.Application()
    app[docs.DOCUMENT] = Document(routes)
    app.add_routes(routes)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        code, said = await fuzzed(f"http://127.0.0.1:{runner.addresses[0][1]}", tmp_path, "--max-examples", "2")
    finally:
        await runner.cleanup()
    assert code == 1
    assert "GET /health" in said
