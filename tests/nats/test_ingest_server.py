"""The real server on a restored older copy of its directory: it gets back what it did since, and ends what was open."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from replay.verify import verified
from tests.gateway.raw import RawClient, request
from tests.nats.load import MODELS, failed, gateway, streamed
from tests.natsd import Natsd

WAITING = (sys.executable, "-m", "tests.nats.waiting_server")


def backed_up(data_dir: Path, older: Path) -> None:
    """A backup of the log, taken while the server runs."""
    older.mkdir()
    with closing(sqlite3.connect(data_dir / "events.db")) as live:
        live.execute("VACUUM INTO ?", (str(older / "events.db"),))


def answered(data_dir: Path) -> dict[str, bytes]:
    """The last digest of every request's stream."""
    with Reader(data_dir) as reader:
        rows = [row for row in reader.rows(frames=False) if isinstance(row, RecordedEvent)]
    return {row.stream: row.digest for row in rows if row.stream.startswith("request-")}


async def test_a_server_on_an_older_copy_takes_its_history_back(data_dir: Path, server: Natsd, tmp_path: Path) -> None:
    async with gateway(data_dir, server.url) as served:
        assert failed(await streamed(served.url, "demo/echo")) is None
        cut = await RawClient.connect(served.url)
        body = {"model": MODELS[0], "messages": [{"role": "user", "content": "long"}], "stream": True}
        await cut.send(request({**body, "max_tokens": 500}))
        await cut.until(b"data: ")
        backed_up(data_dir, tmp_path / "older")
        for _ in range(5):
            assert failed(await streamed(served.url, "demo/echo")) is None
        cut.leave()
        assert await served.process.terminate() == 0
    async with gateway(data_dir, server.url) as served:
        assert failed(await streamed(served.url, "demo/echo")) is None
        assert await served.copy.healed(lambda: server.url) == []
        await served.process.kill()
    before = answered(data_dir)
    data_dir.rename(tmp_path / "lost")  # its follower may still be ending
    (tmp_path / "older").rename(data_dir)
    assert answered(data_dir).keys() < before.keys()
    async with gateway(data_dir, server.url, WAITING) as served:
        await served.says("healthy")
        assert await served.copy.healed(lambda: server.url) == []
        assert failed(await streamed(served.url, "demo/echo")) is None
        assert await served.process.terminate() == 0
        now = answered(data_dir)
        assert {stream: now[stream] for stream in before} == before
        with Reader(data_dir) as reader:
            report = verified(reader)
        assert report["listed"] == []
        assert report["open"] == []


def turned_over(ahead: Path, share: float = 0.75) -> None:
    """A bit, so far into what the write-ahead log has of this round; its first half is prices."""
    content = bytearray(ahead.read_bytes())
    salts, place = content[16:24], 32
    while content[place + 8 : place + 16] == salts:
        place += 24 + 4096
    content[int(place * share)] ^= 1
    ahead.write_bytes(content)


async def test_what_a_damaged_write_ahead_log_hides_comes_back(data_dir: Path, server: Natsd, tmp_path: Path) -> None:
    async with gateway(data_dir, server.url) as served:
        for _ in range(5):
            assert failed(await streamed(served.url, "demo/echo")) is None
        assert await served.copy.healed(lambda: server.url) == []
        await served.process.kill()
    before = answered(data_dir)
    turned_over(data_dir / "events.db-wal")
    async with gateway(data_dir, server.url, WAITING) as served:
        await served.says("events.db-wal.damaged-")
        assert await served.copy.healed(lambda: server.url) == []
        assert failed(await streamed(served.url, "demo/echo")) is None
        assert await served.process.terminate() == 0
        now = answered(data_dir)
        assert {stream: now[stream] for stream in before} == before


async def test_history_behind_prices_that_were_lost_too_is_refused_and_told(data_dir: Path, server: Natsd) -> None:
    """A start that lacks them publishes them anew, and what had been written behind them fits no more."""
    async with gateway(data_dir, server.url) as served:
        assert failed(await streamed(served.url, "demo/echo")) is None
        assert await served.copy.healed(lambda: server.url) == []
        await served.process.kill()
    turned_over(data_dir / "events.db-wal", 0.5)
    async with gateway(data_dir, server.url, WAITING) as served:
        await served.says("history of this node that does not fit")
        assert failed(await streamed(served.url, "demo/echo")) is None
        assert await served.process.terminate() == 0
