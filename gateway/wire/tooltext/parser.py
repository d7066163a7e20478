"""Finding calls in text that comes in pieces, for one choice of an answer.

Text is held back only while it can still become a call: from the first character of an opening on, for as long as what
follows obeys the grammar. A call is given out when it is whole, so that none is ever taken back. Everything else comes
out as it went in, in order; white space right after a call is left out, as tool servers do.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gateway.wire.tooltext.calls import Call
from gateway.wire.tooltext.code import Code
from gateway.wire.tooltext.formats import Format
from gateway.wire.tooltext.regions import bare, region
from gateway.wire.tooltext.source import NoCall, Source, Wait

Found = str | Call

_SLICE = 1024
"""Characters looked at together: what is read twice is never more."""


class TextParser:
    """`feed` it text, `end` it; both give what is certain, in order. However the text is split, the joined texts and
    the calls are the same."""

    def __init__(self, format: Format) -> None:
        self._format = format
        self._candidate = _candidates(format)
        self._code = Code()
        self._source = Source()
        self._region: Wait[list[Call]] | None = None
        self._begun = False
        self._after_call = False

    def feed(self, text: str) -> list[Found]:
        """The next piece of text."""
        found: list[Found] = []
        for at in range(0, len(text), _SLICE):
            rest = text[at : at + _SLICE]
            while rest:
                rest = self._open(rest, found) if self._region is None else self._read(rest, found)
        return _merged(found)

    def end(self) -> list[Found]:
        """The text is over: what was still held back."""
        found: list[Found] = []
        while self._region is not None:
            self._source.ended = True
            rest = self._read("", found)
            found += self.feed(rest)
        return _merged(found)

    def _open(self, text: str, found: list[Found]) -> str:
        """Release text up to where calls may begin; gives the rest."""
        if self._format.bare and not self._begun and text.lstrip().startswith("{"):
            done = text.index("{")
            self._release(text[:done], found)
            self._begin(bare)
            return text[done:]
        done = 0
        for match in self._candidate.finditer(text):
            self._release(text[done : match.start()], found)
            done = match.start()
            if self._may_begin(text[done]):
                self._begin(region)
                break
        else:
            self._release(text[done:], found)
            done = len(text)
        return text[done:]

    def _may_begin(self, character: str) -> bool:
        """Whether an opening that begins with this character opens something here."""
        return self._code.at_line_start() if character == "`" else not self._code.inside()

    def _begin(self, grammar: Callable[[Source, Format], Wait[list[Call]]]) -> None:
        self._source = Source()
        self._region = grammar(self._source, self._format)

    def _read(self, text: str, found: list[Found]) -> str:
        """Let the reader go on with this text; gives what it leaves."""
        assert self._region is not None
        source = self._source
        source.feed(text)
        try:
            next(self._region)
        except StopIteration as whole:
            self._region = None
            found += whole.value
            self._begun = self._after_call = True
            self._code.feed("\n")  # what follows begins a line of its own
            return source.rest
        except NoCall:
            self._region = None
            return self._give_up(source, found)
        return ""

    def _give_up(self, source: Source, found: list[Found]) -> str:
        """The opening was none: its first character is text, and the rest is read again. A block of code is text as far
        as it was read."""
        held = source.held
        first = source.offset if held[0] == "`" else 1
        self._release(held[:first], found)
        return held[first:]

    def _release(self, text: str, found: list[Found]) -> None:
        if self._after_call:
            text = text.lstrip()
            self._after_call = not text
        if text:
            self._begun = self._begun or not text.isspace()
            self._code.feed(text)
            found.append(text)


def _candidates(format: Format) -> re.Pattern[str]:
    """Where calls may begin: at an opening, or where the text ends within one."""
    ways = ["".join(f"{re.escape(c)}(?:" for c in o.text) + ("|\\Z)" * len(o.text)) for o in format.openings]
    return re.compile("|".join(ways))


def _merged(found: list[Found]) -> list[Found]:
    """Neighbouring texts as one."""
    merged: list[Found] = []
    texts: list[str] = []
    for item in (*found, None):
        if isinstance(item, str):
            texts.append(item)
            continue
        if texts:
            merged.append("".join(texts))
            texts.clear()
        if item is not None:
            merged.append(item)
    return merged
