"""The real server under streaming load, with a NATS server that is not its own; and what must hold of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from eventstore.catalogue.token import TokenGenerated
from gateway.follower.process import open_run
from tests.crash.load import environ, upstream
from tests.gateway.raw import RawClient, Received, request
from tests.nats.check import Copy
from tests.serverprocess import COMMAND, ServerProcess, server_process

MODELS = ("openai-compatible/paced", "openai-compatible/fast", "anthropic/claude", "ollama/llama", "demo/echo")
CLIENTS = 8


def failed(answer: Received) -> str | None:
    """What is wrong with an answer to a streamed request, if anything."""
    if answer.status != 200:
        return f"status {answer.status}"
    if not answer.whole or not answer.body.rstrip().endswith(b"data: [DONE]"):
        return f"{answer.request_id}: ends with {answer.body[-80:]!r}"
    return None


async def streamed(url: str, model: str = MODELS[0], text: str = "Say it, all of it.") -> Received:
    """One streamed answer, as far as it came."""
    client = await RawClient.connect(url)
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, "max_tokens": 500}
    try:
        await client.send(request(body))
        return await client.answer()
    finally:
        client.leave()


class Clients:
    """They ask, one request after the other, until told to stop."""

    def __init__(self, url: str, count: int) -> None:
        self.answers: list[Received] = []
        self._stopping = False
        self._tasks = [asyncio.create_task(self._ask(url, index)) for index in range(count)]

    async def _ask(self, url: str, index: int) -> None:
        number = index
        while not self._stopping:
            self.answers.append(await streamed(url, MODELS[number % len(MODELS)]))
            number += 1

    async def answered(self, more: int) -> None:
        """Wait until so many more answers have come."""
        due = len(self.answers) + more
        while len(self.answers) < due:
            await asyncio.sleep(0.01)

    async def stop(self) -> list[str]:
        """What went wrong with any of them."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        return [wrong for answer in self.answers if (wrong := failed(answer))]


class Gateway:
    """A server that runs. `copy` is what NATS should hold of it."""

    def __init__(self, process: ServerProcess) -> None:
        self.process, self.url = process, process.url
        self.copy = Copy(process.data_dir, TokenGenerated.type, open_run)

    @asynccontextmanager
    async def loaded(self, count: int = CLIENTS) -> AsyncIterator[Clients]:
        """Under load; no request of it has failed."""
        clients = Clients(self.url, count)
        try:
            yield clients
        finally:
            failures = await clients.stop()
        assert failures == []

    async def health(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/health") as answer:
            said: dict[str, Any] = await answer.json()
            return said

    async def says(self, word: str) -> None:
        """Wait until its health has this word in it."""
        async with asyncio.timeout(60):
            while word not in str(await self.health()):
                await asyncio.sleep(0.05)


@asynccontextmanager
async def gateway(data_dir: Path, nats: str, command: Sequence[str] = COMMAND) -> AsyncIterator[Gateway]:
    """A server whose providers are all there; `nats` as in `--nats`, told where no command line shows it."""
    async with upstream() as served:
        env = {**environ(served.base_url), "ABSTRACTCORE_NATS_URL": nats}
        async with server_process(data_dir, env=env, args=(), command=command) as process:
            yield Gateway(process)
