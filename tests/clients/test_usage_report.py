"""The usage report against an upstream that keeps its own books: every group, every amount, right after every answer.

What the scripted providers served is summed here by hand, and priced with genai-prices' own calculator in decimals.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from genai_prices import Usage, calc_price

from tests.clients.front import MODELS, PLACES, Front
from tests.gateway.scripted import Request, Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

PICO = Decimal("1e-12")
SESSIONS = (None, "s-1", "s-2")


@dataclass(frozen=True)
class Served:
    """What one attempt took, as its provider counts: the whole prompt, the part of it from the cache, the answer.
    `cost` is in dollars, None where there is no price."""

    provider: str
    model: str
    session: str | None
    input: int = 0
    cached: int = 0
    output: int = 0
    cost: Decimal | None = Decimal(0)


def cost_of(provider: str, model: str, usage: tuple[int, int, int]) -> Decimal | None:
    """By another's arithmetic."""
    if provider not in {"openai", "anthropic"}:
        return None if provider == "openai-compatible" else Decimal(0)
    whole, cached, output = usage
    asked = Usage(input_tokens=whole, cache_read_tokens=cached, output_tokens=output)
    return calc_price(asked, model, provider_id=provider).total_price.quantize(PICO)


def openai_usage(usage: tuple[int, int, int], **more: Any) -> dict[str, Any]:
    whole, cached, output = usage
    details = {"cached_tokens": cached}
    return {"prompt_tokens": whole, "completion_tokens": output, "total_tokens": whole + output,
            "prompt_tokens_details": details, **more}  # fmt: skip


def openai_answer(streamed: bool, usage: dict[str, Any], cut: bool = False) -> Script:
    """An answer in OpenAI's format; cut: with its usage on every chunk, as vLLM can, and no end."""
    if not streamed:
        message = {"role": "assistant", "content": "yes"}
        return Script.json({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": "yes"}}]}]
    if cut:
        chunks[0]["usage"] = usage
    else:
        chunks += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": usage}]
    lines = [json.dumps(chunk) for chunk in chunks] + ([] if cut else ["[DONE]"])
    body = "".join(f"data: {line}\n\n" for line in lines).encode()
    return Script(body, content_type="text/event-stream", framing="close")


def anthropic_answer(streamed: bool, usage: tuple[int, int, int]) -> Script:
    whole, cached, output = usage
    counts = {"input_tokens": whole - cached, "cache_read_input_tokens": cached, "output_tokens": output}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": [], "usage": counts}
    text = {"type": "text", "text": "yes"}
    if not streamed:
        return Script.json(message | {"content": [text], "stop_reason": "end_turn"})
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message | {"usage": counts | {"output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": text},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": output}},
        {"type": "message_stop"},
    ]
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
    return Script(body, content_type="text/event-stream")


def ollama_answer(usage: tuple[int, int, int]) -> Script:
    whole, _, output = usage
    line = {"model": "m", "message": {"role": "assistant", "content": "yes"}, "done": True, "done_reason": "stop",
            "prompt_eval_count": whole, "eval_count": output}  # fmt: skip
    return Script(json.dumps(line).encode() + b"\n", content_type="application/x-ndjson")


class Books:
    """Providers that answer in turn well and badly, and write down what they served."""

    def __init__(self, server: Front) -> None:
        self.served: list[Served] = []
        self.session: str | None = None
        self._turn = count(1)
        for provider in PLACES:
            server.answer(provider, self._answers(provider))

    def add(self, provider: str, model: str, usage: tuple[int, int, int], cost: Decimal | None) -> None:
        self.served.append(Served(provider, model, self.session, *usage, cost))

    def _answers(self, provider: str) -> Callable[[Request], Script]:
        def answer(request: Request) -> Script:
            asked, turn = request.json(), next(self._turn)
            usage = (1000 + 37 * turn, 0 if provider == "ollama" else 100 + turn, 3 * turn)
            if turn % 5 == 3:
                self.add(provider, asked["model"], (0, 0, 0), Decimal(0))
                return Script.json({"error": {"message": "busy"}}, status=429 if turn % 2 else 500)
            if turn % 7 == 4:
                self.add(provider, asked["model"], (0, 0, 0), Decimal(0))
                return Script(b"", cut=-1)
            return self._well(provider, asked, usage)

        return answer

    def _well(self, provider: str, asked: Mapping[str, Any], usage: tuple[int, int, int]) -> Script:
        cost, streamed = cost_of(provider, asked["model"], usage), bool(asked.get("stream"))
        more: dict[str, Any] = {}
        if provider == "openrouter":
            more["cost"] = 0.0001 + usage[2] * 1e-7
            cost = Decimal(str(more["cost"])).quantize(PICO)
        self.add(provider, asked["model"], usage, cost)
        if provider == "ollama":
            return ollama_answer(usage)
        if provider == "anthropic":
            return anthropic_answer(streamed, usage)
        return openai_answer(streamed, openai_usage(usage, **more), cut=provider == "vllm" and usage[2] % 2 == 0)


def summed(served: list[Served]) -> dict[str, Any]:
    """The figures that a report gives of these."""
    used = [one for one in served if one.input or one.output]
    priced = [one.cost for one in used if one.cost is not None]
    return {
        "requests": len(served),
        "attempts": len(served),
        "tokens_input": sum(one.input for one in served),
        "tokens_input_cached": sum(one.cached for one in served),
        "tokens_output": sum(one.output for one in served),
        "cost_usd": None if used and not priced else sum(priced, Decimal(0)),
        "requests_unpriced": len(used) - len(priced),
    }


def grouped(served: list[Served], by: Callable[[Served], Any]) -> dict[Any, dict[str, Any]]:
    groups: dict[Any, list[Served]] = defaultdict(list)
    for one in served:
        groups[by(one)].append(one)
    return {key: summed(members) for key, members in groups.items()}


GROUPS: Mapping[str, tuple[tuple[str, ...], Callable[[Served], Any]]] = {
    "model": (("provider", "model"), lambda one: (one.provider, one.model)),
    "provider": (("provider",), lambda one: (one.provider,)),
    "session": (("session_id",), lambda one: (one.session,)),
    "key": (("key",), lambda one: ("anonymous",)),
}


class Client:
    """Asks, and reads reports with every digit."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def ask(self, model: str, stream: bool, session: str | None) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "well?"}], "stream": stream}
        headers = {"x-abstractcore-session-id": session} if session else {}
        async with self._session.post(f"{self._url}/chat/completions", json=body, headers=headers) as answer:
            await answer.read()

    async def report(self, group_by: str) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
        """(group -> its figures, the total)"""
        columns = GROUPS.get(group_by, (("day",), None))[0]
        async with self._session.get(f"{self._url}/usage", params={"group_by": group_by}) as answer:
            report = json.loads(await answer.text(), parse_float=Decimal)
        assert not report.get("stale")
        data = {tuple(row.pop(column) for column in columns): row for row in report["data"]}
        return data, report["total"]


@pytest_asyncio.fixture(loop_scope="module")
async def client(server: Front) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(session, server.url)


def plan() -> Iterator[tuple[str, bool, str | None]]:
    """(model, streamed, session) of each request: every provider both ways, several times."""
    turn = count()
    for _ in range(3):
        for model in MODELS.values():
            for stream in (False, True):
                yield model, stream, SESSIONS[next(turn) % len(SESSIONS)]


async def test_the_report_is_what_the_providers_served(server: Front, client: Client) -> None:
    books = Books(server)
    for model, stream, session in plan():
        books.session = session
        await client.ask(model, stream, session)
        _, total = await client.report("provider")
        assert total == summed(books.served), f"after {model}"
    for group_by, (_, by) in GROUPS.items():
        data, total = await client.report(group_by)
        assert data == grouped(books.served, by)
        assert total == summed(books.served)
    assert total != summed([replace(books.served[0], output=books.served[0].output + 1), *books.served[1:]])
    days, _ = await client.report("day")
    assert sum(day["tokens_output"] for day in days.values()) == summed(books.served)["tokens_output"]
    await check_the_files(server.process.data_dir, books.served)
    check_the_books_are_worth_comparing(books.served)


def check_the_books_are_worth_comparing(served: list[Served]) -> None:
    """There were failures, costs of each kind, and cached tokens among them."""
    assert {one.cost is None for one in served} == {True, False}
    assert sum(1 for one in served if not one.input) > len(served) // 5
    assert all(
        any(one.cost and one.provider == name for one in served) for name in ("openai", "anthropic", "openrouter")
    )


async def check_the_files(data_dir: Path, served: list[Served]) -> None:
    """The original server's line, `jq '.metadata.tokens | .input + .output'` and a sum, gives the same total."""
    async with asyncio.timeout(60):
        while len(lines := verbatim(data_dir)) < len(served):
            await asyncio.sleep(0.02)
    tokens = [line["metadata"]["tokens"] for line in lines]
    total = summed(served)
    assert sum(one["input"] + one["output"] for one in tokens) == total["tokens_input"] + total["tokens_output"]


def verbatim(data_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in data_dir.glob("verbatim_*.jsonl") for line in path.read_bytes().splitlines()]
