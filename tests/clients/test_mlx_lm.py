"""In front of a real server that nobody here wrote: mlx-lm's, with a model that says one sentence.

It has ways of its own: comments before the answer, the role in every delta, its own separators and escapes in JSON, a
path for a model's name, and bare strings for errors.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

pytest.importorskip("mlx_lm", reason="mlx-lm has no build for this platform")

from tests.clients.one_sentence_model import SENTENCE, write_model
from tests.ports import free_port
from tests.serverprocess import ServerProcess, server_process

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROVIDERS = {
    "lmstudio": "LMSTUDIO_BASE_URL",
    "vllm": "VLLM_BASE_URL",
    "openai-compatible": "OPENAI_COMPATIBLE_BASE_URL",
}
HI: Any = [{"role": "user", "content": "What is this?"}]


@dataclass(frozen=True)
class Running:
    """The gateway, and the path of the model that the server behind it has loaded."""

    gateway: ServerProcess
    model: Path


@asynccontextmanager
async def mlx_lm_server(home: Path, model: Path) -> AsyncIterator[str]:
    """mlx-lm's own server, with a home where nothing is; its base URL."""
    (home / ".cache" / "huggingface" / "hub").mkdir(parents=True)
    port = free_port()
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (home / "said").open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mlx_lm", "server", "--model", str(model), "--host", "127.0.0.1", "--port", str(port),
            env={"PATH": os.environ["PATH"], "HOME": str(home), **offline}, stdout=said, stderr=said,
        )  # fmt: skip
    try:
        await answering(f"http://127.0.0.1:{port}/v1/models")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        await process.wait()


async def answering(url: str) -> None:
    """Wait until somebody answers there."""
    async with asyncio.timeout(180), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    directory = tmp_path_factory.mktemp("mlx")
    model = directory / "model"
    await asyncio.to_thread(write_model, model)
    async with mlx_lm_server(directory / "home", model) as url:
        env = dict.fromkeys(PROVIDERS.values(), url)
        async with server_process(directory / "logs", env=env) as gateway:
            yield Running(gateway, model)


@pytest_asyncio.fixture(loop_scope="module")
async def client(running: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{running.gateway.url}/v1", api_key="k", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_stream_says_the_sentence(running: Running, client: openai.AsyncOpenAI, provider: str) -> None:
    options: Any = {"include_usage": True}
    stream = await client.chat.completions.create(
        model=f"{provider}/{running.model}", messages=HI, stream=True, stream_options=options
    )
    chunks = [chunk async for chunk in stream]
    firsts = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in firsts) == SENTENCE
    assert [choice.delta.role for choice in firsts if choice.delta.role] == ["assistant"]
    assert firsts[-1].finish_reason == "stop"
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens > 5


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_whole_answer_says_it_too(running: Running, client: openai.AsyncOpenAI, provider: str) -> None:
    answer = await client.chat.completions.create(model=f"{provider}/{running.model}", messages=HI)
    assert answer.choices[0].message.content == SENTENCE
    assert answer.choices[0].finish_reason == "stop"


async def test_the_log_holds_what_was_said(running: Running, client: openai.AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model=f"vllm/{running.model}", messages=HI, stream=True
    )
    async for _ in raw.parse():
        pass
    url = f"{running.gateway.url}/v1/requests/{raw.headers['x-request-id']}/events"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        events = (await answer.json())["data"]
    tokens = [event for event in events if event["type"] == "token_generated"]
    assert "".join(token.get("text", "") for token in tokens) == SENTENCE
    (completed,) = (event for event in events if event["type"] == "generation_completed")
    assert completed["choices"][0]["message"]["content"] == SENTENCE
    assert (completed["cost_usd"], completed["usage_source"]) == (0, "provider")
    assert completed["frames"] == len(tokens)


async def test_nothing_of_it_cost_anything_where_it_is_local(running: Running, client: openai.AsyncOpenAI) -> None:
    await client.chat.completions.create(model=f"lmstudio/{running.model}", messages=HI)
    url = f"{running.gateway.url}/v1/usage?group_by=provider"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        report = {row["provider"]: row for row in json.loads(await answer.text())["data"]}
    assert report["lmstudio"]["cost_usd"] == 0
    assert report["lmstudio"]["tokens_output"] > 5


async def test_its_errors_are_the_clients_own(client: openai.AsyncOpenAI, running: Running) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="vllm/no/such-model", messages=HI)
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model=f"vllm/{running.model}", messages=HI, temperature=-3)


async def test_its_models_are_listed(client: openai.AsyncOpenAI, running: Running) -> None:
    found = {model.id async for model in client.models.list()}
    assert {f"{provider}/{running.model}" for provider in PROVIDERS} <= found
