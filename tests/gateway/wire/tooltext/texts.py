"""Answers with calls, as models of every format write them, and what is right to find in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from gateway.wire.tooltext.calls import Call
from gateway.wire.tooltext.formats import FORMATS, Format
from gateway.wire.tooltext.parser import Found, TextParser

CALL = {"name": "get_weather", "arguments": {"city": "Paris"}}

WRITTEN = {
    "hermes": ["<tool_call>\n%s\n</tool_call>", "<tool_call>%s</tool_call>"],
    "xml": ["<tool_call>%s</tool_call>"],
    "qwen3": ["<|tool_call|>%s</|tool_call|>", "<tool_call>\n%s\n</tool_call>"],
    "llama3": ["<function_call>%s</function_call>", "<|python_tag|>%s"],
    "gemma": ["```tool_code\n%s\n```", "```tool_call\n%s\n```"],
    "mistral": ["[TOOL_CALLS][%s]", "[TOOL_CALLS] %s"],
}
"""How the models of a format put tags around a call's object."""


@dataclass(frozen=True)
class Part:
    """A part of an answer: as it is written, and what it is: its text, or its calls."""

    written: str
    text: str = ""
    calls: tuple[Call, ...] = ()


names = st.from_regex(r"[a-z][a-z_0-9]{0,12}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.sampled_from(
        ["</tool_call>", "<tool_call>", "```", "\n```\n", '"}', "[TOOL_CALLS]", "\\", "é", "\U0001f600"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
prose = st.text(alphabet='abc .,é\U0001f600(){}"\\0:;!?\n<>|[]/_=', max_size=30)
"""With the characters that tags are made of, and no backticks."""
lookalikes = st.sampled_from(
    [
        "a <tool_call> tag, and its </tool_call> end",
        "<tool_call", "<tool", "<|tool_call|", "<|", "[TOOL", "[TOOL_CALLS", "<function=", "<function_call", "1 < 2 <",
        "<tool_call>{not json}</tool_call>", '<tool_call>{"a": 1}</tool_call>', "<tool_call></tool_call>",
        '<tool_call>{"name": 7, "arguments": {}}</tool_call>', '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "text"}</tool_call>', '<tool_call>{"name": "f" "arguments": {}}',
        '<|tool_call|>{"name": "f", "arguments": {}}</tool_call>', '<function_call>{"name": "f"}</tool_call>',
        '[TOOL_CALLS] are [1, 2]', '[TOOL_CALLS][]', "[TOOL_CALLS]f(1)", "<function=f>(1)</function>",
        "<|python_tag|>print(1)", '`<tool_call>{"name": "f", "arguments": {}}</tool_call>`',
        '`[TOOL_CALLS][{"name": "f", "arguments": {}}]` ', '`<|python_tag|>{"name": "f", "parameters": {}}`',
        '`<function_call>{"name": "f", "parameters": {}}</function_call>`',
        '\n```xml\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n```\n',
        '\n~~~\n[TOOL_CALLS][{"name": "f", "arguments": {}}]\n~~~\n',
        '\n````\n```tool_code\nf(x=1)\n```\n````\n',
        "\n```tool_code\nx = f(1)\nprint(x)\n```\n", "\n```tool\nf(x=1)\n```\n",
        "\n```python\nf(x=1)\n```\n",
    ]
)  # fmt: skip
"""What looks like a call and is none: broken, half, of another shape, or shown in code."""


@st.composite
def call_parts(draw: st.DrawFn, format: Format) -> Part:
    """A call, in any of the ways that the format's models write it."""
    name, arguments = draw(names), draw(st.dictionaries(st.text(max_size=6), values, max_size=4))
    said: Any = arguments if draw(st.booleans()) else json.dumps(arguments)
    key = draw(st.sampled_from(["arguments", "parameters"]))
    written = json.dumps(
        {"name": name, key: said}, ensure_ascii=draw(st.booleans()), indent=draw(st.none() | st.just(1))
    )
    around = draw(st.sampled_from(WRITTEN[format.name]))
    head = "\n" if around.startswith("`") else ""
    tail = draw(st.sampled_from(["", "\n", " \n\n"]))
    return Part(head + around.replace("%s", written) + tail, head, (Call(name, json.dumps(arguments)),))


def text_parts() -> st.SearchStrategy[Part]:
    """Text without calls. Its end closes what it opened, as far as Markdown goes."""
    return (prose | lookalikes).map(lambda text: Part(text + ".\n", text + ".\n"))


@st.composite
def answers(draw: st.DrawFn) -> tuple[Format, list[Part]]:
    """A format, and parts of an answer in it."""
    format = draw(st.sampled_from(sorted(FORMATS.values(), key=lambda each: each.name)))
    first = Part("Well.\n", "Well.\n")  # so that no object stands alone
    return format, [first, *draw(st.lists(text_parts() | call_parts(format), max_size=5))]


@st.composite
def splits(draw: st.DrawFn, text: str) -> list[str]:
    """A text in pieces."""
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=20)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def parse(parser: TextParser, pieces: list[str]) -> list[Found]:
    """What a parser finds in them."""
    return [item for piece in pieces for item in parser.feed(piece)] + parser.end()


def text_of(found: list[Found]) -> str:
    return "".join(item for item in found if isinstance(item, str))


def calls_of(found: list[Found]) -> list[tuple[str, Any]]:
    return [(item.name, json.loads(item.arguments)) for item in found if isinstance(item, Call)]


def expected(parts: list[Part]) -> tuple[str, list[tuple[str, Any]]]:
    """The text and the calls of an answer. White space right after a call is left out."""
    text, after_call = "", False
    for part in parts:
        added = part.text.lstrip() if after_call else part.text
        text += added
        after_call = bool(part.calls) or (after_call and not added)
    return text, [(call.name, json.loads(call.arguments)) for part in parts for call in part.calls]
