"""Cross-encoders in worker processes of a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.upstreams.local.found import kind_of
from replay.cli import run as replay
from tests.serverprocess import ServerProcess, server_process

NEEDED = ("torch", "transformers", "sentence_transformers")
if missing := [package for package in NEEDED if find_spec(package) is None]:
    pytest.skip(f"not installed here: {', '.join(missing)}", allow_module_level=True)

from tests.gateway.local.scoring_model import WIDTH, pickle_weights, write_embedder, write_scorer  # noqa: E402  it needs them

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOCUMENTS = ["Bread is baked .", {"text": "bear and panda"}, "the bear eats honey and sleeps in the wood"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerProcess]:
    home = tmp_path_factory.mktemp("reranking")
    write_scorer(home / "models" / "scorer")
    write_scorer(home / "models" / "classifier", labels=3)
    write_scorer(home / "models" / "pickled")
    pickle_weights(home / "models" / "pickled")
    write_embedder(home / "models" / "embedder")
    write_embedder(home / "models" / "pickled-embedder")
    pickle_weights(home / "models" / "pickled-embedder")
    env = {
        "ABSTRACTCORE_MODELS_ROOT": str(home / "models"), "HF_HUB_OFFLINE": "1", "HOME": str(home),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    async with server_process(home / "logs", env=env, args=("--nats", "off")) as started:
        yield started


async def ask(server: ServerProcess, **changes: Any) -> tuple[int, Any, str]:
    """The answer's status and body, and the request's id."""
    body = {"model": "huggingface/scorer", "query": "What is a panda ?", "documents": DOCUMENTS, **changes}
    async with aiohttp.ClientSession() as http, http.post(f"{server.url}/v1/rerank", json=body) as answer:
        return answer.status, await answer.json(), answer.headers["x-request-id"]


async def got(server: ServerProcess, path: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(server.url + path) as answer:
        assert answer.status == 200
        return await answer.json()


async def test_documents_come_by_their_relevance(server: ServerProcess) -> None:
    status, answer, request_id = await ask(server)
    assert (status, [each["index"] for each in answer["results"]]) == (200, [1, 2, 0])
    scores = [each["relevance_score"] for each in answer["results"]]
    assert 1 > scores[0] > scores[1] > scores[2] > 0
    assert answer["usage"] == {"prompt_tokens": 3 * (5 + 3) + 4 + 3 + 9, "total_tokens": 40}
    assert await got(server, f"/v1/requests/{request_id}/stream") == answer
    [completed] = [
        event
        for event in (await got(server, f"/v1/requests/{request_id}/events"))["data"]
        if event["type"] == "generation_completed"
    ]
    assert (completed["tokens_input"], completed["usage_source"], completed["cost_usd"]) == (40, "provider", 0)


async def test_what_is_asked_for_is_heeded(server: ServerProcess) -> None:
    _, answer, _ = await ask(server, top_n=1, return_documents=True, user="me")
    assert [(each["index"], each["document"]) for each in answer["results"]] == [(1, {"text": "bear and panda"})]
    documents = ["bread bear bear bear", "bear bread bread bread"]
    _, whole, _ = await ask(server, documents=documents)
    _, cut, _ = await ask(server, documents=documents, max_tokens_per_doc=1)
    assert [[each["index"] for each in answer["results"]] for answer in (whole, cut)] == [[0, 1], [1, 0]]
    status, refused, _ = await ask(server, instruction="Be strict.")
    assert (status, refused["error"]["param"]) == (400, "instruction")


async def test_a_pair_longer_than_the_model_reads_is_cut(server: ServerProcess) -> None:
    _, answer, _ = await ask(server, documents=["panda " * 1000])
    assert answer["usage"]["prompt_tokens"] == 64


@pytest.mark.parametrize(
    ("model", "path", "said"),
    [
        ("scorer", "/v1/chat/completions", "The model ranks documents; it does not chat."),
        ("scorer", "/v1/embeddings", "The model ranks documents; it makes no embeddings."),
        ("classifier", "/v1/rerank", "The model does something else; it ranks no documents."),
    ],
)
async def test_a_model_of_another_kind_is_refused(server: ServerProcess, model: str, path: str, said: str) -> None:
    """Else a library makes up what such a model lacks, and the scores are chance."""
    asked = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
        "/v1/embeddings": {"input": "Hi"},
        "/v1/rerank": {"query": "a", "documents": ["b"]},
    }
    body = {"model": f"huggingface/{model}", **asked[path]}
    async with aiohttp.ClientSession() as http, http.post(server.url + path, json=body) as answer:
        assert (answer.status, (await answer.json())["error"]["message"]) == (400, said)


async def test_weights_that_can_hold_code_are_not_read(server: ServerProcess) -> None:
    status, answer, _ = await ask(server, model="huggingface/pickled")
    assert (status, answer["error"]["message"]) == (500, "The model could not be loaded: OSError.")
    found = []
    for model in ("embedder", "pickled-embedder"):
        body = {"model": f"huggingface/{model}", "input": "a"}
        async with aiohttp.ClientSession() as http, http.post(f"{server.url}/v1/embeddings", json=body) as answered:
            found.append(answered.status)
    assert found == [200, 500]


async def test_they_would_be_without_a_word(tmp_path: Path) -> None:
    """The twin: the library reads them unless told not to."""
    from sentence_transformers import CrossEncoder, SentenceTransformer

    for name, write in (("scorer", write_scorer), ("embedder", write_embedder)):
        write(tmp_path / name)
        pickle_weights(tmp_path / name)
    assert CrossEncoder(str(tmp_path / "scorer"), local_files_only=True).predict([("a", "b")]) > 0
    assert len(SentenceTransformer(str(tmp_path / "embedder"), local_files_only=True).encode("a")) == WIDTH


async def test_it_is_listed_as_what_it_is(server: ServerProcess) -> None:
    listed = (await got(server, "/v1/models?type=text-reranking"))["data"]
    assert [(model["id"], model["capabilities"]) for model in listed] == [("huggingface/scorer", ["reranking"])]


async def test_every_answer_renders_again(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(["verify", "--data-dir", str(server.data_dir)], {}) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"config.json": {"architectures": ["XForSequenceClassification"], "id2label": {"0": "L"}}}, "text-reranking"),
        ({"config.json": {"architectures": ["XForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}}, None),
        ({"config.json": {"architectures": ["XForSequenceClassification"]}}, None),
        (
            {
                "config.json": {"architectures": ["XForCausalLM"]}, "modules.json": [],
                "config_sentence_transformers.json": {"model_type": "CrossEncoder"},
            },
            "text-reranking",
        ),
        (
            {
                "config.json": {"architectures": ["XModel"]}, "modules.json": [],
                "config_sentence_transformers.json": {"model_type": "SentenceTransformer"},
            },
            "text-embedding",
        ),
    ],
    ids=str,
)  # fmt: skip
async def test_files_say_what_a_model_is_for(tmp_path: Path, files: dict[str, Any], kind: str | None) -> None:
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    assert kind_of(tmp_path) == kind
