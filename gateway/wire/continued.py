"""An answer that broke off after its client saw some of it, and that other attempts go on with: one answer to the
client, with what all of them took. The same live and in replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventstore.catalogue.values import Usage
from gateway.wire.dialect import Renderer
from gateway.wire.held import summed
from gateway.wire.values import Delta, Fold, Meta, Piece, TextRun


class Continued:
    """Around an answer's renderer, over all its attempts. What an attempt thinks that goes on is not shown: its client
    reads the answer already."""

    def __init__(self, inner: Renderer, fold: Fold) -> None:
        """`fold`: what the first attempt gave."""
        self._inner = inner
        self._parts: list[Piece] = [_of(fold)]
        self._spent: Usage | None = None

    @classmethod
    def over(cls, renderer: Renderer, fold: Fold, used: Usage) -> Continued:
        """The renderer of the attempts that follow the one with this answer, which took so much."""
        continued = renderer if isinstance(renderer, Continued) else cls(renderer, fold)
        continued._spent = summed(continued._spent, used)
        return continued

    @property
    def text(self) -> str:
        """All that the client has."""
        return "".join(part.text for part in self._parts if isinstance(part, Delta | TextRun))

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """What they add to what the client has."""
        shown = [part for piece in pieces if (part := _shown(piece)) is not None]
        self._parts += shown
        return self._inner.pieces(shown)

    def completed(self, fold: Fold) -> bytes:
        """The end, of all of it."""
        usage, whole = fold.meta.usage, Fold()
        whole.add([*self._parts, Meta(usage=None if usage is None else summed(self._spent, usage))])
        return self._inner.completed(whole)

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The error, behind what the client has."""
        return self._inner.failed(error)


def _of(fold: Fold) -> Delta:
    message = (fold.choices() or [{"message": {}}])[0]["message"]
    return Delta(text=message.get("content") or "", reasoning=message.get("reasoning_content") or "")


def _shown(piece: Piece) -> Piece | None:
    if type(piece) is Meta:
        return Meta(top=piece.top) if piece.top else None
    if type(piece) is not Delta or not (piece.reasoning or piece.extra):
        return piece
    rest = Delta(
        choice=piece.choice,
        text=piece.text,
        refusal=piece.refusal,
        tool_calls=piece.tool_calls,
        finish_reason=piece.finish_reason,
        logprobs=piece.logprobs,
    )
    return rest if rest != Delta(choice=piece.choice) else None
