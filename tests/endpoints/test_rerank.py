"""Reranking over scripted servers, each answering as one of those that speak it does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.wire.rerank import LONGEST_ECHO, RerankBody
from gateway.wire.values import Fold
from replay.cli import run as replay
from tests.clients.front import Front, front
from tests.gateway.scripted import Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOCUMENTS: list[Any] = ["Bread is baked.", {"text": "A panda is a bear."}, {"text": "Pandas eat.", "title": "Food"}]
ASKED = {"model": "vllm/bge-reranker", "query": "What is a panda?", "documents": DOCUMENTS}
TEXTS = ["Bread is baked.", "A panda is a bear.", "Pandas eat."]
SCORES = [0.0625, 0.875, 0.5]


def result(index: int, **more: Any) -> dict[str, Any]:
    return {"index": index, "relevance_score": SCORES[index], **more}


def said(results: list[Any], **more: Any) -> Script:
    return Script.json({"results": results, **more})


VLLM = said(
    [result(i, document={"text": TEXTS[i], "multi_modal": None}) for i in (1, 2, 0)],
    id="rerank-0", model="bge-reranker", usage={"prompt_tokens": 21, "total_tokens": 21},
)  # fmt: skip
LLAMA = said([result(i) for i in (1, 2, 0)], model="m", object="list", usage={"prompt_tokens": 21, "total_tokens": 21})
UNSORTED = said([result(i, document=TEXTS[i]) for i in (0, 1, 2)], usage={"total_tokens": 21})
COHERE = said(
    [result(i) for i in (1, 2, 0)],
    id="1", meta={"api_version": {"version": "1"}, "billed_units": {"search_units": 1}},
)  # fmt: skip
SERVERS: Mapping[str, Script] = {"vLLM": VLLM, "llama.cpp": LLAMA, "unsorted": UNSORTED, "Cohere": COHERE}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with front(tmp_path_factory.mktemp("rerank")) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Told:
    """An answer."""

    def __init__(self, answer: aiohttp.ClientResponse, body: bytes, value: Any) -> None:
        self.status, self.headers, self.body, self.value = answer.status, answer.headers, body, value

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]


async def ask(server: Front, http: aiohttp.ClientSession, headers: Mapping[str, str] = {}, **changes: Any) -> Told:
    body = {name: value for name, value in (ASKED | changes).items() if value is not ...}
    async with http.post(f"{server.url}/rerank", json=body, headers=headers) as answer:
        return Told(answer, await answer.read(), await answer.json())


def play(server: Front, *scripts: Script) -> None:
    server.upstream.script("POST /vllm/v1/rerank", *scripts)


def passed(server: Front) -> list[Any]:
    return [request.json() for request in server.upstream.requests if request.path == "/vllm/v1/rerank"]


async def ended(server: Front, http: aiohttp.ClientSession, request_id: str, type_: str) -> dict[str, Any]:
    async with http.get(f"{server.url}/requests/{request_id}/events") as answer:
        [found] = [event for event in (await answer.json())["data"] if event["type"] == type_]
        return dict(found)


async def again(server: Front, http: aiohttp.ClientSession, request_id: str) -> bytes:
    async with http.get(f"{server.url}/requests/{request_id}/stream") as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()


@pytest.mark.parametrize("name", SERVERS)
async def test_whatever_the_server_does_the_client_gets_what_it_asked_for(
    server: Front, http: aiohttp.ClientSession, name: str
) -> None:
    play(server, SERVERS[name])
    told = await ask(server, http, top_n=2, return_documents=True)
    assert (told.status, told.value["model"]) == (200, ASKED["model"])
    assert told.value["id"] == f"rerank-{told.request_id}"
    assert told.value["results"] == [result(1, document={"text": TEXTS[1]}), result(2, document={"text": TEXTS[2]})]
    assert await again(server, http, told.request_id) == told.body
    bare = await ask(server, http, return_documents=False)
    assert bare.value["results"] == [result(1), result(2), result(0)]


async def test_without_a_word_on_them_documents_are_there_where_the_provider_has_them(
    server: Front, http: aiohttp.ClientSession
) -> None:
    play(server, VLLM, LLAMA)
    there, not_there = [(await ask(server, http)).value["results"] for _ in range(2)]
    assert [each["document"]["text"] for each in there] == [TEXTS[1], TEXTS[2], TEXTS[0]]
    assert not_there == [result(1), result(2), result(0)]


async def test_long_documents_are_not_recorded_once_more(server: Front, http: aiohttp.ClientSession) -> None:
    play(server, LLAMA)
    long = "x" * LONGEST_ECHO
    told = await ask(server, http, documents=[long, "b", "c"], return_documents=True)
    assert told.value["results"] == [result(1), result(2), result(0)]
    received = await ended(server, http, told.request_id, "request_received")
    assert received["options"] == {"documents": 3, "return_documents": True}


async def test_the_request_passes_with_plain_texts_as_such(server: Front, http: aiohttp.ClientSession) -> None:
    play(server, VLLM)
    await ask(server, http, top_n=2, max_tokens_per_doc=100, truncate_prompt_tokens=-1, retries=1)
    assert passed(server)[-1] == {
        "model": "bge-reranker", "query": ASKED["query"], "documents": [*TEXTS[:2], DOCUMENTS[2]],
        "top_n": 2, "max_tokens_per_doc": 100, "truncate_prompt_tokens": -1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "tokens", "source"),
    [("vLLM", 21, "provider"), ("unsorted", 21, "provider"), ("Cohere", 0, "none")],
)
async def test_usage_is_what_the_provider_said(
    server: Front, http: aiohttp.ClientSession, name: str, tokens: int, source: str
) -> None:
    play(server, SERVERS[name])
    told = await ask(server, http)
    completed = await ended(server, http, told.request_id, "generation_completed")
    assert (completed["tokens_input"], completed["usage_source"]) == (tokens, source)
    there = {"usage", "meta"} & told.value.keys()
    assert [told.value[name] for name in there] == [completed["usage_raw"]]


async def test_what_the_provider_says_that_it_cost_is_booked(server: Front, http: aiohttp.ClientSession) -> None:
    server.upstream.script(
        "POST /openrouter/v1/rerank", said([result(0)], usage={"search_units": 1, "total_tokens": 21, "cost": 0.002})
    )
    told = await ask(server, http, model="openrouter/cohere/rerank-v3.5")
    assert (await ended(server, http, told.request_id, "generation_completed"))["cost_usd"] == 0.002


async def test_a_failure_is_tried_again_and_then_elsewhere(server: Front, http: aiohttp.ClientSession) -> None:
    play(server, Script.json({"error": {"message": "busy"}}, status=503), VLLM)
    assert (await ask(server, http, retries=1)).status == 200
    play(server, Script.json({"error": {"message": "busy"}}, status=503))
    server.upstream.script("POST /lmstudio/v1/rerank", LLAMA)
    told = await ask(server, http, fallback=["lmstudio/other"])
    assert (told.status, len(told.value["results"])) == (200, 3)
    assert (await ended(server, http, told.request_id, "fallback_selected"))["model"] == "other"
    assert await again(server, http, told.request_id) == told.body


async def test_an_idempotency_key_gives_the_same_bytes_for_one_call(server: Front, http: aiohttp.ClientSession) -> None:
    play(server, VLLM)
    before = len(passed(server))
    first, second = [await ask(server, http, {"Idempotency-Key": "one"}) for _ in range(2)]
    assert first.body == second.body
    assert len(passed(server)) == before + 1


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"query": ...}, "query"),
        ({"query": ""}, "query"),
        ({"query": ["a"]}, "query"),
        ({"documents": ...}, "documents"),
        ({"documents": None}, "documents"),
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": ["a", 7]}, "documents[1]"),
        ({"documents": [{"title": "a"}]}, "documents[0]"),
        ({"documents": [{"text": 7}]}, "documents[0]"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": 1.5}, "top_n"),
        ({"top_n": True}, "top_n"),
        ({"return_documents": "yes"}, "return_documents"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"metadata": "a"}, "metadata"),
        ({"stream": True}, "stream"),
    ],
    ids=str,
)
async def test_what_is_wrong_is_named(
    server: Front, http: aiohttp.ClientSession, wrong: dict[str, Any], param: str
) -> None:
    before = len(passed(server))
    told = await ask(server, http, **wrong)
    error = told.value["error"]
    assert (told.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert param in error["message"] or param == "stream"
    assert len(passed(server)) == before
    assert (await ended(server, http, told.request_id, "request_rejected"))["status"] == 400


@pytest.mark.parametrize("model", ["anthropic/claude-sonnet-4-5", "ollama/qwen3:4b", "demo/echo"])
async def test_a_provider_without_it_says_so(server: Front, http: aiohttp.ClientSession, model: str) -> None:
    told = await ask(server, http, model=model)
    error = told.value["error"]
    assert (told.status, error["code"]) == (501, "not_implemented")
    assert "vllm" in error["message"].rpartition("does: ")[2]


@pytest.mark.parametrize(
    "script",
    [
        Script.json([{"index": 0, "score": 0.5}]),  # as TEI has it by itself
        Script.json({"data": []}),
        said([7]),
        said([{"relevance_score": 0.5}]),
        said([{"index": 3, "relevance_score": 0.5}]),
        said([{"index": -1, "relevance_score": 0.5}]),
        said([{"index": True, "relevance_score": 0.5}]),
        said([{"index": 0}]),
        said([{"index": 0, "relevance_score": "0.5"}]),
        Script(b'{"results": [{"index": 0, "relevance_score": NaN}]}'),
        Script(b'{"results": [{"index": 0, "relevance_score": 1%s}]}' % (b"0" * 400)),
        Script(b"<html>", content_type="text/html"),
    ],
    ids=lambda script: script.body.decode()[:60],
)
async def test_what_is_no_ranking_is_an_error(server: Front, http: aiohttp.ClientSession, script: Script) -> None:
    play(server, script)
    told = await ask(server, http)
    assert (told.status, told.value["error"]["code"]) == (502, "bad_response")
    assert (await ended(server, http, told.request_id, "generation_failed"))["kind"] == "bad_response"


async def test_every_answer_renders_again(server: Front, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 0, capsys.readouterr().out


async def test_verify_notices_other_bytes(
    server: Front, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(server, next(iter(SERVERS.values())))
    assert (await ask(server, http)).status == 200

    def completed(self: RerankBody, fold: Fold) -> bytes:
        """The bug: what the provider sent, in its order."""
        return fold.body or b""

    monkeypatch.setattr(RerankBody, "completed", completed)
    assert replay(["verify", "--data-dir", str(server.process.data_dir)], {}) == 1
