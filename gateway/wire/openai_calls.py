"""The tool calls of a stream in OpenAI's format, told apart where servers number them badly, and named from their
beginning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from gateway.wire.values import ToolCallDelta


@dataclass(slots=True)
class _Call:
    """`given`: the id that the server gave it. `early`: its arguments until it has a name."""

    index: int
    id: str
    given: str | None
    named: bool = False
    early: list[str] = field(default_factory=list)

    def begun(self, name: str, type_: str) -> ToolCallDelta:
        self.named = True
        return ToolCallDelta(self.index, self.id, name, "".join(self.early), type_)


class StreamedCalls:
    """Gives each piece the index of its call, and each call its id and name with its first piece.

    Some servers give all parallel calls the same index (LMDeploy), or none (Gemini's endpoint, one call a chunk): there
    another id with a name begins the next call. Another id alone does not: older vLLMs make one for every piece. A call
    whose name comes behind its id waits for it. An id that another call has already is none (some servers give the
    function's name as the id): results find their calls by it.
    """

    __slots__ = ("_ids", "_last", "_nameless", "_next", "_used")

    def __init__(self, ids: CallIds) -> None:
        self._ids = ids
        self._last: dict[tuple[int, int], _Call] = {}
        self._nameless: dict[int, list[_Call]] = {}
        self._next: dict[int, int] = {}
        self._used: set[tuple[int, int]] = set()

    def read(self, choice: int, pieces: Sequence[ToolCallDelta], frame: bytes) -> Iterator[ToolCallDelta]:
        """What can be told of these pieces, which came in this frame."""
        for piece in pieces:
            call = self._last.get((choice, piece.index))
            if call is None or (call.named and piece.name and piece.id and piece.id != call.given):
                index = self._free(choice, piece.index)
                call = _Call(index, self._ids.of(piece.id, frame, choice, index), piece.id)
                self._last[choice, piece.index] = call
            if call.named:
                yield self._ids.further(piece, call.index)
                continue
            call.early.append(piece.arguments)
            if piece.name is not None:
                yield call.begun(piece.name, piece.type)
            elif len(call.early) == 1:
                self._nameless.setdefault(choice, []).append(call)

    def nameless(self, choice: int) -> Iterator[ToolCallDelta]:
        """The calls of a choice that ended without giving them a name."""
        for call in self._nameless.pop(choice, ()):
            if not call.named:
                yield call.begun("", "function")

    def _free(self, choice: int, index: int) -> int:
        """The index that a call asks for, or the next where another has it."""
        if (choice, index) in self._used:
            index = self._next[choice]
        self._used.add((choice, index))
        self._next[choice] = max(self._next.get(choice, 0), index + 1)
        return index


class CallIds:
    """Gives each call of an answer an id of its own: what its server calls it, where no other call of its choice is
    called so."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: set[tuple[int, str]] = set()

    def of(self, given: str | None, frame: bytes, choice: int, index: int) -> str:
        """The id of a call that began in this frame."""
        if not given or (choice, given) in self._taken:
            return derived_id(frame, choice, index)
        self._taken.add((choice, given))
        return given

    def further(self, piece: ToolCallDelta, index: int) -> ToolCallDelta:
        """A later piece of the call of this index, which has its id and name already."""
        return ToolCallDelta(index, arguments=piece.arguments, type=piece.type)


class CallIds1(CallIds):
    """As the first versions of the decoders had it: every call, and every piece, has the id that its server gave it."""

    __slots__ = ()

    def of(self, given: str | None, frame: bytes, choice: int, index: int) -> str:
        return given or derived_id(frame, choice, index)

    def further(self, piece: ToolCallDelta, index: int) -> ToolCallDelta:
        return replace(piece, index=index)


def derived_id(frame: bytes, choice: int, index: int) -> str:
    """An id for a call that has none: the same whenever the frame is read again, another for every other call."""
    return "call_" + sha256(b"%d,%d:" % (choice, index) + frame).hexdigest()[:24]
