"""An answer over whose course the server runs tools: its text is shown as it comes, the calls that the server runs
itself are not, and what all rounds took is counted together. The same live and in replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.wire.dialect import Renderer
from gateway.wire.held import Held, summed
from gateway.wire.values import Delta, Fold, Meta, Piece, TextRun

BETWEEN = "\n\n"
"""Between the texts of two rounds."""


class Rounds(Held):
    """Around an answer's renderer, over all its rounds. A call is held back until its round is over: then either the
    server has run it (`ran`), or the answer ends with it."""

    def __init__(self, inner: Renderer) -> None:
        super().__init__(inner)
        self._before: list[Piece] = []
        self._round: list[Piece] = []
        self._calls: list[Piece] = []

    def again(self, fold: Fold) -> None:
        """The attempt with this answer is dropped, of which nobody was shown anything."""
        super().again(fold)
        self._round, self._calls = [], []

    def ran(self, fold: Fold) -> None:
        """The server ran the calls of the round with this answer; another round follows."""
        super().again(fold)
        self._before += self._round
        self._round, self._calls = [], []

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """All but the calls, and the finish reasons."""
        shown = [part for piece in pieces if (part := self._part(piece)) is not None]
        if any(map(_speaks, shown)) and not any(map(_speaks, self._round)) and any(map(_speaks, self._before)):
            shown.insert(next(i for i, part in enumerate(shown) if _speaks(part)), Delta(text=BETWEEN))
        self._round += shown
        return self._inner.pieces(shown)

    def completed(self, fold: Fold) -> bytes:
        """The calls of the last round, which are the client's, and the end."""
        usage, raw = fold.meta.usage, fold.meta.usage_raw
        if self._spent is not None:
            usage, raw = summed(self._spent, usage), None
        whole = Fold()
        whole.add([*self._before, *self._round, *self._calls, Meta(usage=usage, usage_raw=raw)])
        return self._inner.pieces(self._calls) + self._inner.completed(whole)

    def _part(self, piece: Piece) -> Piece | None:
        if type(piece) is Meta:
            return Meta(model=piece.model, id=piece.id, top=piece.top)
        if type(piece) is not Delta or not (piece.tool_calls or piece.finish_reason):
            return piece
        held = Delta(choice=piece.choice, tool_calls=piece.tool_calls, finish_reason=piece.finish_reason)
        self._calls.append(held)
        rest = replace(piece, tool_calls=(), finish_reason=None)
        return rest if rest != Delta(choice=piece.choice) else None


def _speaks(piece: Piece) -> bool:
    return bool(piece.text) if type(piece) is Delta or type(piece) is TextRun else False
