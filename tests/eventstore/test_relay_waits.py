"""No wait of the relay can be held up by a client that swallows cancellations."""

from __future__ import annotations

import asyncio

import pytest

from eventstore.jetstream import within


async def stubborn(until: asyncio.Event) -> str:
    """As nats-py's flush: a cancellation that reaches it is passed over."""
    while not until.is_set():
        try:
            await until.wait()
        except asyncio.CancelledError:
            pass
    return "done"


async def test_a_timeout_gets_through() -> None:
    release = asyncio.Event()
    with pytest.raises(TimeoutError):
        await within(0.01, stubborn(release))
    release.set()


async def test_cancelling_gets_through() -> None:
    release = asyncio.Event()
    waiting = asyncio.create_task(within(60, stubborn(release)))
    await asyncio.sleep(0)
    waiting.cancel()
    done, _ = await asyncio.wait({waiting}, timeout=5)
    assert done == {waiting}
    assert waiting.cancelled()
    release.set()


async def test_awaited_as_it_is_neither_would() -> None:
    """The deliberate bug: the wait itself, without a task of its own."""
    release = asyncio.Event()
    waiting = asyncio.create_task(stubborn(release))
    await asyncio.sleep(0)
    waiting.cancel()
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert done == set()
    release.set()
    assert await waiting == "done"


async def test_results_and_errors_come_back() -> None:
    async def fails() -> None:
        raise OSError("as it was")

    release = asyncio.Event()
    release.set()
    assert await within(1, stubborn(release)) == "done"
    with pytest.raises(OSError, match="as it was"):
        await within(1, fails())
