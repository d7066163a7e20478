"""Tool calls in streams and bodies of every family, decoded live in any batches and again from recorded rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.envelope import RecordedFrames
from eventstore.errors import UnknownEventType
from eventstore.frames import FrameReader, FrameRun, Part, Template
from gateway.wire.decoders import decoder_named
from gateway.wire.fastlane import batches
from gateway.wire.openai_chat import ChatBodyDecoder, ChatStreamDecoder
from gateway.wire.openai_chat_answer import ChatBody, ChatStream
from gateway.wire.tooltext.decoder import ToolTextDecoder
from gateway.wire.tooltext.formats import FORMATS, Format
from gateway.wire.values import Decoder, Fold, Piece
from tests.gateway.wire.reading import fold
from tests.gateway.wire.tooltext.texts import answers, expected, splits

SEED = "01JD0000000000000000000000"
TEXT = 'Let me see.\n<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'


def chunk(delta: dict[str, Any], reason: str | None = None, choice: int = 0) -> bytes:
    """An SSE frame of a chat stream."""
    said = {"choices": [{"index": choice, "delta": delta, "finish_reason": reason}]}
    return b"data: " + json.dumps(said, separators=(",", ":")).encode()


def stream(pieces: Sequence[str], reason: str | None = "stop") -> list[bytes]:
    """The frames of an answer whose text comes in these pieces."""
    return [*(chunk({"content": piece}) for piece in pieces), chunk({}, reason), b"data: [DONE]"]


def decoder(format: Format | str = "hermes", seed: str = SEED) -> Decoder:
    made = FORMATS[format] if isinstance(format, str) else format
    return ToolTextDecoder(ChatStreamDecoder(), made, seed)


def live(reading: Decoder, reads: Sequence[Sequence[bytes]]) -> tuple[list[Piece], list[RecordedFrames]]:
    """The pieces as the exchange sees them, and the rows that it records."""
    run, pieces, rows = FrameRun(1), list[Piece](), list[RecordedFrames]()
    for batch, opens in (each for read in reads for each in batches(read, reading, run.template)):
        new, parts = run.pack(batch, 0, opens)
        pieces += reading.decode(parts, run.template)
        rows += [RecordedFrames(1, 1, 0, row.frame, row.count, row.offset_us, row.codec, row.bytes) for row in new]
    return pieces, rows


def replayed(reading: Decoder, rows: Sequence[RecordedFrames]) -> list[Piece]:
    """The pieces as a replay sees them, row by row."""
    reader, pieces = FrameReader(), list[Piece]()
    for row in rows:
        parts = reader.parts(row)
        pieces += reading.decode(parts, reader.template)
    return pieces


def as_stream(pieces: Sequence[Piece]) -> bytes:
    renderer = ChatStream("r", 1, "m", usage_chunk=False)
    return renderer.pieces(pieces) + renderer.completed(fold(pieces))


def chunks(pieces: Sequence[Piece]) -> list[Any]:
    """The same, without how characters are escaped, which is the upstream's choice."""
    return [json.loads(line[6:]) for line in as_stream(pieces).split(b"\n\n")[:-2]]


def message(whole: Fold) -> dict[str, Any]:
    return whole.choices()[0]["message"]


def called(whole: Fold) -> list[tuple[str, Any]]:
    calls = message(whole).get("tool_calls") or ()
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_batches_make_no_difference(data: st.DataObject) -> None:
    format, parts = data.draw(answers())
    frames = stream(data.draw(splits("".join(part.written for part in parts))))
    sizes = data.draw(st.lists(st.integers(1, len(frames)), max_size=6))
    starts = sorted({0, *(sum(sizes[:i]) for i in range(len(sizes)) if sum(sizes[:i]) < len(frames))})
    batches = [frames[a:b] for a, b in zip(starts, [*starts[1:], len(frames)], strict=True)]
    pieces, rows = live(decoder(format), batches)
    again = decoder_named(decoder(format).name, SEED)
    assert as_stream(replayed(again, rows)) == as_stream(pieces)
    alone, _ = live(decoder(format), [[frame] for frame in frames])
    assert chunks(alone) == chunks(pieces)
    alike = decoder(format)
    each = [piece for frame in frames for piece in alike.decode([frame], None)]
    assert chunks(each) == chunks(pieces)
    whole = fold(pieces)
    text, calls = expected(parts)
    assert (message(whole)["content"] or "", called(whole)) == (text, calls)
    assert whole.finish_reason == ("tool_calls" if calls else "stop")


def test_a_call_becomes_a_tool_call() -> None:
    pieces, _ = live(decoder(), [stream([TEXT[:20], TEXT[20:50], TEXT[50:]])])
    whole = fold(pieces)
    assert message(whole)["content"] == "Let me see.\n"
    (call,) = message(whole)["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert whole.finish_reason == "tool_calls"


def test_ids_are_made_from_the_request_the_choice_and_the_number() -> None:
    def ids(seed: str) -> list[str]:
        pieces, _ = live(decoder(seed=seed), [stream([TEXT, TEXT])])
        return [call["id"] for call in message(fold(pieces))["tool_calls"]]

    assert len({*ids(SEED), *ids("another")}) == 4
    assert ids(SEED) == ids(SEED)


def test_the_first_delta_of_a_call_has_its_name_and_the_next_its_arguments() -> None:
    pieces, _ = live(decoder(), [stream([TEXT])])
    deltas = [json.loads(line[6:])["choices"][0] for line in as_stream(pieces).split(b"\n\n") if b"tool_calls" in line]
    assert [delta["delta"].get("tool_calls", [{}])[0].get("function") for delta in deltas] == [
        {"name": "f", "arguments": ""},
        {"arguments": '{"x":1}'},
        None,
    ]
    assert deltas[-1]["finish_reason"] == "tool_calls"


def test_choices_are_parsed_apart() -> None:
    frames = [chunk({"content": part}, choice=n) for part in (TEXT[:30], TEXT[30:]) for n in (0, 1)]
    pieces, _ = live(decoder(), [[*frames, chunk({}, "stop"), chunk({}, "stop", 1), b"data: [DONE]"]])
    choices = fold(pieces).choices()
    assert [len(choice["message"]["tool_calls"]) for choice in choices] == [1, 1]
    assert len({choice["message"]["tool_calls"][0]["id"] for choice in choices}) == 2


def test_what_the_upstream_itself_calls_is_numbered_among_all() -> None:
    native = {"tool_calls": [{"index": 0, "id": "n", "function": {"name": "native", "arguments": "{}"}}]}
    frames = [chunk({"content": TEXT}), chunk(native), chunk({"content": TEXT}), *stream([])]
    pieces, _ = live(decoder(), [frames])
    assert [name for name, _ in called(fold(pieces))] == ["f", "native", "f"]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_another_reason_stays(reason: str) -> None:
    assert fold(live(decoder(), [stream([TEXT], reason)])[0]).finish_reason == reason


def test_a_stream_without_a_reason_gives_what_was_held_back() -> None:
    pieces, _ = live(decoder(), [[chunk({"content": TEXT[:-3]}), b"data: [DONE]"]])
    assert called(fold(pieces)) == [("f", {"x": 1})]
    assert fold(pieces).finish_reason == "tool_calls"
    pieces, _ = live(decoder(), [[chunk({"content": "<tool_call>"}), b"data: [DONE]"]])
    assert message(fold(pieces))["content"] == "<tool_call>"


def test_reasoning_and_usage_pass() -> None:
    thinking = chunk({"reasoning_content": "<tool_call>{}</tool_call>"})
    pieces, _ = live(decoder(), [[thinking, *stream([TEXT])]])
    assert message(fold(pieces))["reasoning_content"] == "<tool_call>{}</tool_call>"
    assert len(called(fold(pieces))) == 1


def test_a_whole_body() -> None:
    said = {
        "choices": [{"message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3},
    }
    reading = ToolTextDecoder(ChatBodyDecoder(), FORMATS["hermes"], SEED)
    whole = fold(reading.decode([json.dumps(said).encode()], None))
    assert reading.complete
    body = json.loads(ChatBody("r", 1, "m").completed(whole))
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    assert body["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "f"
    assert body["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize("name", ["openai_chat_stream.1+tools.hermes.9", "openai_chat_stream.9", "+tools.hermes.1"])
def test_a_name_that_nobody_has_is_unknown(name: str) -> None:
    with pytest.raises(UnknownEventType):
        decoder_named(name, SEED)


class Hasty(ToolTextDecoder):
    """Twin: ends the text with each batch, so that what is found depends on how frames were batched."""

    def decode(self, parts: Sequence[Part], template: Template | None) -> list[Piece]:
        pieces = super().decode(parts, template)
        return [*pieces, *(delta for choice in self._choices.values() for delta in choice.end())]


def test_twin_a_decoder_that_depends_on_batches_is_noticed() -> None:
    frames = stream([TEXT[:30], TEXT[30:]])
    together, _ = live(Hasty(ChatStreamDecoder(), FORMATS["hermes"], SEED), [frames])
    alone, _ = live(Hasty(ChatStreamDecoder(), FORMATS["hermes"], SEED), [[frame] for frame in frames])
    assert chunks(together) != chunks(alone)
