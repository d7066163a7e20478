"""An answer that may cost so much and no more. Pure: it counts what comes, and says when it was too much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eventstore.catalogue.values import Usage, Usd
from gateway.exchange.attempt import Attempt
from gateway.exchange.estimate import estimate
from gateway.wire.values import Delta, Piece, TextRun

CostOf = Callable[[Usage], Usd | None]
"""What an attempt costs that used so much, on top of the attempts before it; None where there is no price."""


class CapReached(Exception):
    """The answer has cost what its request allows. What came until then is kept."""


class Capped(Attempt):
    """Ends itself at the frame with which its cost passes `most`.

    Until the provider says what was used, that is estimated from the request's bytes and the answer's characters.
    """

    __slots__ = ("_characters", "_cost_of", "_most", "_prompt_bytes")

    def __init__(self, *attempt: Any, prompt_bytes: int, cost_of: CostOf, most: Usd) -> None:
        super().__init__(*attempt)
        self._prompt_bytes, self._cost_of, self._most = prompt_bytes, cost_of, most
        self._characters = 0

    def add(self, pieces: list[Piece], now: float) -> None:
        """Raises `CapReached` behind the pieces that were too much, unless they are the last."""
        super().add(pieces, now)
        self._characters += characters(pieces)
        if not self.ended and not self.decoder.complete and self._spent() > self._most:
            raise CapReached

    def _spent(self) -> Usd:
        usage, guess = self.fold.meta.usage, estimate(self._prompt_bytes, self._characters)
        if usage is None or usage.output_tokens < guess.output_tokens:  # a count that was sent before the answer
            usage = guess
        return self._cost_of(usage) or Usd(0)


def characters(pieces: Sequence[Piece]) -> int:
    """How much text, reasoning, refusal and arguments these pieces add."""
    return sum(map(_length, pieces))


def _length(piece: Piece) -> int:
    if isinstance(piece, TextRun):
        return len(piece.text)
    if isinstance(piece, Delta):
        calls = sum(len(call.arguments) for call in piece.tool_calls)
        return len(piece.text) + len(piece.reasoning) + len(piece.refusal) + calls
    return 0
