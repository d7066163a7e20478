"""The second process, really started: it projects and relays, is replaced when it dies, and ends with the gateway."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventstore.catalogue.control import NodeStarted
from eventstore.catalogue.event import Event
from eventstore.catalogue.generation import GenerationStarted
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.frames import FrameRun
from eventstore.ingest import PulledEvent, Taken
from eventstore.sqlite import SQLiteLog
from gateway.config import Settings
from gateway.control import ControlError
from gateway.follower.channel import Channel
from gateway.follower.supervise import Follower
from gateway.wire.openai_chat import ChatStreamDecoder
from tests.eventstore.relay_rig import ledger_faults, messages
from tests.natsd import Natsd

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Natsd]:
    server = Natsd(tmp_path / "external")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SQLiteLog]:
    log = await SQLiteLog.open(tmp_path / "data", durability="process")
    await say(log, NodeStarted(node="test", release="0"))
    yield log
    await log.close()


@asynccontextmanager
async def following(log: SQLiteLog, tmp_path: Path, nats: str, **settings: Any) -> AsyncIterator[Follower]:
    follower = Follower(Settings(data_dir=tmp_path / "data", nats=nats, **settings))
    await follower.start()
    log.on_commit = follower.notify
    follower.notify(await log.head())
    try:
        yield follower
    finally:
        log.on_commit = None
        await follower.stop()


async def say(log: SQLiteLog, event: Event, stream: str = "node-test") -> int:
    return (await log.append(StreamWrite(stream, ANY_VERSION, (event.new(),)))).last


async def until(met: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not met():
            await asyncio.sleep(0.01)
    assert met(), what


def caught_up(follower: Follower, head: int) -> bool:
    relay = follower.status["relay"]
    return bool(relay.get("state") == "live" and min(relay["ledger_position"], relay["tokens_position"]) >= head)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def follower_pid() -> int:
    (found,) = [
        pid for pid in children(os.getpid()) if b"gateway.follower" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def niceness(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


async def test_leaves_the_processor_to_the_gateway(log: SQLiteLog, tmp_path: Path) -> None:
    ours = niceness(os.getpid())
    async with following(log, tmp_path, "embedded") as follower:
        await until(lambda: bool(follower.status["nats"].get("url")), "NATS does not run")
        child = follower_pid()
        assert [niceness(each) for each in (child, *children(child))] == [min(ours + 10, 19)] * 2  # nats-server too
        assert niceness(os.getpid()) == ours


async def test_projects_and_says_how_far(log: SQLiteLog, tmp_path: Path) -> None:
    async with following(log, tmp_path, "off") as follower:
        for _ in range(20):
            head = await say(log, NodeStarted(node="test", release="0"))
            assert await follower.wait_for("usage", head, PATIENCE_S)
        assert not await follower.wait_for("usage", head + 1, 0.05)
        assert follower.status["projections"]["usage"]["halted"] is None
        assert follower.status["follower"] == {"state": "running", "restarts": 0, "error": None}
        assert follower.status["relay"] == follower.status["nats"] == {"state": "off"}
        assert await follower.nats_line() == "off"
    assert follower.status["follower"]["state"] == "stopped"


async def test_relays_events_and_tokens_to_its_own_server(log: SQLiteLog, tmp_path: Path) -> None:
    async with following(log, tmp_path, "embedded") as follower:
        started = await say(
            log,
            GenerationStarted(
                request_id="r1", attempt=1, provider="demo", model="echo", decoder=ChatStreamDecoder.name,
                streamed=True, url="", call_digest="", call_length=0,
            ),
            "request-r1",
        )  # fmt: skip
        rows, _ = FrameRun(started).pack(
            [b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % w for w in (b"Hel", b"lo")], 5
        )
        head = (await log.append(frames=rows)).last
        await until(lambda: caught_up(follower, head), "relayed")
        said = follower.status["nats"]
        assert said["warning"] is None
        assert said["subscribe"] == await follower.nats_line()

        class Ours:
            url = said["url"].replace("nats://", f"nats://{Path(said['token_file']).read_text()}@")

        assert await ledger_faults(Ours(), tmp_path / "data") == []  # type: ignore[arg-type]  # it has the url
        tokens = [orjson.loads(data) for _, _, data in await messages(Ours(), "TOKENS")]  # type: ignore[arg-type]
        assert [(token["type"], token["frame"], token["text"]) for token in tokens] == [
            ("token_generated", 1, "Hel"),
            ("token_generated", 2, "lo"),
        ]
        server_pid = int((tmp_path / "data" / "nats" / "server.pid").read_text())
    assert not alive(server_pid)


async def test_stopping_relays_what_there_is(log: SQLiteLog, tmp_path: Path, server: Natsd) -> None:
    async with following(log, tmp_path, server.url) as follower:
        await until(lambda: caught_up(follower, 1), "relayed")
        await asyncio.gather(*(say(log, NodeStarted(node="test", release="0")) for _ in range(500)))
    assert await ledger_faults(server, tmp_path / "data") == []
    assert "secret-of-the-test" not in str(follower.status)


async def test_a_killed_follower_is_replaced(log: SQLiteLog, tmp_path: Path) -> None:
    async with following(log, tmp_path, "embedded") as follower:
        await until(lambda: caught_up(follower, 1), "relayed")
        first, server_pid = follower_pid(), int((tmp_path / "data" / "nats" / "server.pid").read_text())
        os.kill(first, signal.SIGKILL)
        head = await say(log, NodeStarted(node="test", release="0"))
        await until(lambda: follower.status["follower"]["state"] == "restarting", "the death is seen")
        assert "ended (-9)" in follower.status["follower"]["error"]
        assert await follower.wait_for("usage", head, PATIENCE_S)
        await until(lambda: caught_up(follower, head), "relayed by the next one")
        assert follower.status["follower"]["restarts"] == 1
        assert follower_pid() != first
        assert not alive(server_pid)


async def test_nothing_secret_is_on_a_command_line_or_in_an_environment(
    log: SQLiteLog, tmp_path: Path, server: Natsd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-of-the-environment")
    async with following(log, tmp_path, server.url, openai_api_key="canary-of-the-settings") as follower:
        await until(lambda: caught_up(follower, 1), "relayed")
        pid = follower_pid()
        shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert b"gateway.follower" in shown
        assert b"canary" not in shown
        assert b"secret-of-the-test" not in shown
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 10


async def test_rebuilds_a_projection_on_demand(log: SQLiteLog, tmp_path: Path) -> None:
    async with following(log, tmp_path, "off") as follower:
        head = await say(log, NodeStarted(node="test", release="0"))
        assert await follower.wait_for("usage", head, PATIENCE_S)
        for _ in range(2):
            assert (await follower.rebuild("usage"))["position"] >= head
        for unknown in ("nonsense", None, {}, ["usage"]):
            with pytest.raises(ControlError, match="no projection"):
                await follower.rebuild(unknown)


GATEWAY = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from eventstore.catalogue.control import NodeStarted
    from eventstore.envelope import ANY_VERSION, StreamWrite
    from eventstore.sqlite import SQLiteLog
    from gateway.config import Settings
    from gateway.follower.supervise import Follower

    async def main():
        data_dir = Path(sys.argv[1])
        log = await SQLiteLog.open(data_dir)
        node = NodeStarted(node="test", release="0").new()
        await log.append(StreamWrite("node-test", ANY_VERSION, (node,)))
        follower = Follower(Settings(data_dir=data_dir))
        await follower.start()
        while follower.status["nats"].get("state") != "running":
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
    """
)


async def test_all_of_it_is_gone_when_the_gateway_is_killed(tmp_path: Path) -> None:
    gateway = subprocess.Popen(
        [sys.executable, "-c", GATEWAY, tmp_path / "data"], stdout=subprocess.PIPE, cwd=ROOT
    )  # fmt: skip
    assert gateway.stdout is not None
    assert await asyncio.to_thread(gateway.stdout.readline) == b"ready\n"
    (follower,) = children(gateway.pid)
    (nats_server,) = children(follower)
    gateway.kill()
    gateway.wait()
    gateway.stdout.close()
    deadline = time.monotonic() + PATIENCE_S
    while (alive(follower) or alive(nats_server)) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert not alive(follower)
    assert not alive(nats_server)


class Heard(Channel):
    """A channel that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def post(self, message: dict[str, Any]) -> None:
        self.said.append(message)


async def fallen(pulled: Sequence[PulledEvent]) -> Taken:
    raise TypeError("nobody foresaw this")


async def test_history_that_nobody_can_take_in_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """The relay publishes nothing before it has its answer."""
    follower, channel = Follower(Settings(data_dir=tmp_path), take=fallen), Heard()
    piece = [["earlier", number, "", "", [], []] for number in (1, 2)]
    await follower._take_in(channel, {"take": piece, "number": 7})
    (said,) = channel.said
    assert (said["number"], said["taken"]["events"], list(said["taken"]["refused"])) == (7, 0, ["earlier"])


async def test_history_that_comes_is_waited_for_and_one_that_does_not_is_not(tmp_path: Path) -> None:
    follower = Follower(Settings(data_dir=tmp_path))

    def hears(**relay: Any) -> None:
        follower._said["relay"] = relay
        follower._become("running", None)

    hears(pulled=None, coming=False)
    assert not await follower.compared(0.01)
    hears(pulled=None, coming=True)
    waiting = asyncio.create_task(follower.compared(0.01))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    hears(pulled=3, coming=False)
    assert await waiting
    hears(pulled=None, coming=True)
    broken_off = asyncio.create_task(follower.compared(0.01))
    await asyncio.sleep(0)
    hears(pulled=None, coming=False)
    assert not await broken_off
