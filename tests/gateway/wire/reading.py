"""Reading a script as the exchange does: framed, packed, decoded; and the checks that every reader must pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from eventstore.frames import SEP, FrameRun
from gateway.wire.fastlane import batches
from gateway.wire.values import Decoder, Delta, Fold, Framer, Piece, TextRun, WireError

SCRIPTS = Path(__file__).parents[1] / "scripts"


def script(name: str) -> bytes:
    """The bytes of a script."""
    return (SCRIPTS / name).read_bytes()


def read(framer: Framer, decoder: Decoder, parts: Sequence[bytes]) -> list[Piece]:
    """The pieces of an answer that arrives in these parts and then ends. Raises `WireError`."""
    run = FrameRun(1)
    pieces: list[Piece] = []
    for part in (*parts, None):
        frames = framer.end() if part is None else framer.feed(part)
        if frames:
            for batch, opens in batches(frames, decoder, run.template):
                _, parts_ = run.pack(batch, 0, opens)
                pieces += decoder.decode(parts_, run.template)
    return pieces


def fold(pieces: Sequence[Piece]) -> Fold:
    """The whole answer."""
    whole = Fold()
    whole.add(pieces)
    return whole


def plain(pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    """The pieces as values to compare: a run of text is its texts, one by one."""
    return [value for piece in pieces for value in _plain(piece)]


def _plain(piece: Piece) -> Iterator[dict[str, Any]]:
    if not isinstance(piece, TextRun):
        yield asdict(piece)
        return
    texts = [orjson.loads(b'"' + escaped + b'"') for escaped in piece.escaped.split(SEP)]
    assert piece.text == "".join(texts)
    for text in texts:
        yield asdict(Delta(text=text))


Reader = Callable[[], tuple[Framer, Decoder]]


def check_split_proof(reader: Reader, data: bytes) -> None:
    """Wherever the bytes are split, and byte by byte, the same pieces come out."""
    whole = plain(read(*reader(), [data]))
    assert whole
    for at in range(1, len(data)):
        assert plain(read(*reader(), [data[:at], data[at:]])) == whole, f"split at byte {at}"
    assert plain(read(*reader(), [data[i : i + 1] for i in range(len(data))])) == whole


def check_cut_is_no_success(reader: Reader, data: bytes) -> None:
    """Cut anywhere before its last value is whole, an answer is not complete; uncut it is."""
    last = data.rindex(b"}")
    for at in range(last + 1):
        framer, decoder = reader()
        try:
            read(framer, decoder, [data[:at]])
        except WireError:
            pass  # a value was cut: that is no success either
        assert not decoder.complete, f"complete, though cut at byte {at}"
    framer, decoder = reader()
    read(framer, decoder, [data])
    assert decoder.complete


def check_each_alone(reader: Reader, data: bytes) -> None:
    """Frame by frame means the same as all together."""
    framer, decoder = reader()
    frames = framer.feed(data) + framer.end()
    each = [piece for frame in frames for piece in decoder.decode([frame], None)]
    assert plain(each) == plain(read(*reader(), [data]))
