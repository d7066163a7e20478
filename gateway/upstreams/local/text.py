"""Text as it comes out of a model, a token at a time: made of whole characters, and cut at stop strings. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What a decoder shows for a character of which bytes are still missing."""


class Detokenizer:
    """Tokens to text. `decode` turns token ids into text; a few tokens before the new ones are decoded with them, since
    the text of a token can depend on those before it."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._from = 0
        self._read = 0

    def add(self, token: int) -> str:
        """The text that is whole with this token; nothing while a character is not."""
        self._ids.append(token)
        text = self._new()
        if text.endswith(UNFINISHED):
            return ""
        self._from, self._read = self._read, len(self._ids)
        return text

    def end(self) -> str:
        """What is left."""
        text = self._new()
        self._from = self._read = len(self._ids)
        return text

    def _new(self) -> str:
        before = self._decode(self._ids[self._from : self._read])
        return self._decode(self._ids[self._from :])[len(before) :]


class Stops:
    """Cuts text before the first of `stops`; holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """What can be shown now; nothing once `stopped`."""
        if self.stopped:
            return ""
        text = self._held + text
        if places := [at for stop in self._stops if (at := text.find(stop)) >= 0]:
            self.stopped, self._held = True, ""
            return text[: min(places)]
        keep = max((_begun(text, stop) for stop in self._stops), default=0)
        shown, self._held = text[: len(text) - keep], text[len(text) - keep :]
        return shown

    def end(self) -> str:
        """What was held back and is no stop after all."""
        text, self._held = self._held, ""
        return text


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of the text begin the stop."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
