"""Ollama's answers, read."""

from __future__ import annotations

import orjson
import pytest

from eventstore.catalogue.values import Usage
from gateway.wire.ndjson import LineFramer
from gateway.wire.ollama import OllamaChatDecoder, error_of_body
from gateway.wire.values import Fold, TextRun, WireError
from gateway.wire.whole_body import BodyFramer
from tests.gateway.wire.reading import (
    check_cut_is_no_success,
    check_each_alone,
    check_split_proof,
    fold,
    read,
    script,
)

STREAMS = ["text", "tools", "thinking", "cached", "logprobs"]


def stream() -> tuple[LineFramer, OllamaChatDecoder]:
    return LineFramer(), OllamaChatDecoder()


def folded(name: str) -> Fold:
    return fold(read(*stream(), [script(f"ollama/{name}.ndjson")]))


@pytest.mark.parametrize("name", [*STREAMS, "error"])
def test_a_stream_means_the_same_however_it_is_split(name: str) -> None:
    check_split_proof(stream, script(f"ollama/{name}.ndjson"))


@pytest.mark.parametrize("name", STREAMS)
def test_a_cut_stream_is_no_success(name: str) -> None:
    check_cut_is_no_success(stream, script(f"ollama/{name}.ndjson"))


def test_a_cut_body_is_no_success() -> None:
    check_cut_is_no_success(lambda: (BodyFramer(), OllamaChatDecoder()), script("ollama/body.json"))


@pytest.mark.parametrize("name", [*STREAMS, "error"])
def test_frames_alone_mean_what_they_mean_together(name: str) -> None:
    check_each_alone(stream, script(f"ollama/{name}.ndjson"))


class AnyEndWillDo(OllamaChatDecoder):
    """The bug: an answer that has begun is taken for whole."""

    @property
    def complete(self) -> bool:
        return self._model is not None


def test_the_cut_check_notices_an_early_success() -> None:
    with pytest.raises(AssertionError, match="cut at byte"):
        check_cut_is_no_success(lambda: (LineFramer(), AnyEndWillDo()), script("ollama/text.ndjson"))


class FramesAreReads(LineFramer):
    """The bug: every read is taken for whole lines."""

    def feed(self, data: bytes) -> list[bytes]:
        return super().feed(data) + super().end()


def test_the_split_check_notices_a_framer_that_forgets() -> None:
    with pytest.raises((AssertionError, WireError)):
        check_split_proof(lambda: (FramesAreReads(), OllamaChatDecoder()), script("ollama/text.ndjson"))


def test_text() -> None:
    whole = folded("text")
    assert whole.choices()[0]["message"]["content"] == 'Hello → "wörld"\n \\ 🎉 {"text":"x"}!'
    assert (whole.finish_reason, whole.meta.model, whole.meta.ended) == ("stop", "qwen3:4b", True)
    assert whole.meta.usage == Usage(input_tokens=26, output_tokens=15)
    assert not whole.meta.usage_estimated
    assert whole.meta.usage_raw is not None
    assert whole.meta.usage_raw["total_duration"] == 4883583458


def test_text_goes_by_the_fast_lane_though_each_line_has_its_time() -> None:
    pieces = read(*stream(), [script("ollama/text.ndjson")])
    runs = [piece.text for piece in pieces if isinstance(piece, TextRun)]
    assert "".join(runs) == str(fold(pieces).choices()[0]["message"]["content"]).removeprefix("Hello")


def test_arguments_become_text_once_and_keep_every_digit() -> None:
    whole = folded("tools")
    weather, time = whole.choices()[0]["message"]["tool_calls"]
    assert weather["function"] == {
        "name": "get_weather",
        "arguments": '{"city":"Zürich","station":18446744073709551616123,"height":1.50}',
    }
    assert (time["id"], time["function"]["arguments"]) == ("call_x8wy2z3k", "{}")
    assert whole.finish_reason == "tool_calls"


def test_a_missing_id_is_derived_and_stays_the_same() -> None:
    line = b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":{}}},{"function":{"name":"f"}}]}}'
    once, again = (fold(read(*stream(), [line])).choices()[0]["message"]["tool_calls"] for _ in range(2))
    assert once == again
    assert once[0]["id"] != once[1]["id"]
    assert all(call["id"].startswith("call_") and len(call["id"]) == 29 for call in once)


def test_thinking_is_reasoning() -> None:
    message = folded("thinking").choices()[0]["message"]
    assert (message["reasoning_content"], message["content"]) == (
        "27 is 3³, so not prime.",
        "No, it is composite.",
    )


def test_a_cached_prompt_without_a_count_is_an_estimate() -> None:
    whole = folded("cached")
    assert (whole.finish_reason, whole.meta.usage_estimated) == ("length", True)


def test_logprobs_in_openai_shape() -> None:
    choice = folded("logprobs").choices()[0]
    (token,) = choice["logprobs"]["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("Hi", -0.25, [72, 105])
    assert token["top_logprobs"][1] == {"token": "Hé", "logprob": -1.5, "bytes": [72, 195, 169]}


def test_an_error_in_the_stream() -> None:
    framer, decoder = stream()
    whole = fold(read(framer, decoder, [script("ollama/error.ndjson")]))
    assert whole.meta.error is not None
    assert whole.meta.error.status == 500
    assert whole.choices()[0]["message"]["content"] == "Hello"
    assert not decoder.complete


@pytest.mark.parametrize("reason", ["load", "unload"])
def test_loading_a_model_is_no_answer(reason: str) -> None:
    framer, decoder = stream()
    line = orjson.dumps({"model": "m", "message": {"content": ""}, "done": True, "done_reason": reason})
    whole = fold(read(framer, decoder, [line]))
    assert whole.meta.error is not None
    assert not decoder.complete


def test_a_whole_body() -> None:
    whole = fold(read(BodyFramer(), OllamaChatDecoder(), [script("ollama/body.json")]))
    assert whole.choices()[0]["message"]["content"] == "No, 27 is composite."
    assert whole.choices()[0]["message"]["reasoning_content"] == "27 is 3³."
    assert whole.finish_reason == "stop"


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"nonsense",
        b'{"message":"x"}',
        b'{"message":{"tool_calls":{"a":1}}}',
        b'{"message":{"tool_calls":[{"function":{}}]}}',
        b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"a":"\\ud800"}}}]}}',
    ],
)
def test_what_the_format_does_not_allow_is_an_error(line: bytes) -> None:
    with pytest.raises(WireError):
        OllamaChatDecoder().decode([line], None)


def test_a_line_has_a_bound() -> None:
    framer = LineFramer(limit=10)
    assert framer.feed(b"123456789\n\r\n12345") == [b"123456789"]
    with pytest.raises(WireError):
        framer.feed(b"678901")


def test_errors_in_openai_words() -> None:
    missing = error_of_body(404, script("ollama/error.json"))
    assert (missing.status, missing.code, missing.param) == (404, "model_not_found", "model")
    assert missing.message == "model 'nothing' not found"
    runner = {"error": {"code": 400, "message": "8889 tokens exceed 4096", "type": "exceed_context_size_error"}}
    long = error_of_body(400, orjson.dumps({"error": orjson.dumps(runner).decode()}))
    assert (long.code, long.type, long.message) == (
        "context_length_exceeded",
        "invalid_request_error",
        "8889 tokens exceed 4096",
    )
    assert error_of_body(503, b"<html>").message == "the provider answered 503"
    assert error_of_body(503, b"").type == "server_error"
