"""A model of OpenAI's format that answers by what it is asked: in words, or by calling tools and then in words.

server.answer("openai", calls_then_says("get_weather", {"city": "Oslo"}, "It is sunny."))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.gateway.scripted import Request, Script

PIECE = 7
"""So many characters of an answer or of arguments come in one chunk: words and escapes are split."""
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}

Answer = Callable[[Request], Script]


def says(text: str) -> Answer:
    """Answers with this text, streamed if the request asks for it."""
    return lambda request: _answer(request.json(), {"content": text}, "stop")


def calls_then_says(name: str, arguments: Any, text: str) -> Answer:
    """Calls the tool where it is offered and no result of it has come yet; else answers with this text."""
    return works([(name, arguments)], text)


def works(calls: Sequence[tuple[str, Any]], text: str) -> Answer:
    """Calls these tools, one a turn, each when the result of the one before has come; then answers with this text.

    A request that does not offer the tool whose turn it is (for a title, say) gets the text."""

    def answer(request: Request) -> Script:
        body = request.json()
        for name, arguments in calls[len(results(body)) :][:1]:
            if name in offered(body):
                return _answer(body, {"content": None, "tool_calls": [_call(body, name, arguments)]}, "tool_calls")
        return _answer(body, {"content": text}, "stop")

    return answer


def works_in_text(calls: Sequence[tuple[str, Any]], text: str) -> Answer:
    """The same, by a model that has no tools: it is told of them in its prompt, and writes its calls into its text."""

    def answer(request: Request) -> Script:
        body = request.json()
        prompt = "".join(message["content"] for message in body["messages"] if message["role"] == "system")
        step = sum(message["role"] == "assistant" for message in body["messages"])
        for name, arguments in calls[step:][:1]:
            if f'"{name}"' in prompt:
                call = json.dumps({"name": name, "arguments": arguments})
                return _answer(body, {"content": f"I use a tool.\n<tool_call>\n{call}\n</tool_call>"}, "stop")
        return _answer(body, {"content": text}, "stop")

    return answer


def offered(body: Any) -> list[str]:
    """The names of the tools that a chat request offers."""
    return [tool["function"]["name"] for tool in body.get("tools", ())]


def results(body: Any) -> list[str]:
    """What a chat request says that tools gave, as text."""
    found = (message["content"] for message in body["messages"] if message["role"] == "tool")
    return [content if isinstance(content, str) else json.dumps(content) for content in found]


def _call(body: Any, name: str, arguments: Any) -> Any:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": f"call_gW{len(results(body))}", "type": "function", "function": function}


def _answer(body: Any, message: Any, reason: str) -> Script:
    if body.get("stream"):
        return Script(b"".join(_events(body, message, reason)), content_type="text/event-stream")
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return Script.json({**_head(body, "chat.completion"), "choices": [choice], "usage": USAGE})


def _events(body: Any, message: Any, reason: str) -> Iterator[bytes]:
    head = _head(body, "chat.completion.chunk")
    for delta in _deltas(message):
        yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _event({**head, "choices": [], "usage": USAGE})
    yield b"data: [DONE]\n\n"


def _deltas(message: Any) -> Iterator[Any]:
    """The role; then text in pieces; then each call's name, and its arguments in pieces."""
    yield {"role": "assistant", "content": ""}
    for piece in _pieces(message["content"] or ""):
        yield {"content": piece}
    for index, call in enumerate(message.get("tool_calls", ())):
        name = {"name": call["function"]["name"], "arguments": ""}
        yield {"tool_calls": [{**call, "index": index, "function": name}]}
        for piece in _pieces(call["function"]["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + PIECE] for at in range(0, len(text), PIECE))


def _head(body: Any, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-up", "object": kind, "created": 1763712000, "model": body["model"]}


def _event(value: Any) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()
