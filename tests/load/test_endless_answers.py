"""An upstream that never ends its answer: it is cut at a limit, recorded as far as it came, and costs little memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.wire.whole_body import BODY_LIMIT
from tests.crash.check import wrongs
from tests.crash.load import environ
from tests.load.crowd import QUICK, asking, begun, resident_kib
from tests.load.flood import flood
from tests.load.log import ends, ledger
from tests.serverprocess import server_process

GROWTH_KIB = 100 << 10
PATIENCE_S = 60.0
ERROR = b"the provider's answer is larger than 64 MiB"
LAST_CHUNK = b"\r\n0\r\n\r\n"


async def test_an_answer_without_end_is_cut_at_the_limit(tmp_path: Path) -> None:
    async with (
        flood() as upstream,
        server_process(tmp_path / "logs", env=environ(upstream.base_url), args=QUICK) as server,
    ):
        (await begun(server.url, "held-9")).leave()  # what the first request loads is not this one's
        before = resident_kib(server)
        client = await asking(server.url, "endless")
        async with asyncio.timeout(PATIENCE_S):
            while not client.raw.endswith(LAST_CHUNK) and await client.more():
                del client.raw[:-500]
        grown = resident_kib(server, "VmHWM") - before
        assert await server.terminate() == 0
    print(f"an endless answer: {grown >> 10} MiB of memory")
    assert ERROR in client.raw
    assert ends(server.data_dir) == {"request_failed": 1, "request_cancelled": 1}
    failed = ledger(server.data_dir)[-2]
    assert (failed["type"], failed["fault_domain"]) == ("request_failed", "provider")
    assert failed["payload_length"] > BODY_LIMIT  # whatever came, the client got, and can get again
    assert wrongs(server.data_dir, []) == []
    assert grown < GROWTH_KIB
