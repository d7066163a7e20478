"""What a server says that was told wrong, or nothing: at its start, in its answers, and of what callers do wrong."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from tests.serverprocess import server_process


async def test_providers_that_are_none_are_named_at_the_start(tmp_path: Path) -> None:
    wrong = ("--provider", "antropic", "--fallback", "demo/echo,opnai/gpt-5.2")
    async with server_process(tmp_path / "logs", args=("--nats", "off", *wrong)) as server:
        warnings = [line for line in server.said.decode().splitlines() if line.startswith("  warning   there is no")]
        assert len(warnings) == 2
        assert "no provider 'antropic' to be the default (--provider)" in warnings[0]
        assert "no provider 'opnai' for opnai/gpt-5.2 (--fallback)" in warnings[1]


async def test_a_form_without_its_boundary_is_the_callers_error_alone(tmp_path: Path) -> None:
    async with server_process(tmp_path / "logs", args=("--nats", "off")) as server, aiohttp.ClientSession() as client:
        form = {"content-type": "multipart/form-data"}
        async with client.post(f"{server.url}/v1/audio/transcriptions", data=b"x", headers=form) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["code"] == "invalid_form"
        assert await server.terminate() == 0
    assert b"ERROR" not in server.said


async def test_where_nothing_is_configured_an_endpoint_beside_chat_says_what_would_do(tmp_path: Path) -> None:
    async with server_process(tmp_path / "logs", args=("--nats", "off")) as server, aiohttp.ClientSession() as client:
        async with client.post(f"{server.url}/v1/images/generations", json={"prompt": "a cat"}) as answer:
            assert answer.status == 501
            assert "--backends" in (await answer.json())["error"]["message"]
        async with client.post(f"{server.url}/v1/chat/completions", json={"messages": []}) as answer:
            assert answer.status == 400
