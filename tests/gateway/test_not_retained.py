"""A request whose content is not kept: nothing of it is written, and the log still agrees with itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from eventstore.reader import Reader
from eventstore.rows import FILE
from replay.verify import verified
from tests.gateway.exchange.given import Given, answered, failed, submitted
from tests.gateway.whole import Gateway, gateway

SECRET = "a canary that nobody writes down"
NONE = {"x-abstractcore-retention": "none"}


async def ask(served: Gateway, headers: Mapping[str, str], **fields: Any) -> str:
    """The bytes of an answer that says the secret again."""
    body = {"model": "demo/echo", "messages": [{"role": "user", "content": SECRET}], **fields}
    url = f"{served.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as client, client.post(url, json=body, headers=headers) as answer:
        assert answer.status == 200
        return await answer.text()


def having(logs: Path) -> list[Path]:
    """The files that have the secret."""
    return [path for path in logs.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


async def test_the_log_agrees_with_itself_and_has_nothing_of_it(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    async with gateway(logs, "http://127.0.0.1:9") as served:
        assert SECRET in await ask(served, NONE)
        assert "canary" in await ask(served, NONE, stream=True)
    with Reader(logs / FILE) as reader:
        report = verified(reader, decisions=True)
    assert (report["findings"], report["unretained"]) == (0, 2)
    assert not having(logs)


async def test_a_wish_in_another_spelling_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    """Not even what is wrong with a body, which may repeat a part of it."""
    logs, misspelt = tmp_path / "logs", {"x-abstractcore-retention": "NONE"}
    run = {"name": "weather", "arguments": {"city": SECRET}}
    asks = (
        ("/v1/chat/completions", {"model": "demo/echo", SECRET: 1}),
        ("/v1/generate/multi", {"models": SECRET}),
        ("/v1/chat/completions", {"model": "demo/echo", "messages": [{"role": "user", "content": SECRET}]}),
        ("/v1/tools/execute", run),
    )
    async with (
        gateway(logs, "http://127.0.0.1:9", "--tools", "tests.tools.functions") as served,
        aiohttp.ClientSession() as client,
    ):
        for path, body in asks:
            async with client.post(f"{served.url}{path}", json=body, headers=misspelt) as answer:
                assert (answer.status, (await answer.json())["error"]["param"]) == (400, "x-abstractcore-retention")
        async with client.post(f"{served.url}/v1/tools/execute", json=run, headers=NONE) as answer:
            assert answer.status == 200
    assert not having(logs)


async def test_the_search_finds_what_is_retained(tmp_path: Path) -> None:
    """The deliberate bug: the wish is not heard."""
    async with gateway(tmp_path / "logs", "http://127.0.0.1:9") as served:
        await ask(served, {})
    assert having(tmp_path / "logs")


def test_an_attempt_binds_the_frames_that_were_written_and_counts_all_the_same() -> None:
    for kept, frames in ((True, 2), (False, 0)):
        given = Given(submitted(retained=kept, recorded={})).when(answered())
        assert (given.one("generation_completed").frames, given.one("generation_completed").tokens_output) == (
            frames,
            3,
        )
        assert Given(submitted(retained=kept, recorded={})).when(failed()).one("generation_failed").frames == frames
