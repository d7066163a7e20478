"""Finding calls in text that comes in pieces, for one choice of an answer.

Text is held back only while it can still become a call: from the first character of an opening on, for as long as what
follows obeys the grammar. A call is given out when it is whole, so that none is ever taken back. Everything else comes
out as it went in, in order; white space right after a call is left out, as tool servers do.
"""

from __future__ import annotations

import re

from gateway.wire.tooltext.calls import Call
from gateway.wire.tooltext.code import Code
from gateway.wire.tooltext.formats import Format
from gateway.wire.tooltext.regions import bare, region
from gateway.wire.tooltext.source import NoCall, Source, Wait

Found = str | Call


class TextParser:
    """`feed` it text, `end` it; both give what is certain, in order. However the text is split, the joined texts and
    the calls are the same."""

    def __init__(self, format: Format) -> None:
        self._format = format
        firsts = {opening.text[0] for opening in format.openings} | ({"{"} if format.bare else set())
        self._candidate = re.compile("[" + re.escape("".join(sorted(firsts))) + "]")
        self._code = Code()
        self._source = Source()
        self._region: Wait[list[Call]] | None = None
        self._begun = False
        self._after_call = False

    def feed(self, text: str) -> list[Found]:
        """The next piece of text."""
        found: list[Found] = []
        while text:
            text = self._open(text, found) if self._region is None else self._read(text, found)
        return found

    def end(self) -> list[Found]:
        """The text is over: what was still held back."""
        found: list[Found] = []
        while self._region is not None:
            self._source.ended = True
            rest = self._read("", found)
            for item in self.feed(rest):
                _add(found, item)
        return found

    def _open(self, text: str, found: list[Found]) -> str:
        """Release text up to where calls may begin; gives the rest."""
        done = 0
        for match in self._candidate.finditer(text):
            self._release(text[done : match.start()], found)
            done = match.start()
            if (reading := self._begins(match.group())) is not None:
                self._region = reading
                break
        else:
            self._release(text[done:], found)
            done = len(text)
        return text[done:]

    def _begins(self, character: str) -> Wait[list[Call]] | None:
        """A reader, where this character can begin calls here."""
        if character == "`":
            possible = self._code.at_line_start()
        elif character == "{":
            possible = not self._begun
        else:
            possible = not self._code.inside()
        if not possible:
            return None
        self._source = Source()
        return bare(self._source) if character == "{" else region(self._source, self._format)

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
            _add(found, text)


def _add(found: list[Found], item: Found) -> None:
    """Neighbouring texts are one."""
    if found and isinstance(item, str) and isinstance(found[-1], str):
        found[-1] += item
    else:
        found.append(item)
