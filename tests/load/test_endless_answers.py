"""An upstream that never ends its answer: it is cut at a limit, recorded as far as it came, and costs little memory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.wire.whole_body import BODY_LIMIT
from tests.crash.check import wrongs
from tests.crash.load import environ
from tests.load.crowd import QUICK, asking, begun, resident_kib
from tests.load.flood import flood
from tests.load.log import ends, ledger
from tests.serverprocess import COMMAND, server_process

GROWTH_KIB = 40 << 10
"""Less than the 64 MiB that the answer may have, and more than the 18 MiB that it takes."""
KEEPING = (sys.executable, "-m", "tests.load.keeping_server")
"""The deliberate bug: what came is kept."""
PATIENCE_S = 60.0
ERROR = b"the provider's answer is larger than 64 MiB"
LAST_CHUNK = b"\r\n0\r\n\r\n"


async def test_an_answer_without_end_is_cut_at_the_limit(tmp_path: Path) -> None:
    assert await grown_kib(tmp_path / "logs", COMMAND) < GROWTH_KIB


async def test_a_server_that_keeps_what_came_is_caught(tmp_path: Path) -> None:
    assert await grown_kib(tmp_path / "logs", KEEPING) > GROWTH_KIB


async def grown_kib(data_dir: Path, command: Sequence[str]) -> int:
    """How much memory the server takes for one at the worst."""
    async with (
        flood() as upstream,
        server_process(data_dir, env=environ(upstream.base_url), args=QUICK, command=command) as server,
    ):
        (await begun(server.url, "held-9")).leave()  # what the first request loads is not this one's
        before = resident_kib(server)
        client = await asking(server.url, "endless")
        async with asyncio.timeout(PATIENCE_S):
            while not client.raw.endswith(LAST_CHUNK) and await client.more():
                del client.raw[:-500]
        grown = resident_kib(server, "VmHWM") - before
        while ends(data_dir)["open"]:
            await asyncio.sleep(0.05)
    print(f"an endless answer: {grown >> 10} MiB of memory")
    assert ERROR in client.raw
    assert ends(server.data_dir) == {"request_failed": 1, "request_cancelled": 1}
    failed = next(event for event in ledger(server.data_dir) if event["type"] == "request_failed")
    assert (failed["type"], failed["fault_domain"]) == ("request_failed", "provider")
    assert failed["payload_length"] > BODY_LIMIT  # whatever came, the client got, and can get again
    assert wrongs(server.data_dir, []) == []
    return grown
