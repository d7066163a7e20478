"""Programs for Node, and the commands that npm installs. `NODE_PATH` says where its packages are."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


async def results_of(program: str, *args: str) -> dict[str, Any]:
    """What a program of this directory prints, from JSON."""
    command = ["node", str(HERE / program), *args]
    env = {name: os.environ[name] for name in ("PATH", "NODE_PATH") if name in os.environ}
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, env=env, timeout=180, check=False)
    assert done.returncode == 0, done.stderr.decode()
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def installed(name: str) -> str:
    """The path of a command that npm installed beside the packages; the test is skipped where it is not there."""
    path = Path(os.environ.get("NODE_PATH", "/nonexistent")) / ".bin" / name
    if not path.exists():
        pytest.skip(f"{name} is not installed at NODE_PATH (see .ci/run)")
    return str(path)
