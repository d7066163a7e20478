"""`--reload`: a change of the source starts the server again, a mistake in it only ends it; nothing stays behind."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.reload import PACKAGES, ROOT, sources, without_flag

LISTENS = b"AbstractCore Server listens on "
WITHIN_S = 180.0


@asynccontextmanager
async def reloading(root: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    """A server run from the copy of the source below `root`."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "assets"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "--reload", "--port", "0", "--nats", "off", "--data-dir", str(root / "logs"),
        cwd=root, env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until(said: asyncio.StreamReader, word: bytes) -> None:
    async with asyncio.timeout(WITHIN_S):
        while word not in (line := await said.readline()):
            assert line, f"it ended without saying {word!r}"


async def test_a_change_starts_it_again_and_a_mistake_does_not_end_the_watching(tmp_path: Path) -> None:
    async with reloading(tmp_path) as (process, said):
        changed = tmp_path / "gateway" / "release.py"
        await until(said, LISTENS)
        text = changed.read_text()
        changed.write_text("this is no Python")
        await until(said, b"SyntaxError")
        changed.write_text(text + "\n")
        await until(said, LISTENS)
        process.terminate()
        async with asyncio.timeout(WITHIN_S):
            assert await process.wait() == 0
        assert LISTENS not in await said.read()  # its end is the end of the pipe: the child is gone too


def test_only_sources_count(tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "a.py").write_text("")
    seen = sources(tmp_path)
    (tmp_path / "gateway" / "notes.txt").write_text("")
    assert sources(tmp_path) == seen
    (tmp_path / "gateway" / "b.sql").write_text("")
    assert sources(tmp_path) != seen


@pytest.mark.parametrize(
    ("argv", "child"),
    [
        (["--reload", "--port", "0"], ["--port", "0"]),
        (["--port", "0", "--reloa"], ["--port", "0"]),
        (["--data-dir", "reload"], ["--data-dir", "reload"]),
    ],
)
def test_the_child_does_not_watch_itself(argv: list[str], child: list[str]) -> None:
    assert without_flag(argv) == child
