"""Tool calls in the text of an answer, whatever its family: a decoder around the family's own.

Its name is composed (`openai_chat_stream.2+tools.hermes.1`), and recorded in `generation_started` like any other, so
that a replay finds the same calls in the recorded frames. Each frame's text is parsed on its own: how frames were
batched makes no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import orjson

from eventstore.frames import SEP, Part, Template
from gateway.wire.tooltext.calls import Call
from gateway.wire.tooltext.formats import Format
from gateway.wire.tooltext.parser import Found, TextParser
from gateway.wire.values import Decoder, Delta, Meta, Piece, TextRun, ToolCallDelta


class ToolTextDecoder:
    """Pieces of `inner`, with the calls in their text as tool calls. Ids are made from `seed` (the request's id), the
    choice and the call's number: unique, and the same in every replay."""

    def __init__(self, inner: Decoder, format: Format, seed: str) -> None:
        self.name = f"{inner.name}+{format.suffix}"
        self._inner, self._format, self._seed = inner, format, seed
        self._choices: dict[int, _Choice] = {}

    @property
    def complete(self) -> bool:
        return self._inner.complete

    def template(self, frames: Sequence[bytes], known: Template | None) -> tuple[int, Template] | None:
        return self._inner.template(frames, known)

    def decode(self, parts: Sequence[Part], template: Template | None) -> list[Piece]:
        return self._through(self._inner.decode(parts, template))

    def _through(self, pieces: Sequence[Piece]) -> list[Piece]:
        out: list[Piece] = []
        for piece in pieces:
            if type(piece) is TextRun:
                self._run(piece, out)
            elif type(piece) is Delta:
                out += self._choice(piece.choice).delta(piece)
            else:
                if type(piece) is Meta and piece.ended:
                    for choice in self._choices.values():
                        out += choice.end()
                out.append(piece)
        return out

    def _choice(self, index: int) -> _Choice:
        if index not in self._choices:
            self._choices[index] = _Choice(index, self._format, self._seed)
        return self._choices[index]

    def _run(self, run: TextRun, out: list[Piece]) -> None:
        """Frames of text: those that pass unchanged stay as they are."""
        choice = self._choice(0)
        escapes = run.escaped.split(SEP)
        texts = [run.text] if len(escapes) == 1 else [orjson.loads(b'"' + each + b'"') for each in escapes]
        passed: list[int] = []

        def settle() -> None:
            if passed:
                first, last = passed[0], passed[-1] + 1
                out.append(TextRun(SEP.join(escapes[first:last]), "".join(texts[first:last])))
                passed.clear()

        for at, text in enumerate(texts):
            found = choice.parser.feed(text)
            if found == [text]:
                passed.append(at)
            else:
                settle()
                out += choice.deltas(found)
        settle()


class _Choice:
    """One choice of the answer: its text so far, and its calls."""

    def __init__(self, index: int, format: Format, seed: str) -> None:
        self.parser = TextParser(format)
        self._index, self._seed = index, seed
        self._count = 0
        self._native: dict[int, int] = {}
        self._called = self._finished = False

    def delta(self, delta: Delta) -> list[Delta]:
        """What a delta comes to: its own news, the text and the calls that are certain now, and the end."""
        found = self.parser.feed(delta.text)
        if delta.finish_reason is not None:
            found += self.parser.end()
        calls = tuple(replace(call, index=self._renumbered(call.index)) for call in delta.tool_calls)
        if delta.finish_reason is None and (found == [delta.text] or not delta.text):
            return [replace(delta, tool_calls=calls)]
        head = replace(delta, text="", tool_calls=calls, finish_reason=None)
        out = [head] if head != Delta(choice=self._index) else []
        out += self.deltas(found)
        if delta.finish_reason is not None:
            out.append(Delta(choice=self._index, finish_reason=self._reason(delta.finish_reason)))
        return out

    def end(self) -> list[Delta]:
        """What was held back when the whole answer ended."""
        out = self.deltas(self.parser.end())
        if self._called and not self._finished:
            out.append(Delta(choice=self._index, finish_reason=self._reason("stop")))
        return out

    def deltas(self, found: Sequence[Found]) -> list[Delta]:
        """Text and calls as deltas."""
        return [
            Delta(choice=self._index, text=item)
            if isinstance(item, str)
            else Delta(choice=self._index, tool_calls=self._call(item))
            for item in found
        ]

    def _call(self, call: Call) -> list[ToolCallDelta]:
        """A call's first delta has its name, the next its arguments."""
        index = self._next()
        self._called = True
        digest = sha256(f"{self._seed}:{self._index}:{index}".encode()).hexdigest()
        return [
            ToolCallDelta(index, id=f"call_{digest[:24]}", name=call.name),
            ToolCallDelta(index, arguments=call.arguments),
        ]

    def _renumbered(self, index: int) -> int:
        """A call that the upstream itself told of, numbered among all."""
        if index not in self._native:
            self._native[index] = self._next()
        return self._native[index]

    def _next(self) -> int:
        self._count += 1
        return self._count - 1

    def _reason(self, reason: str) -> str:
        self._finished = True
        return "tool_calls" if self._called and reason == "stop" else reason
