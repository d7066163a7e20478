"""An answer over whose course the server runs tools: its text is shown as it comes, the calls that the server runs
itself are not, and what all rounds took is counted together. The same live and in replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.wire.dialect import Renderer
from gateway.wire.held import Held, summed
from gateway.wire.responses.sealed import BLOCKS
from gateway.wire.values import Delta, Fold, Meta, Piece, TextRun

BETWEEN = "\n\n"
"""Between the texts of two rounds."""


class Rounds(Held):
    """Around an answer's renderer, over all its rounds. A call is held back until its round is over: then either the
    server has run it (`ran`), or the answer ends with it. So is signed thinking, of which a client that gives it back
    could make nothing where rounds that it knows nothing of came before."""

    def __init__(self, inner: Renderer) -> None:
        super().__init__(inner)
        self._before: list[Piece] = []
        self._round: list[Piece] = []
        self._calls: list[Delta] = []
        self._alone = True

    def again(self, fold: Fold) -> None:
        """The attempt with this answer is dropped, of which nobody was shown anything."""
        super().again(fold)
        self._round, self._calls = [], []

    def ran(self, fold: Fold) -> None:
        """The server ran the calls of the round with this answer; another round follows."""
        super().again(fold)
        self._before += self._round
        self._round, self._calls, self._alone = [], [], False

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
        held = self._calls if self._alone else [call for call in map(_unsigned, self._calls) if _says(call)]
        whole = Fold()
        whole.add([*self._before, *self._round, *held, Meta(usage=usage, usage_raw=raw)])
        return self._inner.pieces(held) + self._inner.completed(whole)

    def _part(self, piece: Piece) -> Piece | None:
        if type(piece) is Meta:
            return Meta(model=piece.model, id=piece.id, top=piece.top)
        if type(piece) is not Delta:
            return piece
        signed = {name: blocks for name, blocks in (piece.extra or {}).items() if name == BLOCKS} or None
        if not (piece.tool_calls or piece.finish_reason or signed):
            return piece
        self._calls.append(
            Delta(choice=piece.choice, tool_calls=piece.tool_calls, finish_reason=piece.finish_reason, extra=signed)
        )
        rest = replace(_unsigned(piece), tool_calls=(), finish_reason=None)
        return rest if _says(rest) else None


def _unsigned(piece: Delta) -> Delta:
    if not piece.extra or BLOCKS not in piece.extra:
        return piece
    return replace(piece, extra={name: given for name, given in piece.extra.items() if name != BLOCKS} or None)


def _says(piece: Delta) -> bool:
    return piece != Delta(choice=piece.choice)


def _speaks(piece: Piece) -> bool:
    return bool(piece.text) if type(piece) is Delta or type(piece) is TextRun else False
