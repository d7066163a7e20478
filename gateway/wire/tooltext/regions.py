"""The grammars of calls: from an opening to where its calls end. Each reads as the text comes, and gives up at once
when it can be no call any more."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from gateway.wire.tooltext.calls import Call, bare_call, code_calls, json_calls, named_call
from gateway.wire.tooltext.formats import Format, Opening
from gateway.wire.tooltext.source import NoCall, Source, Wait, json_text

_NAME = re.compile(r"[\w.:/-]*")
_BLANKS = re.compile(r"[ \t\r]*")
_LINE = re.compile(r"[^\n]*")
FENCE = "```"


def region(source: Source, format: Format) -> Wait[list[Call]]:
    """The calls from an opening of the format to their end. Raises `NoCall`."""
    opening = yield from _opening(source, format.openings)
    return (yield from _SHAPES[opening.shape](source, opening))


def bare(source: Source, format: Format) -> Wait[list[Call]]:
    """Call objects, one after the other (with `;` or white space between), up to the end of the answer."""
    calls = []
    while True:
        calls.append(bare_call((yield from json_text(source, "{"))))
        found = yield from source.spaces()
        if found == ";":
            source.skip()
            found = yield from source.spaces()
        if not found:
            return calls


def _opening(source: Source, openings: tuple[Opening, ...]) -> Wait[Opening]:
    """Which of them this is; none is the beginning of another."""
    at = 0
    while True:
        found = yield from source.peek()
        openings = tuple(opening for opening in openings if opening.text[at] == found)
        if not openings:
            raise NoCall
        source.skip()
        at += 1
        if len(openings[0].text) == at:
            return openings[0]


def _tagged(source: Source, opening: Opening) -> Wait[list[Call]]:
    """JSON values, and the closing tag."""
    calls: list[Call] = []
    while True:
        calls += json_calls((yield from json_text(source, "{[")))
        if (yield from source.spaces()) != "{":
            break
    yield from source.closing(opening.close)
    return calls


def _named(source: Source, opening: Opening) -> Wait[list[Call]]:
    """`name>`, an object, and the closing tag."""
    name = yield from _name(source)
    yield from source.literal(">")
    call = named_call(name, (yield from json_text(source, "{")))
    yield from source.spaces()
    yield from source.closing(opening.close)
    return [call]


def _listed(source: Source, opening: Opening) -> Wait[list[Call]]:
    """JSON, or a name (Mistral's newer models mark what follows it with `[ARGS]`) and an object."""
    if (found := (yield from source.spaces())) and found in "{[":
        return json_calls((yield from json_text(source, "{[")))
    name = yield from _name(source)
    if (yield from source.spaces()) == "[":
        yield from source.literal("[ARGS]")
    return [named_call(name, (yield from json_text(source, "{")))]


def _name(source: Source) -> Wait[str]:
    start = source.offset
    yield from source.run(_NAME)
    return source.since(start)


def _fenced(source: Source, opening: Opening) -> Wait[list[Call]]:
    """Lines, up to one that begins with a fence."""
    yield from source.run(_BLANKS)
    yield from source.literal("\n")
    start = end = source.offset
    while (yield from source.look()):
        end = source.offset
        if (yield from _fence(source)):
            break
        yield from source.run(_LINE)
        if (yield from source.look()):
            source.skip()
        end = source.offset
    return code_calls(source.held[start:end])


def _fence(source: Source) -> Wait[bool]:
    """Take a fence, if the line begins with one."""
    yield from source.run(_BLANKS)
    for mark in FENCE:
        if (yield from source.look()) != mark:
            return False
        source.skip()
    return True


_SHAPES: Mapping[str, Callable[[Source, Opening], Wait[list[Call]]]] = {
    "tagged": _tagged,
    "named": _named,
    "listed": _listed,
    "fenced": _fenced,
}
