"""Other gateways, each in an environment of its own: `python -m tests.benchmarks.peers --install DIR`.

Makes what is missing in DIR (a virtual environment each from PyPI, a folder of npm packages), from the newest releases;
`python -m tests.benchmarks --peers DIR` measures those that are there. They are configured to do as little as they can:
no database, no cache, no log of requests; and to forward to the upstream that all sides share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientError, ClientSession

from tests.benchmarks.load import PATH, body
from tests.benchmarks.machine import cores, pin
from tests.benchmarks.sides import Side

STARTS_WITHIN_S = 120.0
SHOWN = 300
KEY = "sk-0123456789abcdef0123456789abcdef"
"""What the peers are called with, and call with; no secret. LiteLLM refuses short ones."""
BEARER = {"authorization": f"Bearer {KEY}"}
LITELLM_CONFIG = """\
model_list:
  - model_name: openai/bench
    litellm_params: {{model: openai/bench, api_base: "{url}", api_key: {key}}}
litellm_settings: {{telemetry: false, turn_off_message_logging: true}}
"""


@dataclass(frozen=True)
class Peer:
    """One of them. `package` is what pip or npm installs; `command` follows the environment's own programs, with
    `{port}`, `{folder}`, `{key}` and `{url}` (the upstream) filled in, as in `files`, `headers` and `environ`."""

    name: str
    package: str
    command: tuple[str, ...]
    node: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)

    def home(self, directory: Path) -> Path:
        """Where its environment is."""
        return directory / self.name

    def installed(self, directory: Path) -> bool:
        """Whether its environment is whole."""
        return (self.home(directory) / "INSTALLED").exists()


PEERS = (
    Peer(
        "litellm",
        "litellm[proxy]",
        ("bin/litellm", "--config", "{folder}/litellm.yaml", "--host", "127.0.0.1", "--port", "{port}"),
        files={"litellm.yaml": LITELLM_CONFIG},
        headers=BEARER,
        environ={"LITELLM_MASTER_KEY": "{key}", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
    ),
    Peer(
        "abstractcore",
        "abstractcore[server]",
        ("bin/python", "-m", "abstractcore.server.app", "--host", "127.0.0.1", "--port", "{port}"),
        headers=BEARER,
        environ={"OPENAI_API_KEY": "{key}", "OPENAI_BASE_URL": "{url}", "ABSTRACTCORE_AUTH_TOKEN": "{key}"},
    ),
    Peer(
        "portkey",
        "@portkey-ai/gateway",
        ("node_modules/@portkey-ai/gateway/build/start-server.js", "--headless", "--port={port}"),
        node=True,
        headers={**BEARER, "x-portkey-provider": "openai", "x-portkey-custom-host": "{url}"},
    ),
)


def install(directory: Path) -> None:
    """Make the environments that are missing. Raises `CalledProcessError` where pip or npm gives up."""
    for peer in PEERS:
        if peer.installed(directory):
            print(f"{peer.name} is there")
            continue
        if peer.node and shutil.which("npm") is None:
            print(f"{peer.name} needs npm, which is not here")
            continue
        print(f"{peer.name}: installing {peer.package}", flush=True)
        _npm(peer, directory) if peer.node else _pip(peer, directory)
        (peer.home(directory) / "INSTALLED").write_text(f"{peer.package}\n", encoding="utf-8")


def _pip(peer: Peer, directory: Path) -> None:
    home = peer.home(directory)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    subprocess.run([str(home / "bin/pip"), "install", "--quiet", peer.package], check=True)


def _npm(peer: Peer, directory: Path) -> None:
    home = peer.home(directory)
    home.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(home), peer.package], check=True
    )


@asynccontextmanager
async def peer_side(peer: Peer, directory: Path, folder: Path, url: str) -> AsyncIterator[Side]:
    """The peer, started and answering, on the core of those that are measured. What it says is in `folder`.

    Raises `RuntimeError` where it does not answer as it should."""
    port = free_port()
    given = {"port": str(port), "folder": str(folder), "key": KEY, "url": url}
    filled = {name: text.format(**given) for name, text in peer.headers.items()}
    side_url = f"http://127.0.0.1:{port}"
    for name, text in peer.files.items():
        (folder / name).write_text(text.format(**given), encoding="utf-8")
    process = await _start(peer, directory, folder, given)
    try:
        try:
            await _answering(peer, process, side_url, filled)
        except RuntimeError as error:
            said = (folder / f"{peer.name}.said").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"{error}; its output ends: {' '.join(said.split())[-SHOWN:]}") from error
        pin(process.pid, cores()[0])
        yield Side(side_url, process.pid, filled)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _start(peer: Peer, directory: Path, folder: Path, given: Mapping[str, str]) -> asyncio.subprocess.Process:
    environ = {name: text.format(**given) for name, text in peer.environ.items()}
    home = peer.home(directory)
    command: Sequence[str] = [part.format(**given) for part in peer.command]
    program = [*(["node"] if peer.node else []), str(home / command[0]), *command[1:]]
    with (folder / f"{peer.name}.said").open("wb") as said:
        return await asyncio.create_subprocess_exec(
            *program,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=folder,
            env={"PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder), **environ},
        )


async def _answering(peer: Peer, process: asyncio.subprocess.Process, url: str, headers: Mapping[str, str]) -> None:
    """Ask until it gives a good answer."""
    until, last = time.monotonic() + STARTS_WITHIN_S, "nothing"
    async with ClientSession(headers={"content-type": "application/json", **headers}) as session:
        while time.monotonic() < until:
            if process.returncode is not None:
                raise RuntimeError(f"{peer.name} ended with {process.returncode}")
            try:
                async with session.post(f"{url}{PATH}", data=body(streamed=False)) as answer:
                    if answer.status == 200:
                        return
                    last = f"{answer.status}: {(await answer.text())[:200]}"
            except ClientError as error:
                last = str(error)
            await asyncio.sleep(0.5)
    raise RuntimeError(f"{peer.name} did not answer; at last it said {last}")


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", type=Path, required=True, metavar="DIR")
    install(parser.parse_args().install)
