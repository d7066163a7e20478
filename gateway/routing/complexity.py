"""How much a chat asks of the model that takes it: a score in [0, 1], and what each of its parts gave. Pure.

No model is asked for it: the score hangs on what can be counted in the request (`Facts`), and that is recorded with the
route, so that the score can be made again. It is a rule of thumb; its weights stand here.

The parts add up like chances of which at least one comes true, 1 - (1 - a)(1 - b)…: more of anything raises the score,
and it takes several things to come near 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from eventstore.value import value
from gateway.routing.chat import last_user_text, messages, most_tokens, parts, texts, wants_schema

WEIGHTS: Mapping[str, tuple[float, float]] = {
    "length": (0.5, 8000),
    "turns": (0.2, 8),
    "answer": (0.2, 4000),
    "reasoning": (0.6, 1),
    "effort": (0.8, 2),
    "steps": (0.3, 3),
    "code": (0.4, 1),
    "maths": (0.4, 1),
    "files": (0.3, 1),
    "tools": (0.4, 3),
    "schema": (0.2, 1),
}
"""Part -> what endlessly much of it would give, and the count that gives half of that."""
EFFORTS: Mapping[str, int] = {"medium": 1, "high": 3, "xhigh": 5, "max": 5}
"""`reasoning_effort` as a count: https://platform.openai.com/docs/guides/reasoning"""
MOST_READ = 20_000
"""Characters of the last user text that are searched for words: a long one must not hold others up."""

REASONING = re.compile(
    r"\b(?:prove|proof|derive|deduce|analy[sz]e|analysis|evaluate|critique|justify|explain why|reason(?:ing)?"
    r"|step[ -]by[ -]step|think (?:hard|carefully|through)|trade-?offs?|compare|contrast|design|architect(?:ure)?|plan"
    r"|strategy|optimi[sz]e|debug|refactor|root cause|in depth|thorough(?:ly)?|rigorous(?:ly)?|implications?)\b",
    re.IGNORECASE,
)
STEPS = re.compile(
    r"^[ \t]{0,8}(?:\d{1,2}[.)]|[-*•])[ \t]|\b(?:first|second|third|then|next|afterwards|finally)\b", re.I | re.M
)
CODE = re.compile(
    r"```|^[ \t]{0,40}(?:def|class|import|from|func|fn|const|let|#include) \S|\b\w{1,40}\(\w{0,40}\)|[;{}][ \t]{0,8}$"
    r"|\b(?:python|javascript|typescript|rust|golang|java|sql|regex|bash|traceback|stack trace|compiler?|unit tests?"
    r"|function|code)\b",
    re.IGNORECASE | re.MULTILINE,
)
MATHS = re.compile(
    r"\$\$|\\\(|\\(?:frac|sum|int|sqrt|lim|begin)\b|[∑∫∂√≤≥≠∞∀∃]|\d ?[+*^=] ?\(?[\dxyz]"
    r"|\b(?:equations?|integral|derivative|theorem|lemma|matrix|probability|polynomial|eigenvalues?|calculate|solve for"
    r"|irrational|prime numbers?)\b",
    re.IGNORECASE,
)


@value(kw_only=True)
class Facts:
    """What was counted in a chat: `length`, the characters of all texts; `turns`, the messages that lie behind;
    `answer`, the tokens that it may have; in the last user text `reasoning`, words that ask for thought, `steps` that
    it names, and signs of `code` and `maths`; the `effort` that it asks for; `files`, such as images; the `tools` that
    it offers; whether the answer must keep a `schema`."""

    length: int = 0
    turns: int = 0
    answer: int = 0
    reasoning: int = 0
    effort: int = 0
    steps: int = 0
    code: int = 0
    maths: int = 0
    files: int = 0
    tools: int = 0
    schema: int = 0


@value
class Complexity:
    """The `score`, and what each part that there was would have made of it alone."""

    score: float
    parts: Mapping[str, float]

    def said(self) -> dict[str, Any]:
        """As it is recorded."""
        return {"score": self.score, "parts": dict(self.parts)}


def complexity(facts: Facts) -> Complexity:
    """The score."""
    found = {name: _part(name, getattr(facts, name)) for name in WEIGHTS}
    left = 1.0
    for given in found.values():
        left *= 1.0 - given
    return Complexity(round(1.0 - left, 6), {name: round(given, 6) for name, given in found.items() if given})


def _part(name: str, count: int) -> float:
    most, half = WEIGHTS[name]
    return most * count / (count + half)


def facts_of(chat: Mapping[str, Any]) -> Facts:
    """From a chat body, in OpenAI's format."""
    said = last_user_text(chat)[:MOST_READ]
    every, tools = messages(chat), chat.get("tools")
    return Facts(
        length=sum(len(text) for message in every for text in texts(message)),
        turns=max(sum(message.get("role") in ("user", "assistant", "tool") for message in every) - 1, 0),
        answer=most_tokens(chat),
        reasoning=_found(REASONING, said),
        effort=_effort(chat.get("reasoning_effort")),
        steps=_found(STEPS, said),
        code=_found(CODE, said),
        maths=_found(MATHS, said),
        files=sum(part.get("type") != "text" for message in every for part in parts(message)),
        tools=len(tools) if isinstance(tools, list) else 0,
        schema=int(wants_schema(chat)),
    )


def _found(words: re.Pattern[str], text: str) -> int:
    return sum(1 for _ in words.finditer(text))


def _effort(given: Any) -> int:
    return EFFORTS.get(given, 0) if isinstance(given, str) else 0
