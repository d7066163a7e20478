"""Anthropic's answers, read."""

from __future__ import annotations

import orjson
import pytest

from eventstore.catalogue.values import Usage
from eventstore.frames import SEP
from gateway.wire.anthropic_messages import MessagesBodyDecoder, MessagesStreamDecoder
from gateway.wire.anthropic_outcome import error_of_body, usage_of
from gateway.wire.sse import SSEFramer
from gateway.wire.values import Delta, Fold, TextRun, WireError
from gateway.wire.whole_body import BodyFramer, EventsFramer
from tests.gateway.wire.reading import (
    check_cut_is_no_success,
    check_each_alone,
    check_split_proof,
    fold,
    read,
    script,
)

STREAMS = ["text", "tools", "thinking", "cache", "refusal"]


def stream() -> tuple[EventsFramer, MessagesStreamDecoder]:
    return EventsFramer(), MessagesStreamDecoder()


def body() -> tuple[BodyFramer, MessagesBodyDecoder]:
    return BodyFramer(), MessagesBodyDecoder()


def folded(name: str) -> Fold:
    return fold(read(*stream(), [script(f"anthropic/{name}.sse")]))


@pytest.mark.parametrize("name", [*STREAMS, "error"])
def test_a_stream_means_the_same_however_it_is_split(name: str) -> None:
    check_split_proof(stream, script(f"anthropic/{name}.sse"))


@pytest.mark.parametrize("name", STREAMS)
def test_a_cut_stream_is_no_success(name: str) -> None:
    check_cut_is_no_success(stream, script(f"anthropic/{name}.sse"))


@pytest.mark.parametrize("name", [*STREAMS, "error"])
def test_frames_alone_mean_what_they_mean_together(name: str) -> None:
    check_each_alone(stream, script(f"anthropic/{name}.sse"))


def test_a_cut_body_is_no_success() -> None:
    check_cut_is_no_success(body, script("anthropic/body.json"))


class DoneAtFinishReason(MessagesStreamDecoder):
    """The bug: a stop reason is taken for the end."""

    @property
    def complete(self) -> bool:
        return bool(self._usage.get("output_tokens", 0) > 1)


def test_the_cut_check_notices_an_early_success() -> None:
    with pytest.raises(AssertionError, match="cut at byte"):
        check_cut_is_no_success(lambda: (SSEFramer(), DoneAtFinishReason()), script("anthropic/text.sse"))


class FramesAreReads(SSEFramer):
    """The bug: every read is taken for whole frames."""

    def feed(self, data: bytes) -> list[bytes]:
        return super().feed(data) + super().end()


def test_the_split_check_notices_a_framer_that_forgets() -> None:
    with pytest.raises((AssertionError, WireError)):
        check_split_proof(lambda: (FramesAreReads(), MessagesStreamDecoder()), script("anthropic/text.sse"))


def test_text_takes_the_fast_lane() -> None:
    pieces = read(*stream(), [script("anthropic/text.sse")])
    runs = [piece for piece in pieces if isinstance(piece, TextRun)]
    assert sum(len(run.escaped.split(SEP)) for run in runs) == 7  # all but the frame that is the template
    whole = fold(pieces)
    assert whole.choices()[0]["message"]["content"] == 'Hello → "wörld"\n \\ 🎉 {"text":"x"}!'
    assert (whole.finish_reason, whole.meta.ended, whole.meta.model) == ("stop", True, "claude-sonnet-4-5-20250929")
    assert whole.meta.id == "msg_01XFDUDYJgAACzvnptvVoYEL"
    assert whole.meta.usage == Usage(input_tokens=25, output_tokens=15)
    assert not whole.meta.usage_estimated


def test_usage_of_a_stream_that_is_not_over_is_marked() -> None:
    data = script("anthropic/text.sse")
    meta = fold(read(*stream(), [data[: data.index(b"event: message_delta")]])).meta
    assert meta.usage == Usage(input_tokens=25, output_tokens=1)
    assert meta.usage_estimated


def test_tool_calls_stream_as_text_and_no_arguments_are_an_empty_object() -> None:
    message = folded("tools").choices()[0]
    assert message["finish_reason"] == "tool_calls"
    weather, time = message["message"]["tool_calls"]
    assert weather["id"] == "toolu_01T1x1fJ34qAmk2tNTrN7Up6"
    assert weather["function"] == {
        "name": "get_weather",
        "arguments": '{"city": "Zürich", "station": 18446744073709551616123}',
    }
    assert time["function"] == {"name": "get_time", "arguments": "{}"}


def test_thinking_is_reasoning_and_its_signed_blocks_ride_along() -> None:
    whole = folded("thinking")
    message = whole.choices()[0]["message"]
    assert message["content"] == "No, 27 is composite."
    assert message["reasoning_content"] == "27 is 3³, so it is not prime."
    signed, redacted = message["thinking_blocks"]
    assert signed["thinking"] == message["reasoning_content"]
    assert signed["signature"] == "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk="
    assert redacted == {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix/LafPsn4a"}
    assert whole.meta.usage == Usage(input_tokens=40, output_tokens=64, reasoning_tokens=41)


def test_the_last_usage_wins_and_the_prompt_includes_what_was_cached() -> None:
    whole = folded("cache")
    assert whole.meta.usage == Usage(
        input_tokens=512 + 1400 + 2600,
        cache_read_tokens=2600,
        cache_write_5m_tokens=400,
        cache_write_1h_tokens=1000,
        output_tokens=33,
        web_search_requests=1,
    )
    assert whole.meta.usage_raw is not None
    assert whole.meta.usage_raw["cache_creation_input_tokens"] == 1400


def test_the_providers_own_tools_are_no_calls_of_the_client() -> None:
    message = folded("cache").choices()[0]["message"]
    assert "tool_calls" not in message
    assert message["content_blocks"][0]["input"] == {"query": "rain in Bern"}
    assert message["content_blocks"][1]["type"] == "web_search_tool_result"
    assert message["citations"][0]["url"] == "https://weather.example/bern"


def test_an_error_in_the_stream_has_a_status() -> None:
    framer, decoder = stream()
    whole = fold(read(framer, decoder, [script("anthropic/error.sse")]))
    assert whole.meta.error is not None
    assert (whole.meta.error.status, whole.meta.error.code) == (529, "overloaded")
    assert whole.meta.error.message == "Overloaded"
    assert whole.choices()[0]["message"]["content"] == "Hello"
    assert not decoder.complete


def test_a_refusal_says_why() -> None:
    choice = folded("refusal").choices()[0]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["stop_details"]["category"] == "cyber"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("a_reason_of_next_year", "stop"),
    ],
)
def test_stop_reasons(reason: str, expected: str) -> None:
    answer = orjson.loads(script("anthropic/body.json")) | {"stop_reason": reason}
    pieces = MessagesBodyDecoder().decode([orjson.dumps(answer)], None)
    last = pieces[-1]
    assert isinstance(last, Delta)
    assert last.finish_reason == expected
    assert (last.extra or {}).get("stop_reason") == (
        None if reason in {"end_turn", "tool_use", "max_tokens"} else reason
    )


def test_a_whole_body() -> None:
    framer, decoder = body()
    whole = fold(read(framer, decoder, [script("anthropic/body.json")]))
    message = whole.choices()[0]["message"]
    assert decoder.complete
    assert message["content"] == "Let me check → now."
    assert message["thinking_blocks"][0]["signature"] == "EqoBCkgIARABGAIiQL8="
    arguments = message["tool_calls"][0]["function"]["arguments"]
    assert arguments == '{"city":"Zürich","station":18446744073709551616123,"height":1.50}'
    assert whole.meta.usage == Usage(
        input_tokens=2312, cache_read_tokens=2000, cache_write_5m_tokens=300, output_tokens=60
    )


def test_usage_without_a_total_of_writes_is_summed() -> None:
    raw = {"input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3}}
    assert usage_of(raw) == Usage(input_tokens=6, cache_write_5m_tokens=2, cache_write_1h_tokens=3)


@pytest.mark.parametrize(
    "frame",
    [
        b"data: []",
        b"data: nonsense",
        b'data: {"type":"message_start"}',
        b'data: {"type":"content_block_start","content_block":{"type":"text"}}',
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}',
        b'data: {"type":"message_delta","delta":null,"usage":{}}',
    ],
)
def test_what_the_format_does_not_allow_is_an_error(frame: bytes) -> None:
    with pytest.raises(WireError):
        MessagesStreamDecoder().decode([frame], None)


def test_events_of_later_versions_are_passed_over() -> None:
    frames = [b'event: novelty\ndata: {"type":"novelty"}', b"event: ping\ndata: {}", b"event: ping"]
    assert MessagesStreamDecoder().decode(frames, None) == []


def test_errors_in_openai_words() -> None:
    error = error_of_body(404, script("anthropic/error.json"))
    assert (error.status, error.type, error.code) == (404, "invalid_request_error", "model_not_found")
    assert error.message == "model: claude-0"
    page = error_of_body(502, b"<html>bad gateway sk-secret</html>")
    assert (page.status, page.type, page.message) == (502, "server_error", "the provider answered 502")
    limited = error_of_body(429, b"[]")
    assert (limited.type, limited.code) == ("rate_limit_error", "rate_limit_exceeded")
