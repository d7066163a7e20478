"""Clients that leave at each of 200 chunks of an answer: each request ends, its upstream call too, and what is booked
is what the upstream had sent until then, at its price."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.crash.check import wrongs
from tests.crash.load import openai_stream
from tests.gateway.raw import RawClient, Received, request
from tests.gateway.scripted import Request, Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, PATIENCE_S, chat
from tests.load.crowd import QUICK, in_turns
from tests.load.log import ends, ledger
from tests.serverprocess import COMMAND, ServerProcess, server_process

WORDS = 197
FRAMES = [frame + b"\n\n" for frame in openai_stream(WORDS).split(b"\n\n")[:-1]]
ROLE, FINISH = 1, WORDS + 2
"""How many frames there are up to the role, and up to the finish reason, which the client sees at the end only."""
PLACES = range(1, len(FRAMES) + 1)
MODEL = "openai/gpt-4o-mini"
INPUT_USD, OUTPUT_USD = Decimal("0.15e-6"), Decimal("0.6e-6")
"""Its price for a token: https://openai.com/api/pricing."""
USAGE = (7, WORDS)
"""What the last frame but one says: tokens of the prompt and of the answer."""
CHARACTERS_PER_TOKEN = 4
"""Where the upstream did not come to say: OpenAI's own rule of thumb, for the body and for the text."""
FORGETFUL = (sys.executable, "-m", "tests.load.forgetful_server")

PROTOCOLS: Mapping[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "chat": ("/v1/chat/completions", lambda text: chat(MODEL, messages=[{"role": "user", "content": text}])),
    "messages": ("/v1/messages", lambda text: chat(MODEL, messages=[{"role": "user", "content": text}], max_tokens=9)),
    "responses": ("/v1/responses", lambda text: {"model": MODEL, "input": text}),
    "completions": ("/v1/completions", lambda text: {"model": MODEL, "prompt": text}),
    "gemini": (
        f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse",
        lambda text: {"contents": [{"role": "user", "parts": [{"text": text}]}]},
    ),
}
"""Path and body, without what says that it streams."""


class Left(NamedTuple):
    """A client that left when it had so many frames' worth: what it had got, and the length of what it had asked."""

    protocol: str
    frames: int
    got: Received
    asked: int


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script(COMPATIBLE, frames_for)
        server.script("POST /v1/completions", frames_for)
        yield server


def frames_for(asked: Request) -> Script:
    """As many frames as the prompt says, and then nothing."""
    count = frames_of(asked)
    sent = b"".join(FRAMES[:count])
    if asked.path == "/v1/completions":  # the same, in the words of the old ones
        sent = re.sub(rb'"delta": \{(?:"role": "assistant", )?(?:"content": ("[^"]*"))?\}', old, sent)
    return Script(sent, content_type="text/event-stream", hold=count < len(FRAMES))


def old(delta: re.Match[bytes]) -> bytes:
    return b'"text": ' + (delta[1] or b'""')


def frames_of(asked: Request) -> int:
    found = re.search(rb"leave-(\d+)", asked.body)
    assert found is not None
    return int(found[1])


async def left_after(server: ServerProcess, protocol: str, frames: int) -> Left:
    """Leave when so many frames were seen; at the end of the answer where they are all there are."""
    path, body = PROTOCOLS[protocol]
    asked = body(f"leave-{frames}-{protocol}") | ({} if protocol == "gemini" else {"stream": True})
    client = await RawClient.connect(server.url)
    await client.send(request(asked, path))
    seen = b'"role":"assistant"' if frames == ROLE else b'word%d"' % (min(frames, FINISH - 1) - 2)
    async with asyncio.timeout(PATIENCE_S):
        if frames < len(FRAMES):
            await client.until(seen)
        else:
            await client.answer()
    got = client.received
    client.leave()
    return Left(protocol, frames, got, len(json.dumps(asked)))


async def left(
    data_dir: Path, upstream: ScriptedServer, asks: Iterable[tuple[str, int]], command: Sequence[str] = COMMAND
) -> list[str]:
    """What is wrong in the books when clients have left, each of its protocol after so many frames."""
    asks = list(asks)
    env = {"OPENAI_BASE_URL": f"{upstream.base_url}/v1", "OPENAI_API_KEY": "sk-for-the-test"}
    async with server_process(data_dir, env=env, args=QUICK, command=command) as server:
        clients = await in_turns((lambda ask=ask: left_after(server, *ask) for ask in asks), at_once=50)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(asked.left.wait() for asked in upstream.requests if asked.script.hold))
            while ends(data_dir)["open"]:
                await asyncio.sleep(0.05)
            report = await usage(server)
        assert await server.terminate() == 0 or command is not COMMAND
    assert len(upstream.requests) == len(asks)
    whole = sum(client.frames == len(FRAMES) for client in clients)
    assert ends(data_dir) == Counter(request_cancelled=len(asks) - whole, request_completed=whole)
    booked = {
        event["request_id"]: event
        for event in ledger(data_dir)
        if event["type"].startswith("generation_") and "frames" in event
    }
    totals = {name: sum(event[name] for event in booked.values()) for name in ("tokens_input", "tokens_output")}
    return [
        *(wrong for client in clients if (wrong := misbooked(client, booked[client.got.request_id], upstream))),
        *(f"{name}: {report[name]} in the report" for name, total in totals.items() if report[name] != total),
        *wrongs(data_dir, [client.got for client in clients]),
    ]


def misbooked(client: Left, event: Mapping[str, Any], upstream: ScriptedServer) -> str | None:
    """How the books differ from what the upstream had sent, and what that costs."""
    name = f'leave-{client.frames}-{client.protocol}"'.encode()
    [told] = [len(asked.body) for asked in upstream.requests if name in asked.body]
    text = "".join(f" word{n}" for n in range(min(client.frames - ROLE, WORDS)))
    guess = ("estimated", tokens(max(told, client.asked)), tokens(len(text)))
    allowed = {guess if text else ("none", 0, 0)}
    if client.frames > FINISH:
        allowed.add(("provider", *USAGE))
    if client.frames == len(FRAMES):  # the client that leaves one frame earlier cannot see whether the count was there
        allowed.discard(guess)
    source, read, said = found = (event["usage_source"], event["tokens_input"], event["tokens_output"])
    cost = None if source == "none" else read * INPUT_USD + said * OUTPUT_USD
    booked = None if event["cost_usd"] is None else Decimal(str(event["cost_usd"]))
    if found in allowed and (booked == cost or not (booked or cost)):
        return None
    return f"{client.protocol}, after {client.frames} frames: {found} for {booked} USD, not one of {allowed}"


def tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


async def test_leaving_at_any_chunk_ends_and_books_the_request(tmp_path: Path, upstream: ScriptedServer) -> None:
    assert len(PLACES) == 201
    assert await left(tmp_path / "logs", upstream, (("chat", frames) for frames in PLACES)) == []


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.soak)])
async def test_in_every_protocol(tmp_path: Path, upstream: ScriptedServer, step: int) -> None:
    """From the first word on: not all tell their clients of the role."""
    asks = ((protocol, frames) for protocol in PROTOCOLS for frames in PLACES[1::step])
    assert await left(tmp_path / "logs", upstream, asks) == []


async def test_a_server_that_forgets_what_came_is_caught(tmp_path: Path, upstream: ScriptedServer) -> None:
    asks = [("chat", frames) for frames in PLACES[1::40]]
    found = await left(tmp_path / "logs", upstream, asks, FORGETFUL)
    assert len(found) == len(asks)


async def usage(server: ServerProcess) -> dict[str, int]:
    """The usage report's total."""
    client = await RawClient.connect(server.url)
    await client.send(b"GET /v1/usage HTTP/1.1\r\nhost: %b\r\n\r\n" % urlsplit(server.url).netloc.encode())
    total: dict[str, int] = json.loads((await client.answer()).body)["total"]
    client.leave()
    return total
