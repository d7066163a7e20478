"""Bytes on the disk per token, live and archived: `python -m tests.benchmarks.archive_size [answers]`.

The whole server in its own process records streamed answers of 64 tokens, each of other words and with an id of its
own, once as from an upstream that writes all at once and once a token at a time; and long ones, for which the events
that every request leaves weigh less, also padded as OpenAI's are. Then the log is archived. Everything that a request
leaves behind is counted, its events too, and what stays in events.db after the archiving beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import string
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, count
from pathlib import Path

import aiohttp
import orjson

from eventstore.sqlite import SQLiteLog
from tests.serverprocess import ROOT, server_process

TOKENS, LONG = 64, 512
"""Of a short and of a long answer."""
CONNECTIONS = 50
PACE_S = 0.005
WORDS = 5_000


@dataclass(frozen=True)
class Answers:
    """So many, of so many tokens each, with a pause after each token; each frame padded to one length or not."""

    number: int
    tokens: int = TOKENS
    pace_s: float = 0.0
    padded: bool = False

    def __str__(self) -> str:
        how = f"a token each {self.pace_s * 1000:.0f} ms" if self.pace_s else "all at once"
        return f"answers of {self.tokens} tokens, {how}{', padded' if self.padded else ''}"


def kinds(number: int) -> list[Answers]:
    """Those that are measured: so many short ones, and as many tokens in long ones."""
    long = max(1, number * TOKENS // LONG)
    return [Answers(number), Answers(number, pace_s=PACE_S), Answers(long, LONG), Answers(long, LONG, padded=True)]


class Text:
    """Words as frequent as words are: the n-th one an n-th part of the first."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        letters = string.ascii_lowercase
        self._words = [" " + "".join(self._random.choices(letters, k=self._random.randint(2, 9))) for _ in range(WORDS)]
        self._weights = list(accumulate(1 / rank for rank in range(1, WORDS + 1)))

    def some(self, number: int) -> list[str]:
        return self._random.choices(self._words, cum_weights=self._weights, k=number)

    def padding(self, frame: object) -> str:
        return "".join(self._random.choices(string.ascii_letters, k=-len(str(frame)) % 16))


def chunks(text: Text, number: int, tokens: int, padded: bool) -> Iterator[bytes]:
    """One answer, a chunk of HTTP each frame."""
    same = {"id": f"chatcmpl-{number:024x}", "object": "chat.completion.chunk", "created": 1_795_000_000, "model": "m"}
    usage = {"prompt_tokens": 12, "completion_tokens": tokens, "total_tokens": tokens + 12}
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in text.some(tokens)), {}]
    ends = [None] * (tokens + 1) + ["stop"]
    choices = [
        [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}]
        for delta, end in zip(deltas, ends, strict=True)
    ]
    frames = [{**same, "choices": choice} for choice in choices] + [{**same, "choices": [], "usage": usage}]
    if padded:
        frames = [{**frame, "obfuscation": text.padding(frame)} for frame in frames]
    for frame in [*map(orjson.dumps, frames), b"[DONE]"]:
        data = b"data: %b\n\n" % frame
        yield b"%x\r\n%b\r\n" % (len(data), data)
    yield b"0\r\n\r\n"


@asynccontextmanager
async def upstream(answers: Answers) -> AsyncIterator[int]:
    """Its port."""
    text, numbers = Text(1), count(1)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or b"0"))
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                for chunk in chunks(text, next(numbers), answers.tokens, answers.padded):
                    writer.write(chunk)
                    if answers.pace_s:
                        await asyncio.sleep(answers.pace_s)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def ask(session: aiohttp.ClientSession, url: str, text: Text) -> None:
    messages = [{"role": "user", "content": "".join(text.some(40))}]
    body = {"model": "openai-compatible/m", "stream": True, "messages": messages}
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        assert b"[DONE]" in await answer.read()


async def record(data_dir: Path, answers: Answers) -> None:
    """Fill a log."""
    async with upstream(answers) as port:
        env = {"OPENAI_COMPATIBLE_BASE_URL": f"http://127.0.0.1:{port}/v1"}
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with server_process(data_dir, env=env) as server, aiohttp.ClientSession(connector=connector) as session:
            asking, text = partial(ask, session, server.url), Text(2)
            await asyncio.gather(*(asking(text) for _ in range(answers.number)))
            await server.kill()
    log = await SQLiteLog.open(data_dir)
    await log.close()  # the write-ahead log goes into the database


def size(path: Path) -> int:
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )


@dataclass(frozen=True)
class Sizes:
    """Bytes per token: of events.db live, of the archive, and of what stays in events.db beside it."""

    live: float
    archived: float
    stays: float


def measured(answers: Answers, directory: Path | None = None) -> Sizes:
    """Record the answers, and archive them."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        data_dir = Path(folder) / "logs"
        asyncio.run(record(data_dir, answers))
        live = size(data_dir / "events.db")
        command = [sys.executable, "-m", "replay", "archive", "--before", str(1 << 60), "--data-dir", str(data_dir)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        archived, stays = size(data_dir / "archive"), size(data_dir / "events.db")
    tokens = answers.number * answers.tokens
    return Sizes(live / tokens, archived / tokens, stays / tokens)


def row(answers: Answers, found: Sizes) -> str:
    """A line of the table."""
    ratio = found.live / (found.archived + found.stays)
    return f"| {answers} | {found.live:.1f} | {found.archived:.1f} | {found.stays:.1f} | {ratio:.1f} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", type=int, nargs="?", default=1_000)
    given = parser.parse_args()
    print(f"bytes per token, of {given.answers * TOKENS:,} tokens\n")
    print("| written | live | archived | stays in events.db | ratio |\n| --- | --- | --- | --- | --- |")
    for kind in kinds(given.answers):
        print(row(kind, measured(kind)))
