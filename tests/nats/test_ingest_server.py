"""The real server on a restored older copy of its directory: it gets back what it did since, and ends what was open."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from eventstore.catalogue.control import NodeStarted
from eventstore.envelope import ANY_VERSION, RecordedEvent, StreamWrite
from eventstore.reader import Reader
from eventstore.sqlite import SQLiteLog
from replay.verify import verified
from tests.gateway.raw import RawClient, request
from tests.nats.load import MODELS, failed, gateway, streamed
from tests.natsd import Natsd

WAITING = (sys.executable, "-m", "tests.nats.waiting_server")
HASTY = (sys.executable, "-m", "tests.nats.hasty_server")


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
        assert b"damaged" not in served.process.said  # nothing is: the copy was older
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


async def damaged_at_prices(data_dir: Path, server: Natsd) -> dict[str, bytes]:
    """A log whose write-ahead log is damaged, at the prices unless they were moved already; what had been answered."""
    async with gateway(data_dir, server.url) as served:
        assert failed(await streamed(served.url, "demo/echo")) is None
        assert await served.copy.healed(lambda: server.url) == []
        await served.process.kill()
    before = answered(data_dir)
    turned_over(data_dir / "events.db-wal", 0.5)
    return before


async def older_than_prices(data_dir: Path, server: Natsd) -> dict[str, bytes]:
    """A copy of a log from before it had any prices; what was answered since."""
    await begun(data_dir)
    async with gateway(data_dir, server.url) as served:
        assert failed(await streamed(served.url, "demo/echo")) is None
        assert await served.copy.healed(lambda: server.url) == []
        await served.process.kill()
    before = answered(data_dir)
    data_dir.rename(data_dir.with_name("lost"))
    data_dir.with_name("older").rename(data_dir)
    return before


async def begun(data_dir: Path) -> None:
    """A node that has done nothing but to begin, copied away (to `older`)."""
    log = await SQLiteLog.open(data_dir, durability="process")
    await log.append(StreamWrite(f"node-{log.origin}", ANY_VERSION, (NodeStarted(node="n", release="0").new(),)))
    await log.close()
    backed_up(data_dir, data_dir.with_name("older"))


async def test_prices_that_were_lost_come_back_and_all_behind_them(data_dir: Path, server: Natsd) -> None:
    """A start that lacks them does not publish them anew where NATS has them."""
    before = await damaged_at_prices(data_dir, server)
    await comes_back(data_dir, server, before)


async def test_so_do_those_that_a_copy_is_older_than(data_dir: Path, server: Natsd) -> None:
    before = await older_than_prices(data_dir, server)
    await comes_back(data_dir, server, before)


async def comes_back(data_dir: Path, server: Natsd, before: dict[str, bytes]) -> None:
    """A server on this log has all of this again, and no prices twice."""
    async with gateway(data_dir, server.url, WAITING) as served:
        assert await served.copy.healed(lambda: server.url) == []
        assert failed(await streamed(served.url, "demo/echo")) is None
        assert "does not fit" not in str(await served.health())
        assert await served.process.terminate() == 0
    now = answered(data_dir)
    assert {stream: now[stream] for stream in before} == before
    with Reader(data_dir) as reader:
        report = verified(reader)
        published = reader.read_stream("price-openai")
    assert [found for found in report["listed"] if "damaged write-ahead log" not in found["what"]] == []
    assert report["open"] == []
    assert len(published) == 1


async def test_prices_that_do_not_wait_cut_off_what_is_behind_them(data_dir: Path, server: Natsd) -> None:
    """The deliberate bug, and that it shows."""
    before = await older_than_prices(data_dir, server)
    async with gateway(data_dir, server.url, HASTY) as served:
        await served.says("history of this node that does not fit")
        assert failed(await streamed(served.url, "demo/echo")) is None
        assert await served.process.terminate() == 0
    assert not before.keys() & answered(data_dir).keys()


async def test_a_start_that_lacks_prices_does_without_nats(data_dir: Path, server: Natsd) -> None:
    """It waits for a while, and then serves."""
    await begun(data_dir)
    server.kill()
    async with gateway(data_dir, server.url) as served:
        assert failed(await streamed(served.url, "demo/echo")) is None
        assert b"NATS could not be asked in time" in served.process.said
        assert await served.process.terminate() == 0
