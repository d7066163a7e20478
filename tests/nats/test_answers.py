"""A server that hangs, and answers that never come: what was sent may be stored or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from eventstore.jetstream import JetStream, Message, NoAnswer
from eventstore.sqlite import SQLiteLog
from tests.eventstore.relay_rig import FRAMES, append, append_run, relaying, until
from tests.nats.check import HEALS_WITHIN_S, Copy
from tests.nats.proxy import lossy
from tests.natsd import Natsd


class Impatient(JetStream):
    """Gives a server less time to answer, so that a test need not wait."""

    answer_timeout_s = 0.3


class Repeating(Impatient):
    """The deliberate bug: what was not acknowledged is sent once more."""

    async def publish_batch(self, messages: Sequence[Message], fence: str, last_sequence: int) -> int:
        try:
            return await super().publish_batch(messages, fence, last_sequence)
        except NoAnswer:
            newest = await self.last("TOKENS" if FRAMES in messages[0].subject else "LEDGER", fence)
            return await super().publish_batch(messages, fence, newest.sequence if newest else 0)


async def written(log: SQLiteLog) -> None:
    for run in range(3):
        await append(log, 100)
        await append_run(log, [b"%d: %d" % (run, n) for n in range(30)])


async def through_losses(
    log: SQLiteLog,
    data_dir: Path,
    server: Natsd,
    copy: Copy,
    lose: Callable[[int], bool],
    over: type[JetStream],
    within_s: float = HEALS_WITHIN_S,
) -> list[str]:
    """The faults that stay where the server's acknowledgements are lost."""
    async with lossy(server.url, lose) as proxy:
        async with relaying(log, data_dir, proxy, connect=over.connect) as relay:  # type: ignore[arg-type]  # it has the url
            await written(log)
            assert await relay.flush(60)
            await written(log)
            assert await relay.flush(60)
        assert proxy.lost
    return await copy.healed(lambda: server.url, within_s)


LOSSES: dict[str, Callable[[int], bool]] = {
    "the first": lambda n: n == 1,
    "every other": lambda n: n % 2 == 1,
    "several in a row": lambda n: n % 5 != 0,
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
async def test_lost_acknowledgements_lose_and_double_nothing(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy, lose: Callable[[int], bool],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    assert await through_losses(log, data_dir, server, copy, lose, Impatient) == []
    assert "damaged" not in caplog.text


async def test_sent_once_more_events_double(log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy) -> None:
    assert await through_losses(log, data_dir, server, copy, LOSSES["every other"], Repeating, 0)


async def test_a_server_that_wakes_up_stores_nothing_twice(
    log: SQLiteLog, data_dir: Path, server: Natsd, copy: Copy
) -> None:
    """What was sent while it slept lies before it when it wakes, beside what is sent anew."""
    async with relaying(log, data_dir, server, connect=Impatient.connect) as relay:
        for _ in range(3):
            await written(log)
            assert await relay.flush(60)
            server.freeze()
            await written(log)
            await until(lambda: relay.status.state == "down", "the silence is seen")
            await written(log)
            server.thaw()
        assert await copy.healed(lambda: server.url) == []
        assert await relay.flush(60)
