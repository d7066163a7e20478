"""What of a conversation goes into a call. Pure. The policy, as answers and turns state it:

The system prompt, the summary and the new messages always go. Of the earlier turns the newest go, whole, as long as
they fit into the window together with room for the answer, and bring no more files than a request may; none goes that
answers a tool call left behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventstore.catalogue.values import dumps
from eventstore.value import value
from gateway.media.parts import LARGEST_SUM, MOST_FILES, find, inline_size

BYTES_PER_TOKEN = 3
"""English has about four, other texts fewer: what is estimated too high is never refused by a provider."""
TOKENS_PER_MESSAGE = 4
TOKENS_PER_PART = 1000
"""A part that is no text, such as an image."""
USUAL_WINDOW = 128_000
"""Where neither the session nor the provider names one."""
USUAL_ANSWER = 4096

Message = Mapping[str, Any]


def tokens_of(messages: Sequence[Message]) -> int:
    """About how many tokens these messages are, rather too many than too few."""
    return sum(map(_tokens, messages))


def _tokens(message: Message) -> int:
    size, tokens = 0, TOKENS_PER_MESSAGE
    content = message.get("content")
    for part in content if isinstance(content, list) else [content or ""]:
        if isinstance(part, str):
            size += len(part.encode())
        elif part.get("type") == "text":
            size += len(str(part.get("text")).encode())
        else:
            tokens += TOKENS_PER_PART
    if message.get("tool_calls"):
        size += len(dumps(message["tool_calls"]))
    return tokens - (-size // BYTES_PER_TOKEN)


@value
class Files:
    """How many files messages bring, and about how many bytes, of those that are in them."""

    count: int = 0
    size: int = 0


def files_of(messages: Sequence[Message]) -> Files:
    """Rather too many bytes than too few. Raises `InvalidRequest` for a part that cannot be understood."""
    found = find({"messages": messages})
    return Files(len(found), sum(inline_size(file) for file in found if file.source in ("inline", "audio")))


def room_for_answer(body: Mapping[str, Any], window: int) -> int:
    """Tokens that are left to the answer: as many as the request allows it, else a usual answer's."""
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    return int(asked) if asked else min(USUAL_ANSWER, window // 4)


@value
class Carried:
    """What a call has of a conversation: how many earlier turns, and how many not; the estimate of it all, and the
    window that it was fitted to."""

    turns: int
    dropped: int
    tokens: int
    window: int

    def header(self, turn: int) -> str:
        """For the answer's headers."""
        return f"turn={turn}; turns={self.turns}; dropped={self.dropped}; tokens={self.tokens}; window={self.window}"


@value
class Words:
    """The messages of a turn, about how many tokens they are, and the files in them."""

    messages: list[dict[str, Any]]
    tokens: int
    files: Files


class Fitting:
    """Turns are offered, the newest first, until one does not fit. `fixed` is what goes in any case."""

    def __init__(self, fixed: Sequence[Message], window: int, answer: int) -> None:
        self._window, self._tokens = window, tokens_of(fixed)
        self._room = window - answer - self._tokens
        self._files = files_of(fixed)
        self._turns: list[Words] = []

    def take(self, turn: Words) -> bool:
        """Take a turn; False where it does not fit, and no older one may be offered."""
        files = Files(self._files.count + turn.files.count, self._files.size + turn.files.size)
        too_many = turn.files.count and (files.count > MOST_FILES or files.size > LARGEST_SUM)
        if turn.tokens > self._room or too_many:
            return False
        self._room -= turn.tokens
        self._files = files
        self._turns.append(turn)
        return True

    def carried(self, of: int) -> tuple[list[dict[str, Any]], Carried]:
        """The messages that go, oldest first, and what they come to, of so many turns."""
        turns = self._turns
        while len(turns) < of and turns and turns[-1].messages[0].get("role") == "tool":
            turns = turns[:-1]
        messages = [message for turn in reversed(turns) for message in turn.messages]
        tokens = self._tokens + sum(turn.tokens for turn in turns)
        return messages, Carried(len(turns), of - len(turns), tokens, self._window)
