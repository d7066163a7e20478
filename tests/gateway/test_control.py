"""The control socket: only the owner's user can ask, and every request gets one answer."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.control import FILE, ControlError, ControlServer, NotRunning, ask


async def handle(request: Mapping[str, Any]) -> Mapping[str, Any]:
    if request.get("command") == "archive":
        return {"segments": ["x" * 100] * 1_000}
    if request.get("command") != "rebuild":
        raise ControlError("there is no such command")
    return {"projection": request["projection"], "position": 7}


@pytest.fixture(params=["short", "deep"])
async def data_dir(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Path]:
    directory = tmp_path if request.param == "short" else tmp_path / ("x" * 120)
    directory.mkdir(exist_ok=True)
    server = ControlServer(directory, handle)
    await server.start()
    yield directory
    await server.stop()
    assert not (directory / FILE).exists()


async def asked(data_dir: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    return await asyncio.to_thread(ask, data_dir, request, 5)


async def raw(data_dir: Path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(data_dir / FILE))
    writer.write(line)
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_request_is_answered(data_dir: Path) -> None:
    assert await asked(data_dir, {"command": "rebuild", "projection": "usage"}) == {
        "projection": "usage",
        "position": 7,
    }


async def test_an_answer_may_be_long(data_dir: Path) -> None:
    assert len((await asked(data_dir, {"command": "archive"}))["segments"]) == 1_000


async def test_a_refusal_says_why(data_dir: Path) -> None:
    with pytest.raises(ControlError, match="no such command"):
        await asked(data_dir, {"command": "format"})


async def test_only_the_owner_may_connect(data_dir: Path) -> None:
    assert stat.S_IMODE((data_dir / FILE).stat().st_mode) == 0o600


async def test_nobody_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        ask(tmp_path, {"command": "rebuild"})


async def test_a_socket_left_behind_is_nobody_and_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / FILE))
    with pytest.raises(NotRunning):
        ask(tmp_path, {"command": "rebuild"})
    server = ControlServer(tmp_path, handle)
    await server.start()
    assert (await asked(tmp_path, {"command": "rebuild", "projection": "p"}))["position"] == 7
    await server.stop()


@pytest.mark.parametrize(("line", "words"), [(b"{not json\n", b"not JSON"), (b"[1]\n", b"not a JSON object")])
async def test_what_is_no_request_is_refused(tmp_path: Path, line: bytes, words: bytes) -> None:
    server = ControlServer(tmp_path, handle)
    await server.start()
    assert words in await raw(tmp_path, line)
    assert await raw(tmp_path, b"x" * 200_000 + b"\n") == b""
    assert (await asked(tmp_path, {"command": "rebuild", "projection": "p"}))["position"] == 7
    await server.stop()


async def test_a_server_that_ends_in_mid_answer_is_an_error(tmp_path: Path) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_unix_server(hang_up, str(tmp_path / FILE))
    with pytest.raises(ControlError):
        await asked(tmp_path, {"command": "rebuild"})
    server.close()
