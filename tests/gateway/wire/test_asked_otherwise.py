"""Servers that answer a stream with a body, and a body with a stream: what they say counts, not what was asked."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from gateway.wire.anthropic_messages import MessagesBodyDecoder, MessagesStreamDecoder
from gateway.wire.completions_answer import TextBodyDecoder, TextStreamDecoder
from gateway.wire.dialect import Form
from gateway.wire.messages.answer import MessagesBody, MessagesStream
from gateway.wire.messages.native import NativeBodyDecoder, NativeStreamDecoder
from gateway.wire.openai_chat import ChatBodyDecoder, ChatStreamDecoder
from gateway.wire.values import Decoder, Meta, WireError
from gateway.wire.whole_body import BodyFramer, EventsFramer
from tests.gateway.wire.reading import check_cut_is_no_success, check_split_proof, fold, read, script

Made = Callable[[], Decoder]
BODIES: list[tuple[str, Made, Made]] = [
    ("openai/body.json", ChatStreamDecoder, ChatBodyDecoder),
    ("openai/body_tools.json", ChatStreamDecoder, ChatBodyDecoder),
    ("completions/body.json", TextStreamDecoder, TextBodyDecoder),
    ("anthropic/body.json", MessagesStreamDecoder, MessagesBodyDecoder),
    ("anthropic/body.json", NativeStreamDecoder, MessagesBodyDecoder),
]
STREAMS: list[tuple[str, Made, Made]] = [
    ("openai/text.sse", ChatBodyDecoder, ChatStreamDecoder),
    ("openai/tools.sse", ChatBodyDecoder, ChatStreamDecoder),
    ("completions/text.sse", TextBodyDecoder, TextStreamDecoder),
    ("anthropic/tools.sse", MessagesBodyDecoder, MessagesStreamDecoder),
    ("anthropic/tools.sse", NativeBodyDecoder, MessagesStreamDecoder),
]


@pytest.mark.parametrize("blank", [b"", b" \n\n", b"\r\n"])
@pytest.mark.parametrize(("name", "asked", "right"), BODIES)
def test_a_body_for_a_stream(name: str, asked: Made, right: Made, blank: bytes) -> None:
    data, decoder = script(name), asked()
    came = fold(read(EventsFramer(), decoder, [blank, data[:9], data[9:]]))
    meant = fold(read(BodyFramer(), right(), [data]))
    assert decoder.complete
    assert (came.choices(), came.meta) == (meant.choices(), meant.meta)


@pytest.mark.parametrize(("name", "asked", "right"), STREAMS)
def test_a_stream_for_a_body(name: str, asked: Made, right: Made) -> None:
    data, decoder = script(name), asked()
    came = fold(read(BodyFramer(), decoder, [b": a comment\n\n", data]))
    meant = fold(read(EventsFramer(), right(), [data]))
    assert decoder.complete
    assert (came.choices(), came.meta) == (meant.choices(), meant.meta)


@pytest.mark.parametrize(("name", "asked", "_"), BODIES)
def test_a_body_for_a_stream_means_the_same_however_it_is_split_and_cut_it_is_no_success(
    name: str, asked: Made, _: Made
) -> None:
    check_split_proof(lambda: (EventsFramer(), asked()), script(name))
    check_cut_is_no_success(lambda: (EventsFramer(), asked()), script(name))


def test_a_cut_stream_for_a_body_is_no_success() -> None:
    data = script("anthropic/tools.sse")
    check_cut_is_no_success(lambda: (BodyFramer(), MessagesBodyDecoder()), data)


@pytest.mark.parametrize("made", [ChatStreamDecoder, ChatBodyDecoder])
def test_an_error_with_status_200_keeps_its_own(made: Made) -> None:
    (piece,) = made().decode([b'{"error":{"message":"model is loading","code":503}}'], None)
    assert isinstance(piece, Meta)
    assert piece.error is not None
    assert (piece.error.message, piece.error.status) == ("model is loading", 503)


@pytest.mark.parametrize("frame", [b"{}", b'{"choices":', b'{"data": 1}'])
def test_a_body_that_is_no_answer_is_none_in_a_stream_either(frame: bytes) -> None:
    with pytest.raises(WireError):
        ChatStreamDecoder().decode([frame], None)


def test_callers_who_speak_messages_get_what_they_asked_for() -> None:
    """Not the frame as it came."""
    form = Form(request_id="r", created=1, model="m", streamed=True)
    pieces = read(EventsFramer(), NativeStreamDecoder(), [script("anthropic/body.json")])
    stream = MessagesStream(form)
    sent = stream.pieces(pieces) + stream.completed(fold(pieces))
    assert sent.startswith(b"event: message_start\n")
    assert sent.endswith(b'data: {"type":"message_stop"}\n\n')
    pieces = read(BodyFramer(), NativeBodyDecoder(), [script("anthropic/text.sse")])
    assert orjson.loads(MessagesBody(form).completed(fold(pieces)))["content"][0]["type"] == "text"
