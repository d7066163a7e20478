"""Where a text is code, in Markdown: a tag that is shown there is no call.

Fences as in https://spec.commonmark.org/0.31.2/#fenced-code-blocks; a span between backticks ends with its line at the
latest, so that a stray backtick hides nothing for long.
"""

from __future__ import annotations

import re

_TOKENS = re.compile(r"\n|`+|~+|[^\n`~]+")
_FENCE = 3
_NO_RUN = ("", 0)
"""A run of marks: which, and how many."""


class Code:
    """Follows a text, in any pieces."""

    def __init__(self) -> None:
        self._fence = _NO_RUN
        self._closing = False
        self._opening_line = False
        self._span = 0
        self._blank = True
        self._run = _NO_RUN

    def inside(self) -> bool:
        """Whether what comes next, which is no backtick, stands in code."""
        self._settle()
        return self._fence != _NO_RUN or self._span > 0

    def at_line_start(self) -> bool:
        """Whether a fence that comes next would open a block."""
        return self._blank and self._run == self._fence == _NO_RUN

    def feed(self, text: str) -> None:
        """The next piece."""
        for piece in _TOKENS.findall(text):
            if piece[0] in "`~":
                self._marks(piece)
            else:
                self._settle()
                if piece == "\n":
                    self._newline()
                elif piece.strip():
                    self._blank = self._closing = False

    def _marks(self, marks: str) -> None:
        """Backticks or tildes: a run of them may go on in the next piece."""
        if self._run[0] != marks[0]:
            self._settle()
        self._run = marks[0], self._run[1] + len(marks)

    def _newline(self) -> None:
        if self._closing:
            self._fence = _NO_RUN
        self._span, self._blank = 0, True
        self._closing = self._opening_line = False

    def _settle(self) -> None:
        """A run of marks is over: what it means."""
        run, self._run = self._run, _NO_RUN
        mark, length = run
        if run == _NO_RUN:
            return
        if self._fence != _NO_RUN:
            self._closing = self._blank and mark == self._fence[0] and length >= self._fence[1]
            if self._opening_line and mark == "`" == self._fence[0]:
                self._fence = _NO_RUN  # no backticks can follow a fence on its line: that was a span
        elif self._blank and length >= _FENCE:
            self._fence, self._opening_line = run, True
        elif mark == "`":
            self._span = 0 if self._span == length else self._span or length
        self._blank = False
