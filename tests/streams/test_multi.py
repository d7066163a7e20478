"""Several models at once: all, the first, the best; each member an exchange, the answer a fold of the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from replay.cli import run as replay
from tests.crash.load import openai_body, openai_stream
from tests.gateway.raw import RawClient, request
from tests.gateway.scripted import Request, Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, Gateway, gateway
from tests.streams.sockets import sse, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/generate/multi"
SHORT, LONG, PRICED = "openai-compatible/short", "openai-compatible/long", "openai-compatible/priced"
TEXTS = {"short": "Yes.", "long": "Yes, and here is why.", "priced": "Certainly."}
COSTS = {"short": 0.002, "long": 0.003, "priced": 0.001}


def answers(asked: Request) -> Script:
    """Each model says its own; `slow` begins and waits, `broken` refuses, `judge` names an answer."""
    body = asked.json()
    model = body["model"]
    if model == "slow":
        stream = openai_stream(words=2).split(b"\n\n")
        return sse(b"\n\n".join(stream[:2]) + b"\n\n", hold=True) if body.get("stream") else Script(hold=True)
    if model == "broken":
        return Script.json({"error": {"message": "I am broken"}}, status=500)
    if model.startswith("judge"):
        return Script.json(openai_body(model.removeprefix("judge-")))
    if body.get("stream"):
        return sse(openai_stream(words=len(model)), split=100)
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "cost": COSTS[model]}
    return Script.json(openai_body(TEXTS[model], usage=usage))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script(COMPATIBLE, answers)
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(upstream: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("multi") / "logs", upstream.base_url) as running:
        yield running


async def post(served: Gateway, *models: str, **fields: Any) -> tuple[int, Any, Any]:
    body = {"models": list(models), "prompt": "Is it so?", **fields}
    async with aiohttp.ClientSession() as session, session.post(served.url + PATH, json=body) as answer:
        return answer.status, json.loads(await answer.read()), answer.headers


async def again(served: Gateway, group_id: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.get(f"{served.url}{PATH}/{group_id}") as answer:
        return answer.status, await answer.read()


async def group(served: Gateway, group_id: str) -> list[dict[str, Any]]:
    return [event.body for event in await served.server.log.read_stream(f"group-{group_id}")]


async def test_all_members_answer_each_with_its_own_request_and_cost(served: Gateway) -> None:
    status, said, headers = await post(served, SHORT, LONG, "openai-compatible/broken", temperature=0.5)
    short, long, broken = said["results"]
    assert status == 200
    assert (short["model"], short["content"], short["finish_reason"]) == (SHORT, "Yes.", "stop")
    assert (long["content"], long["usage"]["total_tokens"]) == (TEXTS["long"], 10)
    assert broken["error"]["message"]
    assert (said["winner"], said["reason"], said["mode"]) == (None, "all", "all")
    assert said["cost_usd"] == sum(result["cost_usd"] or 0 for result in said["results"])
    assert headers["x-request-id"] == said["id"]
    for result in said["results"]:
        received = (await served.ended(result["request_id"]))[0].body
        assert (received["parent"], received["endpoint"], received["model"]) == (said["id"], PATH, result["model"])
        assert received["body"]["temperature"] == 0.5
        assert "models" not in received["body"]


async def test_the_same_answer_comes_from_the_log(served: Gateway) -> None:
    _, said, _ = await post(served, SHORT, LONG, mode="best")
    status, shown = await again(served, said["id"])
    assert (status, json.loads(shown)) == (200, said)
    status, shown = await again(served, "01NOBODY")
    assert (status, json.loads(shown)["error"]["code"]) == (404, "group_not_found")


async def test_the_first_wins_and_the_losers_are_cancelled_and_settled(
    served: Gateway, upstream: ScriptedServer
) -> None:
    upstream.requests.clear()
    slow = "openai-compatible/slow"

    def broken_has_ended() -> bool:
        return len(upstream.requests) == 4 and len(served.server.exchanges.open) == 3

    def in_turn(asked: Request) -> Script:
        script = answers(asked)
        return replace(script, once=broken_has_ended) if asked.json()["model"] == "short" else script

    upstream.script(COMPATIBLE, in_turn)
    status, said, _ = await post(served, slow, "openai-compatible/broken", SHORT, slow, mode="first")
    upstream.script(COMPATIBLE, answers)
    lost, broken, won, other = said["results"]
    assert (status, said["winner"], said["reason"]) == (200, won["request_id"], "first")
    assert {lost["error"]["code"], other["error"]["code"]} == {"lost"}
    assert broken["error"]["code"] != "lost"
    for loser in (lost, other):
        end = await served.end_of(loser["request_id"])
        assert (end["type"], end["reason"]) == ("request_cancelled", "lost")
    held = [asked for asked in upstream.requests if asked.json()["model"] == "slow"]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(asked.left.wait() for asked in held))
    started, settled = await group(served, said["id"])
    assert (started["type"], settled["type"]) == ("group_started", "group_settled")
    assert settled["winner"] == won["request_id"]


BEST = [({}, LONG, "longest"), ({"policy": "cheapest"}, PRICED, "cheapest")]


@pytest.mark.parametrize(("fields", "best", "reason"), BEST)
async def test_the_best_is_found_by_the_policy(served: Gateway, fields: dict[str, Any], best: str, reason: str) -> None:
    _, said, _ = await post(served, SHORT, LONG, PRICED, "openai-compatible/broken", mode="best", **fields)
    winner = next(result for result in said["results"] if result["request_id"] == said["winner"])
    assert (winner["model"], said["reason"]) == (best, reason)
    assert set((await group(served, said["id"]))[1]["inputs"].popitem()[1]) == {
        result["request_id"] for result in said["results"][:3]
    }


JUDGES = [('{"best": 2}', LONG, "judge"), ('{"best": 1}', SHORT, "judge"), ("The second!", LONG, "judge_failed")]


@pytest.mark.parametrize(("verdict", "best", "reason"), JUDGES)
async def test_a_judge_is_asked_and_paid_for(
    served: Gateway, upstream: ScriptedServer, verdict: str, best: str, reason: str
) -> None:
    upstream.requests.clear()
    judge = f"openai-compatible/judge-{verdict}"
    _, said, _ = await post(served, SHORT, LONG, "openai-compatible/broken", mode="best", judge=judge)
    winner = next(result for result in said["results"] if result["request_id"] == said["winner"])
    assert (winner["model"], said["reason"]) == (best, reason)
    asked = next(r.json() for r in upstream.requests if r.json()["model"].startswith("judge"))
    shown = json.loads(asked["messages"][1]["content"])
    assert [answer["answer"] for answer in shown["answers"]] == [TEXTS["short"], TEXTS["long"]]
    assert shown["conversation"] == [{"role": "user", "content": "Is it so?"}]
    recorded = await served.ended(said["judge"]["request_id"])
    assert recorded[0].body["parent"] == said["id"]


async def test_no_whole_answer_is_an_error_with_all_that_is_known(served: Gateway) -> None:
    status, said, _ = await post(served, "openai-compatible/broken", "no-such/model", mode="first")
    assert (status, said["error"]["code"], said["winner"]) == (502, "no_whole_answer", None)
    assert said["results"][1]["error"]["code"] == "model_not_found"
    assert len(said["results"]) == 2


async def test_streams_come_side_by_side_and_then_the_result(served: Gateway) -> None:
    events = await streamed(served, SHORT, LONG, "openai-compatible/broken")
    assert events[0][0] == "group"
    names = [member["request_id"] for member in events[0][1]["members"]]
    for member, words in ((0, 5), (1, 4)):
        said = [data["chunk"] for kind, data in events if kind == "token" and data["member"] == member]
        assert "".join(map(text_of, said)) == "".join(f" word{n}" for n in range(words))
    ends = {data["member"]: kind for kind, data in events if kind in ("done", "error")}
    assert ends == {0: "done", 1: "done", 2: "error"}
    kind, result = events[-1]
    assert kind == "result"
    assert [each["request_id"] for each in result["results"]] == names
    assert result["results"][1]["content"] == " word0 word1 word2 word3"
    assert json.loads((await again(served, result["id"]))[1]).items() <= result.items()


async def test_a_streamed_race_ends_with_its_winner(served: Gateway) -> None:
    events = await streamed(served, "openai-compatible/slow", SHORT, mode="first")
    result = events[-1][1]
    assert result["winner"] == result["results"][1]["request_id"]
    assert [data["error"]["code"] for kind, data in events if kind == "error"] == ["cancelled"]


async def streamed(served: Gateway, *models: str, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    """The events of a streamed group, by name."""
    body = {"models": list(models), "prompt": "Is it so?", "stream": True, **fields}
    async with aiohttp.ClientSession() as session, session.post(served.url + PATH, json=body) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        raw = (await answer.read()).decode()
    found = []
    for event in raw.split("\n\n")[:-1]:
        name, data = event.split("\n")
        said = json.loads(data.removeprefix("data: "))
        assert said["type"] == name.removeprefix("event: ")
        found.append((said["type"], said))
    return found


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_cancels_every_member(
    served: Gateway, upstream: ScriptedServer, stream: bool
) -> None:
    upstream.requests.clear()
    slow = "openai-compatible/slow"
    client = await RawClient.connect(served.url)
    await client.send(request({"models": [slow, slow], "prompt": "Is it so?", "stream": stream}, PATH))
    async with asyncio.timeout(PATIENCE_S):
        while len(upstream.requests) < 2:
            await asyncio.sleep(0.01)
        client.leave()
        await asyncio.gather(*(asked.left.wait() for asked in upstream.requests))
        async for head in served.server.log.follow(0):
            last = (await served.server.log.read(head - 1, 1))[0]
            if getattr(last, "type", None) == "group_settled":
                break
    started, settled = await group(served, last.body["group_id"])  # type: ignore[union-attr]  # an event, as just seen
    assert (settled["reason"], settled["winner"]) == ("client_left", None)
    for member in started["members"]:
        assert (await served.end_of(member))["reason"] == "client_left"


async def test_a_group_is_stopped_by_its_id(served: Gateway, upstream: ScriptedServer) -> None:
    slow = "openai-compatible/slow"
    client = await RawClient.connect(served.url)
    await client.send(request({"models": [SHORT, slow, slow], "prompt": "Is it so?", "stream": True}, PATH))
    async with asyncio.timeout(PATIENCE_S):
        await client.until(b'"type":"done","member":0')
        await client.until(b'"type":"token","member":1')
        await client.until(b'"type":"token","member":2')
        group_id = client.received.request_id
        status, said = await stopped(served, group_id)
        answer = await client.answer()
    assert (status, said["state"], said["reason"]) == (200, "settled", "all")
    result = json.loads((await again(served, group_id))[1])
    assert [one.get("error", {}).get("code") for one in result["results"]] == [None, "stopped", "stopped"]
    assert b'"type":"result"' in answer.body
    status, said = await stopped(served, group_id)
    assert (status, said["error"]["code"]) == (409, "request_ended")


async def stopped(served: Gateway, request_id: str) -> tuple[int, Any]:
    url = f"{served.url}/v1/requests/{request_id}/stop"
    async with aiohttp.ClientSession() as session, session.post(url, json={}) as answer:
        return answer.status, await answer.json()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "models"),
    ({"models": []}, "models"),
    ({"models": ["m"] * 17}, "models"),
    ({"models": "m"}, "models"),
    ({"models": ["m"], "prompt": None}, "prompt"),
    ({"models": ["m"], "messages": [{"role": "user", "content": "x"}]}, "prompt"),
    ({"models": ["m"], "mode": "some"}, "mode"),
    ({"models": ["m"], "policy": "longest"}, "policy"),
    ({"models": ["m"], "mode": "best", "policy": "judge"}, "judge"),
    ({"models": ["m"], "mode": "best", "policy": "longest", "judge": "m"}, "judge"),
    ({"models": ["m"], "model": "m"}, "model"),
    ({"models": ["m"], "n": 2}, "n"),
    ({"models": ["m"], "temperature": "hot"}, "temperature"),
    ({"models": ["m"], "retries": 99}, "retries"),
    ({"models": ["m"], "hedge": {}, "stream": True}, "hedge"),
    ({"models": ["m"], "max_cost_usd": -1}, "max_cost_usd"),
    ({"models": ["m"], "session_id": "a\nb"}, "session_id"),
]


@pytest.mark.parametrize(("fields", "param"), WRONG)
async def test_what_is_wrong_is_refused_and_recorded(served: Gateway, fields: dict[str, Any], param: str) -> None:
    body = {"prompt": "Is it so?", **fields}
    async with aiohttp.ClientSession() as session, session.post(served.url + PATH, json=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"].startswith(param)
        assert (await served.end_of(answer.headers["x-request-id"]))["type"] == "request_rejected"


async def test_a_group_outlives_the_server(
    tmp_path: Path, upstream: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was settled says the same again; of one that the server left in the middle, what is known is said."""
    logs = tmp_path / "logs"
    async with gateway(logs, upstream.base_url, "--drain-timeout", "0") as first:
        _, said, _ = await post(first, SHORT, LONG, mode="best")
        client = await RawClient.connect(first.url)
        slow = {"models": [SHORT, "openai-compatible/slow"], "prompt": "Is it so?", "stream": True}
        await client.send(request(slow, PATH))
        async with asyncio.timeout(PATIENCE_S):
            await client.until(b'"type":"done","member":0')
            await client.until(b'"type":"token","member":1')
    assert verify(logs), capsys.readouterr().out
    async with gateway(logs, upstream.base_url) as second:
        assert json.loads((await again(second, said["id"]))[1]) == said
        cut = json.loads((await again(second, client.received.request_id))[1])
    client.leave()
    whole, broken = cut["results"]
    assert whole["content"] == " word0 word1 word2 word3 word4"
    assert broken["error"]["code"] == "shutdown"


def verify(logs: Path) -> bool:
    """Whether the log is whole, and each answer renders again to the bytes that were sent."""
    return replay(["verify", "--data-dir", str(logs)], {}) == 0


@pytest.mark.parametrize("lent", [{"api_key": "sk-theirs-0123456789"}, {"base_url": "http://127.0.0.1:9/v1"}])
async def test_a_callers_own_key_or_url_goes_to_one_provider(
    served: Gateway, upstream: ScriptedServer, lent: dict[str, str]
) -> None:
    """Whose it is nobody could know of several."""
    before = len(upstream.requests)
    for other in ("anthropic/claude-sonnet-5", "ollama/llama"):
        status, said, _ = await post(served, SHORT, other, **lent)
        assert (status, said["error"]["param"]) == (400, next(iter(lent)))
    assert len(upstream.requests) == before


async def test_models_of_one_provider_have_their_callers_key(served: Gateway, upstream: ScriptedServer) -> None:
    """However it is named; a model that nobody has is its member's affair."""
    status, said, _ = await post(served, SHORT, LONG, "nobody/has-it", api_key="sk-theirs-0123456789")
    assert (status, ["error" in member for member in said["results"]]) == (200, [False, False, True])
    shown = {request.headers["authorization"] for request in upstream.requests[-2:]}
    assert shown == {"Bearer sk-theirs-0123456789"}
