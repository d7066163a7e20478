"""An answer that is shown only once it is known to be right: its pieces are held back until it is whole, and what
earlier attempts took is counted with it. The same live and in replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from eventstore.catalogue.values import Usage
from gateway.wire.dialect import Renderer
from gateway.wire.structure import only_json
from gateway.wire.values import Delta, Fold, Meta, Piece, ToolCallDelta

HELD = "json.1"
"""How a held answer is cleaned before it is shown; `generation_started` names it."""


class Held:
    """Around an answer's renderer, over all its attempts."""

    def __init__(self, inner: Renderer) -> None:
        self._inner = inner
        self._spent: Usage | None = None

    def again(self, fold: Fold) -> None:
        """The attempt with this answer is dropped; another follows."""
        self._spent = summed(self._spent, fold.meta.usage)

    def pieces(self, pieces: Sequence[Piece]) -> bytes:
        """Nothing yet."""
        return b""

    def completed(self, fold: Fold) -> bytes:
        """All of it."""
        pieces = self._shown(fold)
        shown = Fold()
        shown.add(pieces)
        return self._inner.pieces(pieces) + self._inner.completed(shown)

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The error, behind nothing."""
        return self._inner.failed(error)

    def _shown(self, fold: Fold) -> list[Piece]:
        meta = fold.meta
        usage, raw = (meta.usage, meta.usage_raw) if self._spent is None else (summed(self._spent, meta.usage), None)
        pieces: list[Piece] = [Meta(usage=usage, usage_raw=raw, model=meta.model, id=meta.id, top=meta.top)]
        for choice in fold.choices():
            message = choice["message"]
            pieces.append(
                Delta(
                    choice=choice["index"],
                    text=only_json(message.get("content") or ""),
                    reasoning=message.get("reasoning_content") or "",
                    refusal=message.get("refusal") or "",
                    tool_calls=[_call(i, call) for i, call in enumerate(message.get("tool_calls") or ())],
                    finish_reason=choice.get("finish_reason"),
                    logprobs=choice.get("logprobs"),
                )
            )
        return pieces


def _call(index: int, call: Mapping[str, Any]) -> ToolCallDelta:
    inner = call[call["type"]]
    return ToolCallDelta(
        index=index,
        id=call["id"],
        name=inner["name"],
        arguments=inner.get("arguments", inner.get("input", "")),
        type=call["type"],
    )


def summed(one: Usage | None, other: Usage | None) -> Usage | None:
    """Both together; what is not known counts for nothing."""
    if one is None or other is None:
        return one or other
    return Usage(**{field.name: getattr(one, field.name) + getattr(other, field.name) for field in fields(Usage)})
