"""What `pip install .` installs: every file of the packages, the two commands, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("eventstore", "projections", "gateway", "replay")
COMMANDS = ("abstractcore-server", "abstractcore-replay")
INSTALLED = {".py", ".sql", ".typed"}
DATA = {"assets", "deploy"}
"""Folders of which everything is installed."""

pytestmark = pytest.mark.system  # an older installation says nothing about this checkout


def installed_files() -> set[str]:
    """What lies in the environment; the checkout has metadata too, left by the build."""
    environment = [sysconfig.get_paths()["purelib"]]
    (distribution,) = metadata.Distribution.discover(name="abstractcore-server", path=environment)
    return {file.as_posix() for file in distribution.files or ()}


def test_every_file_of_the_packages_is_installed() -> None:
    needed = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and (path.suffix in INSTALLED or path.parent.name in DATA)
    }
    assert needed - installed_files() == set()


def test_no_other_package_is_installed() -> None:
    tops = {name.split("/")[0] for name in installed_files()}
    others = {name for name in tops if not name.startswith(("abstractcore_server-", ".."))}
    assert others - set(PACKAGES) == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run_outside_the_checkout(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name(command), "--help"], cwd=tmp_path, capture_output=True, timeout=180, check=False
    )
    assert done.returncode == 0
    assert done.stdout.decode().startswith(f"usage: {command}")


def test_a_log_can_be_made_outside_the_checkout(tmp_path: Path) -> None:
    """The schema is data that an installation can lack."""
    code = "import asyncio, pathlib, eventstore.sqlite as s; asyncio.run(s.SQLiteLog.open(pathlib.Path('logs')))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code + "; import os; os._exit(0)"], cwd=tmp_path, capture_output=True, timeout=180,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "logs" / "events.db").stat().st_size > 0
