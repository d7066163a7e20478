"""Reading text that arrives in pieces: each reader is a generator that waits (yields) where the text is not there yet.

So a grammar reads like a recursive descent over a whole text, and any split of the text gives the same.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Wait = Generator[None, None, T]
"""A reader that gives a T once enough text has come. Raises `NoCall` as soon as the text cannot become one."""

MOST_HELD = 1 << 20
"""Characters that may be held back while they could still become calls."""
DEEPEST = 100
"""Levels of nesting in a call."""
SPACES = " \t\r\n"
_IN_STRING = re.compile(r'[^"\\\x00-\x1f]*')
_IN_NUMBER = re.compile(r"[-+.0-9eE]*")
_ESCAPES = '"\\/bfnrt'


class NoCall(Exception):
    """What was held back is text."""


class Source:
    """The text held back: all of it, and how far it was read."""

    def __init__(self) -> None:
        self._chunks: list[str] = []
        self._chunk = ""
        self._at = 0
        self._before = 0
        self.ended = False

    def feed(self, text: str) -> None:
        """The next piece; everything before it has been read."""
        self._before += len(self._chunk)
        self._chunks.append(text)
        self._chunk, self._at = text, 0

    @property
    def offset(self) -> int:
        """Characters read."""
        return self._before + self._at

    @property
    def held(self) -> str:
        """Everything that was fed."""
        return "".join(self._chunks)

    @property
    def rest(self) -> str:
        """What is not read yet."""
        return self._chunk[self._at :]

    def since(self, start: int) -> str:
        """What was read from this offset on."""
        if start >= self._before:
            return self._chunk[start - self._before : self._at]
        parts, position = [self._chunk[: self._at]], self._before
        for at in range(len(self._chunks) - 2, -1, -1):
            chunk = self._chunks[at]
            position -= len(chunk)
            parts.append(chunk[max(start - position, 0) :])
            if position <= start:
                break
        return "".join(reversed(parts))

    def look(self) -> Wait[str]:
        """The next character, not taken; empty at the end."""
        while self._at == len(self._chunk):
            if self.ended:
                return ""
            if self.offset >= MOST_HELD:
                raise NoCall
            yield
        return self._chunk[self._at]

    def peek(self) -> Wait[str]:
        """The same, where the end is none that a call can have."""
        found = yield from self.look()
        if not found:
            raise NoCall
        return found

    def skip(self) -> None:
        """Take the character that was looked at."""
        self._at += 1

    def literal(self, expected: str) -> Wait[None]:
        """Take exactly this."""
        for character in expected:
            if (yield from self.peek()) != character:
                raise NoCall
            self.skip()

    def closing(self, expected: str) -> Wait[None]:
        """The same, where the text may end before it is whole: some models stop at their own closing tag."""
        for character in expected:
            found = yield from self.look()
            if not found:
                return
            if found != character:
                raise NoCall
            self.skip()

    def run(self, pattern: re.Pattern[str]) -> Wait[None]:
        """Take characters as long as the pattern, a class of characters with a star, has them."""
        while (yield from self.look()):
            match = pattern.match(self._chunk, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._chunk):
                break

    def spaces(self) -> Wait[str]:
        """Take white space; gives the character after it, empty at the end."""
        while (found := (yield from self.look())) and found in SPACES:
            self.skip()
        return found


def json_text(source: Source, opens: str) -> Wait[str]:
    """The text of a JSON value that begins with one of the characters `opens`, after white space."""
    first = yield from source.spaces()
    if not first or first not in opens:
        raise NoCall
    start = source.offset
    yield from _value(source, 0)
    return source.since(start)


def _value(source: Source, depth: int) -> Wait[None]:
    first = yield from source.peek()
    if first == '"':
        yield from _string(source)
    elif first in "{[" and depth < DEEPEST:
        yield from _members(source, first, depth)
    elif first in "-0123456789":
        yield from source.run(_IN_NUMBER)
    elif first in _WORDS:
        yield from source.literal(_WORDS[first])
    else:
        raise NoCall


_WORDS = {"t": "true", "f": "false", "n": "null"}


def _members(source: Source, first: str, depth: int) -> Wait[None]:
    """An object or an array, from its opening bracket to its closing one."""
    source.skip()
    end = "}" if first == "{" else "]"
    if (yield from source.spaces()) == end:
        source.skip()
        return
    while True:
        if first == "{":
            yield from _string(source)
            yield from source.spaces()
            yield from source.literal(":")
            yield from source.spaces()
        yield from _value(source, depth + 1)
        found = yield from source.spaces()
        if not found or found not in ("," + end):
            raise NoCall
        source.skip()
        if found == end:
            return
        yield from source.spaces()


def _string(source: Source) -> Wait[None]:
    yield from source.literal('"')
    while True:
        yield from source.run(_IN_STRING)
        found = yield from source.peek()
        if found == '"':
            source.skip()
            return
        if found != "\\":
            raise NoCall
        source.skip()
        escape = yield from source.peek()
        source.skip()
        if escape == "u":
            yield from _hex(source)
        elif escape not in _ESCAPES:
            raise NoCall


def _hex(source: Source) -> Wait[None]:
    for _ in range(4):
        if (yield from source.peek()) not in "0123456789abcdefABCDEF":
            raise NoCall
        source.skip()
