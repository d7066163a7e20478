"""Bits of the write-ahead log turn over after a kill: SQLite takes that for the end, a start and `verify` do not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random

import aiohttp
import pytest

from eventstore import database, wal
from eventstore import rows as sql
from eventstore.database import open_database
from eventstore.errors import LogCorrupt, LogUnavailable
from eventstore.reader import Reader
from eventstore.repair import Copies
from eventstore.wal import lost_transactions
from eventstore.writer import IDLE_S
from replay.repair import repaired
from replay.verify import verified
from tests.gateway.whole import chat, gateway
from tests.replay.recorded_log import Recorder

WAL = "events.db-wal"
HEADER, FRAME = 32, 24 + 4096
LONG = pytest.param(2_000, marks=pytest.mark.soak)


@dataclass(frozen=True, slots=True)
class Killed:
    """What a killed process left: both files, how long the log is, and where the last transaction's frames begin."""

    database: bytes
    ahead: bytes
    head: int
    last: int

    def put(self, folder: Path, ahead: bytes) -> None:
        """As they lie there, with this write-ahead log."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / sql.FILE).write_bytes(self.database)
        (folder / WAL).write_bytes(ahead)


def frames(ahead: bytes) -> list[tuple[int, bool]]:
    """Where each frame begins, and whether it ends a transaction."""
    starts = range(HEADER, len(ahead) - FRAME + 1, FRAME)
    return [(start, ahead[start + 4 : start + 8] != bytes(4)) for start in starts]


async def recorded(folder: Path, idle_s: float = 0) -> Killed:
    async with Recorder(folder / "logs") as recorder:
        for number in range(12):
            await recorder.exchange(*(f"word {number} {place}" for place in range(20)), "x" * 3_000)
        await asyncio.sleep(idle_s)
        file, ahead = (folder / "logs" / sql.FILE).read_bytes(), (folder / "logs" / WAL).read_bytes()
        head = await recorder.log.head()
    ends = [start + FRAME for start, ended in frames(ahead) if ended]
    assert len(ends) > 30
    return Killed(file, ahead, head, ends[-2])


@pytest.fixture
async def killed(folder: Path) -> Killed:
    return await recorded(folder)


@pytest.fixture
async def idle(folder: Path) -> Killed:
    """Killed when all of the write-ahead log had been moved into the database."""
    killed = await recorded(folder, idle_s=3 * IDLE_S)
    (folder / "alone").mkdir()
    (folder / "alone" / sql.FILE).write_bytes(killed.database)
    with Reader(folder / "alone") as reader:
        assert reader.head() == killed.head
    return killed


def flips(killed: Killed, count: int) -> list[bytes]:
    """Write-ahead logs with one bit turned over in front of the last transaction."""
    random, found = Random(count), []
    for _ in range(count):
        damaged = bytearray(killed.ahead)
        damaged[random.randrange(killed.last)] ^= 1 << random.randrange(8)
        found.append(bytes(damaged))
    return found


def start_says_nothing(folder: Path) -> bool:
    try:
        opened = open_database(folder / sql.FILE, "power")
    except LogCorrupt:
        return False
    opened.connection.close()
    return not opened.warnings


def verify_says_nothing(folder: Path) -> bool:
    try:
        with Reader(folder) as reader:
            return not verified(reader)["findings"]
    except LogUnavailable:  # nothing is left
        return False


def unnoticed(killed: Killed, folder: Path, count: int, says_nothing: Callable[[Path], bool]) -> int:
    """How many of so many flips nobody notices, though rows are lost."""
    missed = 0
    for ahead in flips(killed, count):
        killed.put(folder, ahead)
        if says_nothing(folder):
            with Reader(folder) as reader:
                missed += reader.head() < killed.head
    return missed


@pytest.mark.parametrize("count", [40, LONG])
def test_a_start_notices_every_bit_and_keeps_the_file(killed: Killed, folder: Path, count: int) -> None:
    assert unnoticed(killed, folder / "found", count, start_says_nothing) == 0
    (kept,) = wal.kept_beside(folder / "found" / sql.FILE)
    assert (folder / "found" / kept).read_bytes() == flips(killed, count)[-1]
    assert not verify_says_nothing(folder / "found")  # for as long as the file is there


@pytest.mark.parametrize("count", [40, LONG])
def test_verify_notices_every_bit(killed: Killed, folder: Path, count: int) -> None:
    assert unnoticed(killed, folder / "found", count, verify_says_nothing) == 0


def test_what_sqlite_says_by_itself_is_nothing(killed: Killed, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "lost_behind", lambda _: 0)
    assert unnoticed(killed, folder / "found", 20, start_says_nothing) > 15


def heads(killed: Killed, folder: Path) -> list[int]:
    """Where the log ends that a start goes on from, for each of some flips; -1 where there is no start."""
    found = []
    for ahead in flips(killed, 20):
        killed.put(folder, ahead)
        try:
            opened = open_database(folder / sql.FILE, "power")
        except LogCorrupt:
            found.append(-1)
            continue
        found.append(opened.tail.position)
        opened.connection.close()
    return found


def test_what_was_in_the_database_already_is_not_lost(idle: Killed, folder: Path) -> None:
    assert heads(idle, folder / "found") == [idle.head] * 20


def test_what_comes_before_the_damage_hides_it(idle: Killed, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug: the write-ahead log is gone on from, as far as it is whole."""
    monkeypatch.setattr(database, "_choose", lambda *_: None)
    assert heads(idle, folder / "found").count(idle.head) < 5


async def test_a_repair_goes_on_from_what_a_start_would(idle: Killed, folder: Path) -> None:
    """And not from what comes before the damage, which it would write over what the database has."""

    async def nothing(data_dir: Path, nats: str) -> Copies:
        return Copies()

    for ahead in flips(idle, 5):
        idle.put(folder / "found", ahead)
        assert (await repaired(folder / "found", "nowhere", nothing))["lost"] == []
        with Reader(folder / "found") as reader:
            assert reader.head() >= idle.head


def test_what_is_kept_has_its_name_on_the_disk_before_it_is_written_over(
    killed: Killed, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ahead,) = flips(killed, 1)
    killed.put(folder / "found", ahead)
    synced: list[list[str]] = []
    monkeypatch.setattr(wal, "sync_names", lambda directory: synced.append(wal.kept_beside(directory / sql.FILE)))
    kept = wal.keep(folder / "found" / sql.FILE)
    assert synced == [[kept.name]]


def test_what_is_torn_because_it_is_being_written_is_no_damage(
    killed: Killed, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed.put(folder / "found", killed.ahead)
    torn = bytearray(killed.ahead)
    torn[killed.last // 2] ^= 1
    looks = iter([BytesIO(torn)])
    monkeypatch.setattr(wal, "lost_transactions", lambda file: lost_transactions(next(looks, file)))
    assert wal.lost_behind(folder / "found" / sql.FILE) == 0
    assert next(looks, None) is None


def test_a_torn_end_is_no_damage(killed: Killed, folder: Path) -> None:
    """Whatever is left of the last transaction: any of its sectors, or none."""
    random = Random(1)
    for _ in range(40):
        ahead = bytearray(killed.ahead)
        for sector in range(-(-killed.last // 512) * 512, len(ahead), 512):
            if random.random() < 0.5:
                ahead[sector : sector + 512] = bytes(len(ahead[sector : sector + 512]))
        killed.put(folder / "found", bytes(ahead))
        assert start_says_nothing(folder / "found")
        assert wal.kept_beside(folder / "found" / sql.FILE) == []


def test_what_an_earlier_round_left_behind_the_end_is_no_damage(killed: Killed, folder: Path) -> None:
    older = bytearray(killed.ahead)
    for start, _ in frames(killed.ahead):
        older[start + 8 : start + 16] = bytes(8)  # other salts
    cut = next(start for start, _ in reversed(frames(killed.ahead)) if start <= killed.last)
    killed.put(folder / "found", killed.ahead[:cut] + bytes(older[cut:]))
    assert start_says_nothing(folder / "found")


async def said(url: str) -> tuple[str, str]:
    """The state of a server, and why."""
    async with aiohttp.ClientSession() as client, client.get(f"{url}/health") as answer:
        health = await answer.json()
        return health["status"], str(health.get("reasons"))


async def test_a_server_goes_on_and_says_so_until_the_file_is_moved(killed: Killed, folder: Path) -> None:
    ahead = bytearray(killed.ahead)
    ahead[killed.last // 2] ^= 1
    killed.put(folder / "logs", bytes(ahead))
    for _ in range(2):
        async with gateway(folder / "logs", "http://127.0.0.1:9") as served:
            assert (await served.ask(chat("demo/echo"))).status == 200
            status, reasons = await said(served.url)
            assert status == "degraded"
            assert f"{WAL}.damaged-" in reasons
    (kept,) = wal.kept_beside(folder / "logs" / sql.FILE)
    (folder / "logs" / kept).rename(folder / kept)
    async with gateway(folder / "logs", "http://127.0.0.1:9") as served:
        assert (await said(served.url))[0] == "healthy"


async def test_a_log_that_was_longer_is_told_of(folder: Path) -> None:
    """Where nothing in the file says it: a transaction that was the last one, or an older copy put in its place."""
    async with gateway(folder / "logs", "http://127.0.0.1:9") as served:
        assert (await served.ask(chat("demo/echo"))).status == 200
    shutil.copy(folder / "logs" / sql.FILE, folder / "older")
    async with gateway(folder / "logs", "http://127.0.0.1:9") as served:
        assert (await served.ask(chat("demo/echo"))).status == 200
        assert (await said(served.url))[0] == "healthy"
    shutil.copy(folder / "older", folder / "logs" / sql.FILE)
    async with gateway(folder / "logs", "http://127.0.0.1:9") as served:
        assert "had been recorded" in str(served.server.log.warnings)
        status, reasons = await said(served.url)
        assert (status, "had been recorded" in reasons) == ("degraded", True)
