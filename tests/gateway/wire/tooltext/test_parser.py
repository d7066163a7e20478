"""Calls in text: all are found, none is invented, and nothing of a tag gets out, however the text is cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.tooltext.calls import Call
from gateway.wire.tooltext.formats import FORMATS
from gateway.wire.tooltext.parser import Found, TextParser
from gateway.wire.tooltext.source import MOST_HELD
from tests.gateway.wire.tooltext.texts import answers, calls_of, expected, parse, splits, text_of

EXAMPLES = settings(max_examples=250, deadline=None)


def found(format: str, text: str) -> list[Found]:
    """What is found in a text that comes at once; by characters it must be the same."""
    whole = parse(TextParser(FORMATS[format]), [text])
    by_characters = parse(TextParser(FORMATS[format]), list(text))
    assert (text_of(by_characters), calls_of(by_characters)) == (text_of(whole), calls_of(whole))
    return whole


@EXAMPLES
@given(st.data())
def test_any_call_is_found_in_any_text_however_it_is_split(data: st.DataObject) -> None:
    format, parts = data.draw(answers())
    pieces = data.draw(splits("".join(part.written for part in parts)))
    given_out = parse(TextParser(format), pieces)
    assert (text_of(given_out), calls_of(given_out)) == expected(parts)


def check_it_leaks_nothing(made: type[TextParser]) -> None:
    """At no time, and however the text comes, is anything out but the text before the call."""
    written = 'Let me see.\n<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    for size in range(1, len(written)):
        parser, out = made(FORMATS["hermes"]), ""
        for at in range(0, len(written), size):
            out += text_of(parser.feed(written[at : at + size]))
            assert "Let me see.\n".startswith(out)


def test_leaks_nothing_of_a_tag_at_any_time() -> None:
    check_it_leaks_nothing(TextParser)


class Leaky(TextParser):
    """Twin: releases text up to the first character of a tag, and that character too, at once."""

    def _open(self, text: str, found: list[Found]) -> str:
        rest = super()._open(text, found)
        if self._region is not None:
            found.append(rest[0])
        return rest


def test_twin_a_parser_that_releases_the_first_character_of_a_tag_is_noticed() -> None:
    with pytest.raises(AssertionError):
        check_it_leaks_nothing(Leaky)


CALLS: list[tuple[str, str, list[tuple[str, Any]]]] = [
    ("hermes", '<tool_call>{"name":"a","arguments":{}}</tool_call><tool_call>{"name":"b"}</tool_call>',
     [("a", {}), ("b", {})]),
    ("hermes", '<tool_call>{"name":"a","arguments":"{\\"x\\":1}"}</tool_call>', [("a", {"x": 1})]),
    ("hermes", '<tool_call>[{"name":"a"},{"name":"b"}]</tool_call>', [("a", {}), ("b", {})]),
    ("hermes", '<tool_call>\n{"name":"a"}\n{"name":"b"}\n</tool_call>', [("a", {}), ("b", {})]),
    ("hermes", '<tool_call>{"name":"a"}', [("a", {})]),
    ("hermes", '<tool_call>{"name":"a"}</tool_', [("a", {})]),
    ("xml", '<tool_call>{"type":"function","function":{"name":"a","arguments":"{}"}}</tool_call>', [("a", {})]),
    ("qwen3", '<|tool_call|>{"name":"a"}</|tool_call|>', [("a", {})]),
    ("llama3", '{"name": "a", "parameters": {"x": "y"}}', [("a", {"x": "y"})]),
    ("llama3", ' \n{"type": "function", "name": "a", "parameters": {}}; {"name": "b", "parameters": {}}\n',
     [("a", {}), ("b", {})]),
    ("llama3", '<|python_tag|>{"name": "a", "parameters": {}}', [("a", {})]),
    ("llama3", '<function=a>{"x": 1}</function>', [("a", {"x": 1})]),
    ("gemma", "```tool_code\nprint(weather.get(city='Paris', days=[1, 2]))\n```",
     [("weather.get", {"city": "Paris", "days": [1, 2]})]),
    ("gemma", "```tool_code\n[a(x=1), b(y=None)]\n```", [("a", {"x": 1}), ("b", {"y": None})]),
    ("gemma", "```tool_code\na(x=1)\nb(x='\\n')\n```", [("a", {"x": 1}), ("b", {"x": "\n"})]),
    ("gemma", '```tool_call\n{"name": "a", "parameters": {"x": true}}', [("a", {"x": True})]),
    ("mistral", '[TOOL_CALLS] [{"name": "a", "arguments": {}}, {"name": "b", "arguments": {"x": 1}}]',
     [("a", {}), ("b", {"x": 1})]),
    ("mistral", '[TOOL_CALLS]a{"x": 1}[TOOL_CALLS]b[ARGS]{"y": 2}', [("a", {"x": 1}), ("b", {"y": 2})]),
]  # fmt: skip


@pytest.mark.parametrize(("format", "text", "calls"), CALLS)
def test_finds_calls_as_models_write_them(format: str, text: str, calls: list[tuple[str, Any]]) -> None:
    out = found(format, text)
    assert calls_of(out) == calls
    assert not text_of(out).strip()


TEXTS = [
    ("llama3", '{"name": "Ada", "born": 1815}'),
    ("llama3", '{"name": "f", "parameters": {}} is how a call looks.'),
    ("llama3", 'As JSON: {"name": "f", "parameters": {}}'),
    ("llama3", '{"name": "two words", "parameters": {}}'),
    ("llama3", '[{"name": "f", "parameters": {}}]'),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"x": 1}'),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"x": "\n"}}</tool_call>'),
    ("hermes", '```\n<tool_call>{"name": "f"}</tool_call>'),
    ("hermes", '```json\n{}\n``` \n~~~\n<tool_call>{"name": "f"}</tool_call>'),
    ("hermes", 'Use ``a ` <tool_call>{"name": "f"}</tool_call>`` for it.'),
    ("hermes", "<tool_call>" + "[" * 200),
    ("gemma", "Write ```tool_code\nf(x=1)\n``` and so on"),
    ("gemma", "```tool_code\nprint('hello')\n```"),
    ("gemma", "```tool_code\nf(x=g(1))\n```"),
    ("gemma", "```tool_code\nf(*a, **b)\n```"),
    ("gemma", "```tool_code\nf(x=" + "-" * 5000 + "1)\n```"),
    ("gemma", "```tool_codes\nf(x=1)\n```"),
    ("gemma", "```tool_code\n\n```"),
    ("mistral", "[TOOL_CALLS]"),
    ("mistral", "[TOOL_CALLS]a then {}"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "text"), TEXTS)
def test_passes_what_is_no_call_as_it_is(format: str, text: str) -> None:
    assert found(format, text) == [text]


def test_a_call_after_code_is_found() -> None:
    shown = '```xml\n<tool_call>{"name": "f"}</tool_call>\n```\n'
    assert found("hermes", shown + '<tool_call>{"name": "g"}</tool_call>') == [shown, Call("g", "{}")]


@pytest.mark.parametrize(
    ("format", "possible", "wrong"),
    [
        ("hermes", "<tool_call>\n", "n"),
        ("hermes", '<tool_call>{"name" ', '"'),
        ("hermes", '<tool_call>{"a": 1', "}"),
        ("hermes", '<tool_call>{"name": "f"}</tool', "s"),
        ("qwen3", "<|tool_call", "s"),
        ("llama3", '{"name": "f", "parameters": {}} ', "i"),
        ("llama3", '{"a', "\n"),
        ("mistral", "[TOOL_CALLS]f{", "]"),
        ("gemma", "```tool_", "x"),
    ],
)
def test_holds_text_back_only_while_it_can_become_a_call(format: str, possible: str, wrong: str) -> None:
    parser = TextParser(FORMATS[format])
    assert parser.feed(possible) == []
    assert parser.feed(wrong) == [possible + wrong]


def test_a_number_keeps_its_digits() -> None:
    numbers = '{"x":1.10,"y":123456789012345678901234567890}'
    assert found("hermes", '<tool_call>{"name":"f","arguments":' + numbers + "}</tool_call>") == [Call("f", numbers)]


def test_an_endless_half_call_is_let_go() -> None:
    parser = TextParser(FORMATS["hermes"])
    text = text_of(parser.feed('<tool_call>{"name": "f", "arguments": {"x": "'))
    for _ in range(MOST_HELD // 1000 + 1):
        text += text_of(parser.feed("x" * 1000))
    assert len(text) > MOST_HELD
    assert parser.end() == []


@pytest.mark.parametrize("length", [4090, 4096, 4100, 9000])
def test_a_long_text_is_read_as_a_short_one(length: int) -> None:
    before, words = "<" * length + "\n", '"' + "x" * 10_000 + '"'
    written = '<tool_call>{"name":"f","arguments":{"x":' + words + '}}\n{"name":"g"}</tool_call>'
    expected = [before, Call("f", '{"x":' + words + "}"), Call("g", "{}"), "end"]
    assert parse(TextParser(FORMATS["hermes"]), [before + written + " end"]) == expected
    assert parse(TextParser(FORMATS["hermes"]), [before, written[:5000], written[5000:], " end"]) == expected


def test_much_python_is_text() -> None:
    text = "```tool_code\n" + "f(x=1)\n" * 10_000 + "```"
    assert found("gemma", text) == [text]


class Credulous(TextParser):
    """Twin: takes a call that is shown in code for one that is made."""

    def _may_begin(self, character: str) -> bool:
        return True


def test_twin_a_parser_that_does_not_mind_code_is_noticed() -> None:
    shown = 'Write `<tool_call>{"name": "f"}</tool_call>` for it.'
    assert calls_of(found("hermes", shown)) == []
    assert calls_of(parse(Credulous(FORMATS["hermes"]), [shown])) == [("f", {})]
