"""Whatever an upstream says, in any family's words: it has a meaning that can be recorded and rendered, or it is a
`WireError`. Nothing else may come out of a decoder, or a request would have no end."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.decoders import DECODERS
from gateway.wire.ndjson import LineFramer
from gateway.wire.openai_chat import ChatStreamDecoder
from gateway.wire.openai_chat_answer import ChatBody, ChatStream
from gateway.wire.sse import SSEFramer, read_frame
from gateway.wire.values import Decoder, Delta, Framer, WireError
from gateway.wire.whole_body import BodyFramer
from tests.gateway.wire.reading import SCRIPTS, fold, read

FAMILIES: Mapping[str, tuple[str, Callable[[], Framer]]] = {
    "openai_chat_stream.1": ("openai/*.sse", SSEFramer),
    "openai_chat_stream.2": ("openai/*.sse", SSEFramer),
    "openai_chat_body.1": ("openai/body*.json", BodyFramer),
    "openai_chat_body.2": ("openai/body*.json", BodyFramer),
    "anthropic_messages_stream.1": ("anthropic/*.sse", SSEFramer),
    "anthropic_messages_body.1": ("anthropic/body*.json", BodyFramer),
    "anthropic_messages_native_stream.1": ("anthropic/*.sse", SSEFramer),
    "anthropic_messages_native_body.1": ("anthropic/body*.json", BodyFramer),
    "ollama_chat.1": ("ollama/*.ndjson", LineFramer),
    "openai_text_stream.1": ("completions/*.sse", SSEFramer),
    "openai_text_body.1": ("completions/body.json", BodyFramer),
    "whole_json.1": ("whole/*.json", BodyFramer),
    "whole_raw.1": ("whole/*.json", BodyFramer),
    "speech.1": ("whole/*.json", BodyFramer),
    "transcript.1": ("whole/*.json", BodyFramer),
    "ollama_embed.1": ("ollama_embed/*.json", BodyFramer),
    "rerank.1": ("rerank/*.json", BodyFramer),
}
DEEP = json.loads("[" * 300 + "]" * 300)
HOSTILE = st.sampled_from([
    None, True, 0, -1, 1.5, 2**63, 2**64, 10**400, float("nan"), float("inf"), "", "x", "0", "\ud800",
    [], [1], ["x"], [[]], [None], [{}], DEEP, {}, {"x": 1}, {"text": []}, {"index": "0"},
])  # fmt: skip


def test_every_decoder_is_tried() -> None:
    assert FAMILIES.keys() == DECODERS.keys()


def frames_of(decoder: str) -> list[list[bytes]]:
    """The frames of each script of the family."""
    pattern, framer = FAMILIES[decoder]
    scripts = [path.read_bytes() for path in sorted(SCRIPTS.glob(pattern))]
    assert scripts
    made = []
    for script in scripts:
        cutter = framer()
        made.append(cutter.feed(script) + cutter.end())
    return made


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside this one."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*path, key)
        yield from places(inner, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at the path."""
    changed = copy.deepcopy(value)
    into = changed
    for step in path[:-1]:
        into = into[step]
    into[path[-1]] = new
    return changed


def said(frame: bytes, value: Any) -> bytes:
    """The frame with this value as its data, as Python's json writes it: with NaN, lone surrogates, long integers."""
    name, data = read_frame(frame)
    text = json.dumps(value).encode()
    if data is None or not frame.startswith((b"data", b"event")):
        return text
    return (b"event: " + name + b"\n" if name else b"") + b"data: " + text


def value_of(frame: bytes) -> Any:
    """Its data, None where that is no JSON object."""
    data = read_frame(frame)[1] if frame.startswith((b"data", b"event")) else frame
    try:
        return orjson.loads(data or b"")
    except orjson.JSONDecodeError:
        return None


class Frames:
    """A framer whose one part is these frames."""

    def __init__(self, frames: list[bytes]) -> None:
        self._frames = frames

    def feed(self, data: bytes) -> list[bytes]:
        return self._frames

    def end(self) -> list[bytes]:
        return []


def check_it_can_be_told(make: Callable[[], Decoder], frames: list[bytes]) -> None:
    """The frames are a `WireError`, or pieces that can be recorded and rendered, streamed and whole."""
    try:
        make().decode(frames, None)
        pieces = read(Frames(frames), make(), [b""])
    except WireError:
        return
    whole = fold(pieces)
    orjson.dumps([whole.choices(), whole.meta.usage_raw, whole.meta.usage, whole.meta.model, whole.meta.id])
    stream = ChatStream("r", 0, "m", True)
    for frame in (stream.pieces(pieces) + stream.completed(whole)).split(b"\n\n")[:-2]:
        orjson.loads(frame.removeprefix(b"data: "))
    orjson.loads(ChatBody("r", 0, "m").completed(whole))
    if whole.meta.error is not None:
        assert isinstance(whole.meta.error.message, str)
        assert 400 <= whole.meta.error.status <= 599


@pytest.mark.parametrize("decoder", FAMILIES)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_value_anywhere(decoder: str, data: st.DataObject) -> None:
    frames = list(data.draw(st.sampled_from(frames_of(decoder)), label="script"))
    index = data.draw(st.integers(0, len(frames) - 1), label="frame")
    value = value_of(frames[index])
    if value is None:
        return
    path = data.draw(st.sampled_from(sorted(places(value), key=repr)), label="path")
    frames[index] = said(frames[index], put(value, path, data.draw(HOSTILE, label="value")))
    check_it_can_be_told(DECODERS[decoder], frames)


@pytest.mark.parametrize("decoder", FAMILIES)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_frames_left_out_or_out_of_order(decoder: str, data: st.DataObject) -> None:
    frames = data.draw(st.sampled_from(frames_of(decoder)))
    check_it_can_be_told(DECODERS[decoder], data.draw(st.lists(st.sampled_from(frames), max_size=12)))


class Trusting(ChatStreamDecoder):
    """The bug: a finish reason is taken as it comes."""

    def decode(self, parts: Any, template: Any) -> Any:
        pieces = super().decode(parts, template)
        for piece in pieces:
            if isinstance(piece, Delta):
                piece.finish_reason = 10**30  # type: ignore[assignment]
        return pieces


def test_the_check_notices_what_cannot_be_told() -> None:
    with pytest.raises(TypeError):
        check_it_can_be_told(Trusting, frames_of("openai_chat_stream.1")[0])
