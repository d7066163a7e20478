"""What is asked of the attempt that goes on with an answer that broke off. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from eventstore.value import value
from gateway.exchange.inputs import Submission
from gateway.wire.continued import Continued
from gateway.wire.dialect import Renderer
from gateway.wire.values import Fold

GO_ON = (
    "Your answer was cut off. Go on exactly where it ended, in the middle of a word if need be: "
    "repeat nothing, add no introduction, and do not speak of the interruption."
)
"""The words behind what was said so far. An assistant's message at the very end would say it shorter, but many models
refuse that (Anthropic's newer ones with 400), and others begin a new answer behind it."""
_PLAIN = frozenset({"role", "content", "reasoning_content", "reasoning_details", "thinking_blocks"})
"""What a message may have that can be gone on with: text, and what was thought before it."""
_OTHERWISE = ("response_format", "modalities", "audio")
"""Fields of a chat that ask for other things than text."""


@value
class Said:
    """What the client has of an answer: from its last attempt (`now`), and from `all` of them."""

    now: str
    all: str


def said_so_far(fold: Fold, renderer: Renderer, body: Mapping[str, Any]) -> Said | None:
    """What an attempt at `body` gave until it broke off; None where nobody can go on with that: it is more than one
    text, or its end was there already."""
    if any(body.get(field) for field in _OTHERWISE) or body.get("n") not in (None, 1):
        return None
    choices = fold.choices()
    if len(choices) > 1 or fold.finish_reason is not None:
        return None
    message = choices[0]["message"] if choices else {}
    if not {name for name, content in message.items() if content} <= _PLAIN:
        return None
    text = message.get("content") or ""
    return Said(text, renderer.text if isinstance(renderer, Continued) else text)


def continued(body: dict[str, Any], text: str) -> dict[str, Any]:
    """A chat that goes on behind this text of the answer; with none it is asked again. Messages, which are translated
    into chat later, are gone on with alike."""
    if not text:
        return body
    turns = [{"role": "assistant", "content": text}, {"role": "user", "content": GO_ON}]
    return {**body, "messages": [*body["messages"], *turns]}


def resumed(submission: Submission, body: dict[str, Any], said: Said) -> Submission:
    """The request as another model goes on with it; `body` is what the one before was asked."""
    if submission.chat is not None:
        return replace(submission, chat=continued(submission.chat, said.all))
    if "messages" in submission.body:
        return replace(submission, body=continued(submission.body, said.all))
    return replace(submission, chat=continued(body, said.now))
