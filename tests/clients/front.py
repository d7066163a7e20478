"""The real server in front of scripted providers, one for each name that a model can begin with.

async with front(tmp_path) as server:
    server.play("ollama", stream="ollama/text.ndjson")
    ...                                 # call server.url with any client
    server.asked("ollama")[-1].json()   # what the provider was asked
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.gateway.scripted import Answer, Request, Script, ScriptedServer
from tests.serverprocess import ServerProcess, server_process


@dataclass(frozen=True)
class Place:
    """Where a provider is, on the scripted server: its setting, path and routes."""

    family: str
    setting: str
    base: str
    chat: str
    models: str
    key: str | None = None


def _openai(name: str, setting: str, key: str | None = None) -> Place:
    base = f"/{name}/v1"
    return Place("openai", setting, base, f"POST {base}/chat/completions", f"GET {base}/models", key)


PLACES: Mapping[str, Place] = {
    "openai": _openai("openai", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
    "anthropic": Place(
        "anthropic", "ANTHROPIC_BASE_URL", "/anthropic", "POST /anthropic/v1/messages", "GET /anthropic/v1/models",
        "ANTHROPIC_API_KEY",
    ),
    "openrouter": _openai("openrouter", "OPENROUTER_BASE_URL", "OPENROUTER_API_KEY"),
    "ollama": Place("ollama", "OLLAMA_BASE_URL", "/ollama", "POST /ollama/api/chat", "GET /ollama/api/tags"),
    "lmstudio": _openai("lmstudio", "LMSTUDIO_BASE_URL"),
    "vllm": _openai("vllm", "VLLM_BASE_URL"),
    "openai-compatible": _openai("openai-compatible", "OPENAI_COMPATIBLE_BASE_URL"),
}  # fmt: skip

MODELS: Mapping[str, str] = {
    "openai": "openai/gpt-5.2",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "openrouter": "openrouter/anthropic/claude-sonnet-4.5",
    "ollama": "ollama/qwen3:4b",
    "lmstudio": "lmstudio/qwen3-4b",
    "vllm": "vllm/Qwen/Qwen3-4B",
    "openai-compatible": "openai-compatible/some-model",
}
"""A model of each, as clients name it."""

STREAM = {"openai": "openai/text.sse", "anthropic": "anthropic/text.sse", "ollama": "ollama/text.ndjson"}
WHOLE = {"openai": "openai/body.json", "anthropic": "anthropic/body.json", "ollama": "ollama/body.json"}
"""Family -> a plain answer, streamed and whole."""


def saying(family: str, text: str) -> Script:
    """A whole answer of a family with this text, of 10 tokens for 4."""
    message = {"role": "assistant", "content": text}
    if family == "anthropic":
        usage = {"input_tokens": 10, "output_tokens": 4}
        said = {"id": "msg_1", "type": "message", "model": "m", "stop_reason": "end_turn", "usage": usage}
        return Script.json({**said, **message, "content": [{"type": "text", "text": text}]})
    if family == "ollama":
        counts = {"done_reason": "stop", "prompt_eval_count": 10, "eval_count": 4}
        return Script.json({"model": "m", "message": message, "done": True, **counts})
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    return Script.json({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})


class Front:
    """The server, and the upstream behind it."""

    def __init__(self, process: ServerProcess, upstream: ScriptedServer) -> None:
        self.process, self.upstream = process, upstream

    @property
    def url(self) -> str:
        """Where OpenAI's clients are pointed at."""
        return f"{self.process.url}/v1"

    def play(self, provider: str, stream: str | None = None, whole: str | None = None) -> None:
        """From now on the provider answers with these files, by default with plain ones of its family."""
        family = PLACES[provider].family
        streamed, body = stream or STREAM[family], whole or WHOLE[family]

        def answer(request: Request) -> Script:
            """Ollama streams unless told otherwise; the others stream if told so."""
            return Script.file(streamed if request.json().get("stream", family == "ollama") else body)

        self.answer(provider, answer)

    def answer(self, provider: str, *answers: Answer) -> None:
        """From now on the provider plays these, one after the other, and then the last one again."""
        self.upstream.script(PLACES[provider].chat, *answers)

    def say(self, provider: str, *texts: str) -> None:
        """From now on the provider answers whole, with these texts, and then the last one again."""
        self.answer(provider, *(saying(PLACES[provider].family, text) for text in texts))

    def asked(self, provider: str) -> list[Request]:
        """The chats that the provider was asked for."""
        return [r for r in self.upstream.requests if f"{r.method} {r.path}" == PLACES[provider].chat]


@asynccontextmanager
async def front(
    directory: Path, *, args: Sequence[str] = ("--nats", "off"), env: Mapping[str, str] | None = None
) -> AsyncIterator[Front]:
    """The server on `directory`/logs, its providers scripted, each with a key where it needs one."""
    async with ScriptedServer() as upstream:
        settings = {place.setting: upstream.base_url + place.base for place in PLACES.values()}
        settings |= {place.key: f"sk-{name}" for name, place in PLACES.items() if place.key}
        async with server_process(directory / "logs", env=settings | dict(env or {}), args=args) as process:
            made = Front(process, upstream)
            for provider in PLACES:
                made.play(provider)
            yield made
