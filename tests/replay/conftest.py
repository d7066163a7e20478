"""What the replay tests share: a way to run the command line, with all that it writes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from replay import cli

ROOT = Path(__file__).parents[2]

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def replay(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """`replay("show", ID)` with `--data-dir` given, in this process: starting one takes longer than the command."""

    def run(*arguments: str, data_dir: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        command = [*arguments, "--data-dir", str(data_dir or tmp_path / "logs")]
        capfdbinary.readouterr()
        try:
            code = cli.run(command, {})
        except SystemExit as ended:  # argparse
            code = int(ended.code or 0)
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return subprocess.CompletedProcess(command, code, out, err)

    return run
