"""Virtual models on a running server whose providers are scripted: where requests go, and what is recorded of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eventstore.envelope import RecordedEvent
from eventstore.reader import Reader
from gateway.exchange.estimate import BYTES_PER_TOKEN
from gateway.routing.circuit import THRESHOLD
from tests.clients.front import PLACES, Front, front, saying
from tests.gateway.scripted import Script

GPT, CLAUDE, QWEN = "openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5", "ollama/qwen3:4b"
MEMBERS = f'members = ["{GPT}", "{CLAUDE}", "{QWEN}"]'
FAILING = Script.json({"error": {"message": "no", "type": "server_error"}}, status=500)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}

BROKEN_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def table(name: str, strategy: str, *lines: str) -> str:
    return "\n".join([f"[models.{name}]", f'strategy = "{strategy}"', *(lines or (MEMBERS,)), ""])


@asynccontextmanager
async def routed(home: Path, *tables: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Client]:
    """A server with these virtual models, whose providers say their names."""
    (home / "models.toml").write_text("\n".join(tables))
    given = ("--nats", "off", "--config", str(home / "models.toml"))
    async with front(home, args=given, env=env) as server, aiohttp.ClientSession() as session:
        for provider in PLACES:
            server.say(provider, provider)
        yield Client(server, session, home / "models.toml")


class Client:
    """Asks the server, and looks at what it recorded."""

    def __init__(self, server: Front, session: aiohttp.ClientSession, file: Path) -> None:
        self.server, self.file, self._session = server, file, session

    async def ask(self, model: str = "auto", content: Any = "hi", **fields: Any) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 9, **fields}
        async with self._session.post(f"{self.server.url}/chat/completions", json=body) as answer:
            by = answer.headers.get("x-abstractcore-model")
            return Answer(answer.status, await answer.json(), answer.headers["x-request-id"], by)

    async def providers(self, count: int, model: str = "auto") -> Counter[str]:
        """Who answered so many requests."""
        return Counter([(await self.ask(model)).text for _ in range(count)])

    async def event(self, answer: Answer, kind: str) -> dict[str, Any]:
        """The first of this type among those of a request."""
        found = (await self.get(f"/v1/requests/{answer.request_id}/events"))["data"]
        event: dict[str, Any] = next(event for event in found if event["type"] == kind)
        return event

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._session.post(f"{self.server.process.url}{path}", json=body) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def get(self, path: str) -> dict[str, Any]:
        async with self._session.get(f"{self.server.process.url}{path}") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def becomes(self, path: str, **wanted: Any) -> dict[str, Any]:
        """What is there once it says so."""
        async with asyncio.timeout(60):
            while not wanted.items() <= (found := await self.get(path)).items():
                await asyncio.sleep(0.1)
            return found


class Answer:
    """`by` is the model that it says it came from."""

    def __init__(self, status: int, body: dict[str, Any], request_id: str, by: str | None) -> None:
        self.status, self.body, self.request_id, self.by = status, body, request_id, by

    @property
    def text(self) -> str:
        """What the model said, or the error's code."""
        if self.status != 200:
            return str(self.body["error"]["code"])
        return str(self.body["choices"][0]["message"]["content"])


async def test_an_answer_says_which_member_it_came_from(tmp_path: Path) -> None:
    async with routed(tmp_path, table("auto", "fallback")) as client:
        assert (await client.ask()).by == GPT
        assert (await client.ask(GPT)).by is None
        client.server.answer("openai", FAILING)
        assert (await client.ask()).by == CLAUDE


async def test_weighted_requests_are_shared_by_weight(tmp_path: Path) -> None:
    members = f'members = [{{model = "{GPT}", weight = 3}}, "{CLAUDE}"]'
    async with routed(tmp_path, table("auto", "weighted", members)) as client:
        found = await client.providers(200)
        assert 150 - 35 <= found["openai"] <= 150 + 35  # over five standard deviations
        assert found["openai"] + found["anthropic"] == 200
        answer = await client.ask()
        route = await client.event(answer, "route_selected")
        assert (route["reason"], route["inputs"]["virtual"], route["inputs"]["strategy"]) == (
            "virtual",
            "auto",
            "weighted",
        )
        assert (await client.event(answer, "request_received"))["model"] == answer.body["model"] == "auto"
        assert 0 <= route["inputs"]["draw"] < 1
        assert route["inputs"]["candidates"][0]["model"] == f"{route['provider']}/{route['model']}"


THREE = {CLAUDE: 0.0, GPT: 0.08, "openrouter/deepseek/deepseek-chat": 0.03}
"""Three upstreams of different price, and how long (s) each takes: the dearest is the fastest, the slowest cheap. The
fastest says more tokens too, so that a busy machine changes nothing."""


async def test_the_cheapest_and_the_fastest_of_three(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    members = f"members = {list(THREE)}"
    async with routed(tmp_path, table("cheap", "cheapest", members), table("fast", "fastest", members)) as client:
        for model, delay_s in THREE.items():
            provider = model.partition("/")[0]
            script = saying_late(provider, delay_s)
            body = script.body.replace(b'"output_tokens": 4', b'"output_tokens": 400')  # the fastest's word for it
            client.server.answer(provider, replace(script, body=body))
        fast, cheap = await client.providers(60, "fast"), await client.providers(20, "cheap")
        record_property("shares", {"cheapest": dict(cheap), "fastest": dict(fast)})
        route = await client.event(await client.ask("cheap"), "route_selected")
        prices = [each["score"] for each in route["inputs"]["candidates"]]
        assert prices == sorted(set(prices))
        assert cheap == {route["provider"]: 20}
        assert set(fast) == {"anthropic", "openai", "openrouter"}  # each is tried once at least
        assert fast["anthropic"] >= 45


def saying_late(provider: str, delay_s: float) -> Script:
    return replace(saying(PLACES[provider].family, provider), delay_s=delay_s)


async def test_the_next_member_answers_where_the_first_fails(tmp_path: Path) -> None:
    async with routed(tmp_path, table("auto", "fallback")) as client:
        client.server.answer("openai", FAILING)
        answer = await client.ask()
        assert answer.text == "anthropic"
        assert (await client.event(answer, "fallback_selected"))["inputs"]["fallback"] == [CLAUDE, QWEN]


async def test_a_member_that_is_known_to_be_unable_is_skipped_with_the_reason(tmp_path: Path) -> None:
    members = f'members = ["nobody/x", "{QWEN}", "{GPT}"]'
    async with routed(tmp_path, table("auto", "fallback", members)) as client:
        tags = {"models": [{"name": "qwen3:4b", "capabilities": ["completion"]}]}
        client.server.upstream.script(PLACES["ollama"].models, Script.json(tags))
        assert (await client.ask()).text == "ollama"
        await client.server.process.restart()
        answer = await client.ask(content=[{"type": "text", "text": "what is this?"}, IMAGE])
        route = await client.event(answer, "route_selected")
        assert answer.text == "openai"
        skipped = {each["model"]: each.get("skipped") for each in route["inputs"]["candidates"]}
        assert skipped == {GPT: None, "nobody/x": "no_provider", QWEN: "no_vision"}


async def test_a_prompt_is_as_long_as_its_whole_conversation_however_it_is_escaped(tmp_path: Path) -> None:
    small, room = "vllm/small", 1000
    async with routed(tmp_path, table("auto", "fallback", f'members = ["{small}", "{GPT}"]')) as client:
        listed = Script.json({"data": [{"id": "small", "max_model_len": room}]})
        client.server.upstream.script(PLACES["vllm"].models, listed)
        await client.server.process.restart()
        await client.becomes("/v1/models/vllm/small", context_length=room)
        long = "word " * room
        session = await client.post("/v1/sessions", {"model": "auto", "system_prompt": long})
        hi = {"messages": [{"role": "user", "content": "hi"}]}
        turn = await client.post(f"/v1/sessions/{session['id']}/chat", hi)
        assert turn["choices"][0]["message"]["content"] == "openai"
        first = await client.post("/v1/responses", {"model": GPT, "input": long})
        asked = {"model": "auto", "input": "hi", "previous_response_id": first["id"]}
        assert (await client.post("/v1/responses", asked))["output"][-1]["content"][0]["text"] == "openai"
        russian = "слово " * 300
        assert len(json.dumps(russian)) / BYTES_PER_TOKEN > room > len(russian.encode()) / BYTES_PER_TOKEN
        assert (await client.ask(content=russian)).text == "vllm"  # each letter was sent in six bytes


async def test_what_no_member_can_take_is_refused_and_said_and_a_wrong_request_is_not_sent_around(
    tmp_path: Path,
) -> None:
    none = table("none", "fallback", 'members = ["nobody/x", "none/y"]')
    async with routed(tmp_path, table("auto", "fallback"), none, env={"OPENAI_API_KEY": ""}) as client:
        answer = await client.ask()
        route = await client.event(answer, "route_selected")
        assert answer.text == "anthropic"
        assert route["inputs"]["candidates"][-1] == {"model": GPT, "skipped": "invalid_api_key"}
        answer = await client.ask("none")
        assert (answer.status, answer.text) == (400, "no_capable_model")
        assert "nobody/x (no_provider)" in answer.body["error"]["message"]
        before = len(client.server.upstream.requests)
        assert (await client.ask(content=[BROKEN_IMAGE])).status == 400
        for name, given in (("api_key", "sk-callers"), ("base_url", "http://127.0.0.1:9/v1")):
            answer = await client.ask(**{name: given})
            assert (answer.status, answer.body["error"]["param"]) == (400, name)
        assert len(client.server.upstream.requests) == before
        await client.ask(GPT, api_key="sk-callers")  # as it would look, were it sent on
        assert "sk-callers" in client.server.upstream.requests[-1].headers["authorization"]


async def test_a_member_whose_circuit_is_open_goes_last(tmp_path: Path) -> None:
    async with routed(tmp_path, table("auto", "fallback")) as client:
        client.server.answer("openai", FAILING)
        for _ in range(THRESHOLD):
            await client.ask(GPT)
        answer = await client.ask()
        route = await client.event(answer, "route_selected")
        assert [each["model"] for each in route["inputs"]["candidates"]] == [CLAUDE, QWEN, GPT]
        assert route["inputs"]["candidates"][-1]["last"] == "circuit_open"


async def test_the_least_busy_provider_is_asked(tmp_path: Path) -> None:
    members = f'members = ["{GPT}", "{CLAUDE}"]'
    async with routed(tmp_path, table("auto", "least_busy", members)) as client:
        providers = ("openai", "anthropic")

        def all_asked() -> bool:
            return sum(len(client.server.asked(provider)) for provider in providers) == 8

        for provider in providers:
            client.server.answer(provider, replace(saying(PLACES[provider].family, provider), once=all_asked))
        answers = await asyncio.gather(*(client.ask() for _ in range(8)))
        assert Counter(answer.text for answer in answers) == {"openai": 4, "anthropic": 4}


async def test_what_the_name_says_of_retries_costs_and_the_deadline_holds_unless_the_request_says_less(
    tmp_path: Path,
) -> None:
    one = f'members = ["{GPT}"]'
    tables = (
        table("tries", "fallback", one, "retries = 2"),
        table("cheap", "fallback", one, "max_cost_usd = 0.000000001"),
        table("quick", "fallback", one, "deadline_s = 0.2"),
    )
    async with routed(tmp_path, *tables) as client:
        client.server.answer("openai", replace(FAILING, headers={"retry-after": "0"}))
        assert (await client.ask("tries", retries=0)).status == 500
        assert len(client.server.asked("openai")) == 1
        await client.ask("tries")
        assert len(client.server.asked("openai")) == 1 + 3
        assert (await client.ask("cheap", max_cost_usd=1)).text == "cost_cap"
        client.server.answer("openai", saying_late("openai", 20.0))
        assert (await client.ask("quick")).status == 504


async def test_members_whose_cost_cannot_be_held_are_skipped(tmp_path: Path) -> None:
    unpriced, dear = "openai-compatible/m", "openai/o1-pro"
    members = f'members = ["{unpriced}", "{dear}", "{GPT}"]'
    none = table("none", "fallback", f'members = ["{unpriced}"]', "max_cost_usd = 0.001")
    async with routed(tmp_path, table("auto", "fallback", members, "max_cost_usd = 0.001"), none) as client:
        client.server.play("openai")
        answer = await client.ask()
        assert (answer.status, answer.by) == (200, GPT)
        candidates = (await client.event(answer, "route_selected"))["inputs"]["candidates"]
        skipped = {each["model"]: each.get("skipped") for each in candidates}
        assert skipped == {GPT: None, unpriced: "no_price", dear: "cost_cap"}
        assert (await client.ask("none")).text == "no_price"


async def test_a_changed_file_holds_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    async with routed(tmp_path, table("auto", "fallback", f'members = ["{GPT}"]')) as client:
        (listed,) = [m for m in (await client.get("/v1/models"))["data"] if "members" in m]
        assert listed == await client.get("/v1/models/auto")
        assert (listed["id"], listed["owned_by"], listed["members"]) == ("auto", "abstractcore", [GPT])
        client.file.write_text('[models.auto]\nstrategy = "best"')
        health = await client.becomes("/health", status="degraded")
        assert any("models.auto.strategy" in reason for reason in health["reasons"])
        assert (await client.ask()).text == "openai"
        client.file.write_text(table("other", "fallback", f'members = ["{CLAUDE}"]'))
        assert await client.becomes("/v1/models/other", id="other")
        assert (await client.get("/health"))["status"] == "healthy"
        assert (await client.ask("other")).text == "anthropic"
        assert (await client.ask("auto")).status == 404
        with Reader(client.server.process.data_dir) as reader:
            rows = [row for row in reader.rows(frames=False) if isinstance(row, RecordedEvent)]
        assert [row.body["models"] for row in rows if row.type == "configuration_loaded"] == [["auto"], ["other"]]


async def test_a_file_that_is_broken_at_start_is_said_and_ends_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 78: .*--config: .*models\.auto\.strategy must be one of"):
        async with routed(tmp_path, '[models.auto]\nstrategy = "best"'):
            pass


async def test_a_restart_still_knows_who_is_fast(tmp_path: Path) -> None:
    async with routed(tmp_path, table("auto", "fastest", f'members = ["{CLAUDE}", "{GPT}"]')) as client:

        async def known() -> set[str]:
            views = (await client.event(await client.ask(), "route_selected"))["inputs"]["views"]
            return {model for model, view in views.items() if "tokens_per_s" in view}

        assert await known() == set()
        assert await known() == {CLAUDE}
        await client.server.process.restart()
        assert await known() == {CLAUDE, GPT}


async def test_the_name_holds_in_every_protocol_and_in_sessions(tmp_path: Path) -> None:
    async with routed(tmp_path, table("auto", "fallback", f'members = ["{QWEN}"]')) as client:
        said = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        assert (await client.post("/v1/messages", said))["content"][0]["text"] == "ollama"
        assert (await client.post("/v1/messages/count_tokens", said))["input_tokens"] > 0
        counted = await client.post("/v1/responses/input_tokens", {"model": "auto", "input": "hi"})
        assert counted["input_tokens"] > 0
        answer = await client.post("/v1/responses", {"model": "auto", "input": "hi"})
        assert (answer["model"], answer["output"][-1]["content"][0]["text"]) == ("auto", "ollama")
        session = await client.post("/v1/sessions", {"model": "auto"})
        turn = await client.post(f"/v1/sessions/{session['id']}/chat", {"messages": said["messages"]})
        assert turn["choices"][0]["message"]["content"] == "ollama"


async def test_one_that_is_called_like_its_member_falls_back_to_the_others(tmp_path: Path) -> None:
    name = f'[models."{GPT}"]\nmembers = ["{CLAUDE}", "{GPT}"]'
    async with routed(tmp_path, name) as client:
        client.server.answer("anthropic", FAILING)
        assert (await client.ask(GPT)).text == "openai"


async def test_the_fastest_is_not_one_that_fails(tmp_path: Path) -> None:
    refused = Script.json({"error": {"message": "no such key"}}, status=401)
    async with routed(tmp_path, table("auto", "fastest", f'members = ["{GPT}", "{CLAUDE}"]')) as client:
        client.server.answer("openai", refused)
        assert await client.providers(30) == {"anthropic": 30}  # by falling back, first
        assert len(client.server.asked("openai")) <= 10
