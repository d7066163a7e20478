"""Where a text is code, in Markdown: a tag that is shown there is no call.

Fences as in https://spec.commonmark.org/0.31.2/#fenced-code-blocks; a span between backticks ends with its line at the
latest, so that a stray backtick hides nothing for long.
"""

from __future__ import annotations

import re

_TOKENS = re.compile(r"\n|`+|~+|[^\n`~]+")
_FENCE = 3


class Code:
    """Follows a text, in any pieces."""

    def __init__(self) -> None:
        self._fence = ""
        self._closing = False
        self._opening_line = False
        self._span = 0
        self._blank = True
        self._run = ""

    def inside(self) -> bool:
        """Whether what comes next, which is no backtick, stands in code."""
        self._settle()
        return bool(self._fence or self._span)

    def at_line_start(self) -> bool:
        """Whether a fence that comes next would open a block."""
        return self._blank and not self._run and not self._fence

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
        if self._run and self._run[0] != marks[0]:
            self._settle()
        self._run += marks

    def _newline(self) -> None:
        if self._closing:
            self._fence = ""
        self._span, self._blank = 0, True
        self._closing = self._opening_line = False

    def _settle(self) -> None:
        """A run of marks is over: what it means."""
        run, self._run = self._run, ""
        if not run:
            return
        if self._fence:
            self._closing = self._blank and run[0] == self._fence[0] and len(run) >= len(self._fence)
            if self._opening_line and run[0] == "`" == self._fence[0]:
                self._fence = ""  # no backticks can follow a fence on its line: that was a span
        elif self._blank and len(run) >= _FENCE:
            self._fence, self._opening_line = run, True
        elif run[0] == "`":
            self._span = 0 if self._span == len(run) else self._span or len(run)
        self._blank = False
