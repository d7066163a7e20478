"""Where a repair gets copies of what is damaged, and where it works."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from eventstore.jetstream import JetStream, JetStreamError, Refused
from eventstore.repair import Copies
from eventstore.repair_file import copies
from gateway.nats_server import NatsServer
from replay.recorded import ReplayError

ASIDE = "repair.partial"
"""The directory in which files are made before they take their places."""
NATS_WITHIN_S = 15.0
NOT_FOUND = 404


@contextmanager
def emptied(directory: Path) -> Iterator[Path]:
    """A directory to work in, of the same file system; an attempt that was killed may have left one."""
    aside = directory / ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    try:
        yield aside
    finally:
        shutil.rmtree(aside)


async def copied_from(url: str) -> Copies:
    """All that the NATS servers at these URLs (joined by commas) have. Raises `ReplayError`."""
    async with AsyncExitStack() as opened:
        return await _copied(url, opened)


async def copied_of_bundled(data_dir: Path) -> Copies:
    """What the bundled server has, which is started for it. Raises `ReplayError`."""
    async with AsyncExitStack() as opened:
        server = NatsServer(data_dir)
        task = asyncio.create_task(server.run())
        opened.push_async_callback(server.stop)
        opened.callback(task.cancel)
        try:
            async with asyncio.timeout(NATS_WITHIN_S):
                url = await server.address()
        except TimeoutError as error:
            raise ReplayError("NATS cannot be asked: the bundled server does not start") from error
        return await _copied(url, opened)


async def _copied(url: str, opened: AsyncExitStack) -> Copies:
    """Reading takes as long as there is something to read; each page has a limit of its own."""
    try:
        async with asyncio.timeout(NATS_WITHIN_S):
            js = await JetStream.connect(url.split(","))
        opened.push_async_callback(js.close)
        await js.state("LEDGER")
        return await copies(js)
    except (JetStreamError, TimeoutError) as error:
        if isinstance(error, Refused) and error.status == NOT_FOUND:
            raise ReplayError(
                "this NATS has no copy of the log: the server ran without one, or with another, which --nats can name"
            ) from error
        raise ReplayError(f"NATS cannot be asked: {error}") from error
