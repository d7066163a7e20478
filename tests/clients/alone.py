"""A command line, run with nothing of ours in its environment, and where on the network it went.

strace notes every address that it or its children connect or send to; asking for a name goes to a resolver's address,
and so is noticed too.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from tests.faults.strace import STRACE

CALLS = "connect,sendto,sendmsg,sendmmsg"
ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
LIMIT_S = 180.0
"""So that a hang ends; ten times and more of what any of them takes on a machine that is not busy."""


@dataclass(frozen=True)
class Ended:
    """How it ended. `elsewhere`: the addresses that it turned to outside this machine."""

    code: int
    stdout: str
    stderr: str
    elsewhere: frozenset[str]


async def alone(command: Sequence[str], directory: Path, *, home: Path, env: Mapping[str, str]) -> Ended:
    """Run it in `directory`. Raises `TimeoutError` after `LIMIT_S`; it and its children are dead then."""
    assert STRACE is not None
    trace = home / "strace.out"
    watched = [STRACE, "-f", "--seccomp-bpf", "-qq", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(trace)]
    process = await asyncio.create_subprocess_exec(
        *watched, *command, cwd=directory, env={"PATH": os.environ["PATH"], "HOME": str(home), **env},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT_S):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, stdout.decode(), stderr.decode(), elsewhere(trace.read_text(errors="replace")))


def elsewhere(trace: str) -> frozenset[str]:
    """The addresses in what strace wrote that are not this machine's own."""
    found = {four or six for four, six in ADDRESS.findall(trace)}
    return frozenset(address for address in found if not ip_address(address).is_loopback)
