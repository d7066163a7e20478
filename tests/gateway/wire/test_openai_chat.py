"""OpenAI chat completions, read: from OpenAI and from others who speak the format in ways of their own."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from eventstore.catalogue.values import Usage
from gateway.wire.decoders import decoder_named
from gateway.wire.openai_chat import (
    ChatBodyDecoder,
    ChatStreamDecoder,
    error_of,
    meta_of,
    usage_of,
    usage_to_openai,
)
from gateway.wire.sse import SSEFramer
from gateway.wire.values import Delta, Fold, Meta, TextRun, WireError
from gateway.wire.whole_body import BodyFramer, EventsFramer
from tests.gateway.wire.reading import (
    check_cut_is_no_success,
    check_each_alone,
    check_split_proof,
    fold,
    read,
    script,
)

TEXT = 'Hello → "wörld"\n \\ 🎉 {"content":"x"}","y":"!'
STREAMS = [
    "text", "tools", "logprobs", "two_choices", "refusal", "reasoning", "openrouter", "azure", "usage_twice", "mlx_lm",
    "transformers",
]  # fmt: skip
BROKEN = ["error", "openrouter_error"]
BODIES = ["body", "body_tools"]


def stream() -> tuple[EventsFramer, ChatStreamDecoder]:
    return EventsFramer(), ChatStreamDecoder()


def body() -> tuple[BodyFramer, ChatBodyDecoder]:
    return BodyFramer(), ChatBodyDecoder()


def folded(name: str) -> Fold:
    return fold(read(*stream(), [script(f"openai/{name}.sse")]))


def message(name: str) -> dict[str, Any]:
    """The first choice's message."""
    value = folded(name).choices()[0]["message"]
    assert isinstance(value, dict)
    return value


def up_to_the_end(data: bytes) -> bytes:
    """The stream as far as its last finish reason: what comes behind is not needed for a whole answer."""
    finished = max(data.rindex(b"\n", 0, data.rindex(word)) for word in (b'"stop"', b'"length"', b'"tool_calls"}')
                   if word in data)  # fmt: skip
    return data[: data.index(b"\n\n", finished + 1)]


@pytest.mark.parametrize("name", [*STREAMS, *BROKEN])
def test_a_stream_means_the_same_however_it_is_split(name: str) -> None:
    check_split_proof(stream, script(f"openai/{name}.sse"))


@pytest.mark.parametrize("name", BODIES)
def test_a_body_means_the_same_however_it_is_split(name: str) -> None:
    check_split_proof(body, script(f"openai/{name}.json"))


@pytest.mark.parametrize("name", STREAMS)
def test_a_cut_stream_is_no_success(name: str) -> None:
    check_cut_is_no_success(stream, up_to_the_end(script(f"openai/{name}.sse")))


@pytest.mark.parametrize("name", BODIES)
def test_a_cut_body_is_no_success(name: str) -> None:
    check_cut_is_no_success(body, script(f"openai/{name}.json"))


class FirstEndWillDo(ChatStreamDecoder):
    """The bug: the first choice's end is taken for the end of all."""

    @property
    def complete(self) -> bool:
        return self._done or any(self._finished.values())


def test_the_cut_check_notices_an_early_success() -> None:
    data = up_to_the_end(script("openai/two_choices.sse"))
    with pytest.raises(AssertionError, match="cut at byte"):
        check_cut_is_no_success(lambda: (SSEFramer(), FirstEndWillDo()), data)


@pytest.mark.parametrize("name", [*STREAMS, *BROKEN])
def test_frames_alone_mean_what_they_mean_together(name: str) -> None:
    check_each_alone(stream, script(f"openai/{name}.sse"))


@pytest.mark.parametrize("name", BODIES)
def test_a_body_alone_means_the_same(name: str) -> None:
    check_each_alone(body, script(f"openai/{name}.json"))


@pytest.mark.parametrize("name", ["text", "mlx_lm", "transformers"])
def test_text_that_looks_like_its_own_frame(name: str) -> None:
    assert message(name)["content"] == TEXT


@pytest.mark.parametrize("name", ["text", "mlx_lm"])
def test_text_goes_by_the_fast_lane_padded_or_not(name: str) -> None:
    assert (b'"obfuscation":"' in script(f"openai/{name}.sse")) is (name == "text")
    runs = [piece for piece in read(*stream(), [script(f"openai/{name}.sse")]) if isinstance(piece, TextRun)]
    assert "".join(run.text for run in runs) == TEXT.removeprefix("Hello")  # the first text is the template's


@pytest.mark.parametrize("padding", ["obfuscation", "p"])
def test_padding_is_no_news(padding: str) -> None:
    frames = [chunk(delta={"content": "a"})[:-1] + f',"{padding}":"{"abcdef"[:size]}"}}'.encode() for size in range(6)]
    pieces = read(*stream(), [b"\n\n".join(frames) + b"\n\n"])
    assert [type(piece) for piece in pieces] == [Delta, TextRun]
    assert fold(pieces).choices()[0]["message"]["content"] == "aaaaaa"


def test_what_a_stream_says_about_itself() -> None:
    whole = folded("text")
    meta = whole.meta
    assert (whole.finish_reason, meta.model, meta.id, meta.ended) == (
        "stop", "gpt-5.2-2025-12-11", "chatcmpl-CgHx7Qm2", True,
    )  # fmt: skip
    assert meta.top == {"system_fingerprint": "fp_9c1b2e", "service_tier": "default"}
    assert meta.usage == Usage(input_tokens=26, cache_read_tokens=4, output_tokens=15)


def test_parallel_tool_calls_are_put_together_by_index() -> None:
    calls = message("tools")["tool_calls"]
    assert [(call["id"], call["function"]["name"]) for call in calls] == [
        ("call_ZUe1", "get_weather"),
        ("call_Tim2", "get_time"),
    ]
    assert [call["function"]["arguments"] for call in calls] == [
        '{"city":"Zürich","station":18446744073709551616123}',
        '{"zone":"CET\\n"}',
    ]
    assert message("tools")["content"] is None
    assert folded("tools").finish_reason == "tool_calls"


def test_the_same_calls_in_a_whole_body() -> None:
    whole = fold(read(*body(), [script("openai/body_tools.json")]))
    assert whole.choices()[0]["message"]["tool_calls"] == message("tools")["tool_calls"]
    assert whole.meta.usage == folded("tools").meta.usage


def test_logprobs_grow() -> None:
    choice = folded("logprobs").choices()[0]
    assert [token["token"] for token in choice["logprobs"]["content"]] == ["Yes", "!"]
    assert choice["logprobs"]["content"][0]["top_logprobs"][1]["bytes"] == [78, 195, 169]
    assert choice["finish_reason"] == "length"


def test_choices_are_told_apart() -> None:
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in folded("two_choices").choices()] == [
        (0, "Heads", "stop"),
        (1, "Tails!", "length"),
    ]


def test_a_refusal_is_no_content() -> None:
    assert (message("refusal")["content"], message("refusal")["refusal"]) == (None, "I can't help with that.")


@pytest.mark.parametrize(
    ("name", "reasoning", "content"),
    [("reasoning", "27 is 3³.", "No, it is composite."), ("openrouter", "Cube root: 3.", "Three cubed.")],
)
def test_both_names_of_reasoning(name: str, reasoning: str, content: str) -> None:
    assert (message(name)["reasoning_content"], message(name)["content"]) == (reasoning, content)


def test_openrouter_keeps_its_details_and_its_own_cost() -> None:
    assert [detail["text"] for detail in message("openrouter")["reasoning_details"]] == ["Cube", " root: 3."]
    assert folded("openrouter").meta.cost_reported == "0.0003024"


def test_azure_begins_without_a_choice() -> None:
    whole = folded("azure")
    assert (message("azure")["content"], whole.meta.model) == ("Grüezi mitenand", "gpt-4o-2024-11-20")
    assert whole.meta.usage == Usage(input_tokens=18, output_tokens=4)


def test_the_last_usage_counts_and_is_never_added_up() -> None:
    assert folded("usage_twice").meta.usage == Usage(input_tokens=7, output_tokens=3)


def test_a_stream_without_an_end_mark_is_whole_by_its_finish_reason() -> None:
    framer, decoder = stream()
    whole = fold(read(framer, decoder, [script("openai/transformers.sse")]))
    assert decoder.complete
    assert not whole.meta.ended
    assert whole.meta.usage == Usage(input_tokens=10, output_tokens=9)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [("error", "Hello", "The server had an error"), ("openrouter_error", "Three cu", "Provider disconnected")],
)
def test_an_error_in_the_stream(name: str, text: str, found: str) -> None:
    framer, decoder = stream()
    whole = fold(read(framer, decoder, [script(f"openai/{name}.sse")]))
    assert whole.meta.error is not None
    assert whole.meta.error.message.startswith(found)
    assert whole.choices()[0]["message"]["content"] == text
    assert not decoder.complete


def test_a_numeric_code_is_a_status() -> None:
    error = folded("openrouter_error").meta.error
    assert error is not None
    assert (error.status, error.code) == (502, None)
    assert error_of({"code": 429, "message": "slow down"}, 502).status == 429


def test_a_bare_string_is_an_error_too() -> None:
    """mlx-lm: `{"error": "text"}`."""
    assert error_of("no such model", 404).message == "no such model"


def chunk(**choice: Any) -> bytes:
    return b"data: " + orjson.dumps({"choices": [choice]})


def test_an_empty_finish_reason_is_none() -> None:
    """Some servers put "" where OpenAI puts null."""
    decoder = ChatStreamDecoder()
    whole = fold(decoder.decode([chunk(delta={"content": "x"}, finish_reason="")], None))
    assert (whole.finish_reason, decoder.complete) == (None, False)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("STOP", "stop"), ("end_turn", "stop"), ("eos_token", "stop"), ("unheard_of", "stop"), ("MAX_TOKENS", "length"),
        ("max_tokens", "length"), ("model_length", "length"), ("tool_use", "tool_calls"), ("SAFETY", "content_filter"),
        ("refusal", "content_filter"), ("function_call", "function_call"),
    ],
)  # fmt: skip
def test_finish_reasons_of_others_are_openais(said: str, meant: str) -> None:
    whole = orjson.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": said}]})
    assert fold(ChatBodyDecoder().decode([whole], None)).finish_reason == meant
    streamed = ChatStreamDecoder()
    assert fold(streamed.decode([chunk(delta={"content": "x"}, finish_reason=said)], None)).finish_reason == meant
    assert streamed.complete


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ("abort", 502, "abort"), ("insufficient_system_resource", 503, "insufficient_system_resource"),
        ("ERROR", 502, None), ("error", 502, None),
    ],
)  # fmt: skip
def test_an_answer_that_came_to_nothing_is_an_error(said: str, status: int, code: str | None) -> None:
    whole = orjson.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": said}]})
    streamed = ChatStreamDecoder()
    pieces = streamed.decode([chunk(delta={}, finish_reason=said)], None)
    for answer in (fold(pieces), fold(ChatBodyDecoder().decode([whole], None))):
        assert answer.meta.error is not None
        assert (answer.meta.error.status, answer.meta.error.code, answer.finish_reason) == (status, code, None)
    assert not streamed.complete


def test_an_empty_event_is_nothing() -> None:
    """The format's rule: an event whose data is empty is not dispatched. Some servers keep connections open by it."""
    assert ChatStreamDecoder().decode([b"data:", b"data: ", b"event: ping"], None) == []


def test_arguments_that_are_an_object_become_text() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": {"a": [1]}}}
    (piece,) = ChatStreamDecoder().decode([chunk(delta={"tool_calls": [call]})], None)
    assert isinstance(piece, Delta)
    assert piece.tool_calls[0].arguments == '{"a":[1]}'


def test_a_call_without_an_id_gets_one_that_stays_the_same() -> None:
    calls = [{"index": i, "function": {"name": "f", "arguments": "{}"}} for i in range(2)]
    frame = chunk(delta={"tool_calls": calls})
    more = chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": " "}}]})
    once, again = (fold(ChatStreamDecoder().decode([frame, more], None)).choices() for _ in range(2))
    ids = [call["id"] for call in once[0]["message"]["tool_calls"]]
    assert once == again
    assert len(set(ids)) == 2
    assert all(call_id.startswith("call_") for call_id in ids)
    whole = orjson.dumps({"choices": [{"message": {"tool_calls": calls}}]})
    assert fold(ChatBodyDecoder().decode([whole], None)).choices()[0]["message"]["tool_calls"][0]["id"]


def streamed_calls(*pieces: dict[str, Any], end: str = "tool_calls") -> list[dict[str, Any]]:
    """The calls of a stream that gives these pieces, a chunk each; each piece that is told first has a name."""
    told: list[Any] = ChatStreamDecoder().decode(
        [*(chunk(delta={"tool_calls": [piece]}) for piece in pieces), chunk(delta={}, finish_reason=end)], None
    )
    seen: set[int] = set()
    for call in (call for delta in told for call in delta.tool_calls):
        assert call.index in seen or (call.id and call.name is not None)
        seen.add(call.index)
    calls = fold(told).choices()[0]["message"].get("tool_calls", [])
    return [{"id": call["id"], **call["function"]} for call in calls]


def piece(arguments: str, name: str | None = None, **said: Any) -> dict[str, Any]:
    return {**said, "function": {"arguments": arguments} | ({"name": name} if name else {})}


TWO = [{"id": "a", "name": "f", "arguments": '{"a":1}'}, {"id": "b", "name": "g", "arguments": "{}"}]


@pytest.mark.parametrize("index", [{"index": 0}, {}])
def test_parallel_calls_that_nobody_numbered_are_told_apart_by_their_ids(index: dict[str, int]) -> None:
    """LMDeploy counts them all as 0, Gemini's endpoint counts none."""
    assert streamed_calls(
        piece('{"a"', "f", id="a", **index), piece(":1}", id="", **index), piece("{}", "g", id="b", **index)
    ) == TWO  # fmt: skip


def test_a_call_finds_its_own_index_taken() -> None:
    calls = streamed_calls(
        piece("{}", "f", id="a", index=0), piece("{}", "g", id="b", index=0), piece("{", "h", id="c", index=1),
        piece("}", index=1), piece(" ", index=0),
    )  # fmt: skip
    assert [(call["id"], call["arguments"]) for call in calls] == [("a", "{}"), ("b", "{} "), ("c", "{}")]


@pytest.mark.parametrize("again", [{"id": "a", "name": "f"}, {"id": "z"}])
def test_a_call_whose_pieces_repeat_its_id_or_make_another_up_is_one(again: dict[str, Any]) -> None:
    """SGLang repeats it; older vLLMs made a new one for every piece."""
    assert streamed_calls(piece('{"a"', "f", id="a", index=0), piece(":1}", **again, index=0)) == TWO[:1]


SAME = [piece("{}", "f", id="f", index=0), piece('{"a":1}', "f", id="f", index=1)]


def whole_calls(decoder: ChatBodyDecoder) -> list[str]:
    """The ids of the same calls in a body."""
    whole = orjson.dumps({"choices": [{"message": {"tool_calls": SAME}}]})
    return [call["id"] for call in fold(decoder.decode([whole], None)).choices()[0]["message"]["tool_calls"]]


def test_calls_of_one_id_get_ids_of_their_own() -> None:
    """Gemini behind some proxies: the function's name is the id."""
    one, other = streamed_calls(*SAME, piece(" ", id="f", index=1), piece(" ", id="f", index=0))
    assert (one["id"], one["arguments"], other["arguments"]) == ("f", "{} ", '{"a":1} ')
    assert other["id"].startswith("call_")
    assert whole_calls(ChatBodyDecoder())[0] == "f" != whole_calls(ChatBodyDecoder())[1]
    assert whole_calls(ChatBodyDecoder()) == whole_calls(ChatBodyDecoder())


def test_each_choice_has_ids_of_its_own() -> None:
    calls = {"tool_calls": SAME[:1]}
    whole = orjson.dumps({"choices": [{"message": calls}, {"message": calls}]})
    told = fold(ChatBodyDecoder().decode([whole], None)).choices()
    assert [choice["message"]["tool_calls"][0]["id"] for choice in told] == ["f", "f"]


def test_what_the_first_decoders_read_is_read_the_same() -> None:
    stream, body = decoder_named("openai_chat_stream.1", ""), decoder_named("openai_chat_body.1", "")
    pieces = stream.decode([chunk(delta={"tool_calls": SAME}), chunk(delta={}, finish_reason="stop")], None)
    assert [call["id"] for call in fold(pieces).choices()[0]["message"]["tool_calls"]] == ["f", "f"]
    assert isinstance(body, ChatBodyDecoder)
    assert whole_calls(body) == ["f", "f"]


def test_the_id_and_the_name_of_a_call_come_once() -> None:
    told: list[Any] = ChatStreamDecoder().decode(
        [chunk(delta={"tool_calls": [piece(text, "f", id="a", index=0)]}) for text in ("{", "}")], None
    )
    assert [(call.id, call.name) for delta in told for call in delta.tool_calls] == [("a", "f"), (None, None)]


def test_a_name_that_comes_late_is_told_first() -> None:
    assert streamed_calls(
        {"index": 0, "id": "a", "type": "function"}, piece('{"a"', index=0), piece(":", "f", index=0),
        piece("1}", index=0),
    ) == TWO[:1]  # fmt: skip


def test_a_call_that_never_got_a_name_is_told_at_the_end() -> None:
    assert streamed_calls(piece("{", id="a", index=0), piece("}", index=0)) == [
        {"id": "a", "name": "", "arguments": "{}"}
    ]


def test_the_calls_of_a_whole_body_are_counted_by_their_places() -> None:
    calls = [piece('{"a":1}', "f", id="a", index=0), piece("{}", "g", id="b", index=0)]
    whole = orjson.dumps({"choices": [{"message": {"tool_calls": calls}}]})
    told = fold(ChatBodyDecoder().decode([whole], None)).choices()[0]["message"]["tool_calls"]
    assert [{"id": call["id"], **call["function"]} for call in told] == TWO


def test_an_old_function_call_is_put_together() -> None:
    parts = [{"name": "f", "arguments": ""}, {"arguments": '{"a":'}, {"arguments": "1}"}]
    whole = fold(ChatStreamDecoder().decode([chunk(delta={"function_call": part}) for part in parts], None))
    assert whole.choices()[0]["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}


def test_content_in_parts_is_text() -> None:
    """Mistral's reasoning models."""
    parts = [{"type": "text", "text": "a"}, {"type": "reference", "reference_ids": [1]}, {"type": "text", "text": "b"}]
    (piece,) = ChatStreamDecoder().decode([chunk(delta={"content": parts})], None)
    assert isinstance(piece, Delta)
    assert piece.text == "ab"


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"nonsense",
        b'{"choices":["x"]}',
        b'{"choices":[{"delta":"x"}]}',
        b'{"choices":[{"delta":{"tool_calls":["x"]}}]}',
        b'{"choices":[{"index":-1,"delta":{}}]}',
        b'{"x":' + b"[" * 200 + b"]" * 200 + b"}",
    ],
)
def test_what_the_format_does_not_allow_is_an_error(data: bytes) -> None:
    with pytest.raises(WireError):
        ChatStreamDecoder().decode([b"data: " + data], None)


@pytest.mark.parametrize("data", [b"{}", b"[]", b"<html>", b'{"choices":[]}', b'{"choices":[{"text":"completions"}]}'])
def test_a_body_that_is_no_answer(data: bytes) -> None:
    with pytest.raises(WireError):
        ChatBodyDecoder().decode([data], None)


def test_a_body_that_is_an_error_with_status_200() -> None:
    (piece,) = ChatBodyDecoder().decode([b'{"error":{"message":"overloaded","code":503}}'], None)
    assert isinstance(piece, Meta)
    assert piece.error is not None
    assert (piece.error.message, piece.error.status) == ("overloaded", 503)


def test_usage_there_and_back() -> None:
    usage = Usage(input_tokens=100, cache_read_tokens=40, output_tokens=9, reasoning_tokens=3, input_audio_tokens=2)
    assert usage_of(usage_to_openai(usage)) == usage


@pytest.mark.parametrize(
    "details", ["x", [], 1, {"cached_tokens": None}, {"cached_tokens": -1}, {"cached_tokens": 1.5}]
)
def test_broken_counts_are_none(details: Any) -> None:
    raw = {"prompt_tokens": "7", "completion_tokens": 2, "prompt_tokens_details": details}
    assert usage_of(raw) == Usage(output_tokens=2)


@pytest.mark.parametrize(
    ("told", "counted", "estimated"),
    [
        ({"prompt_tokens": 10.0, "completion_tokens": 5.0}, (10, 5), False),
        ({"prompt_tokens": 10, "completion_tokens": 0}, (10, 0), False),
        ({"prompt_tokens": 10}, (10, 0), False),
        ({"prompt_tokens": "10", "completion_tokens": 5}, (0, 5), True),
        ({"prompt_tokens": 1e30, "completion_tokens": -5}, (0, 0), True),
        ({"prompt_tokens": 10.5, "completion_tokens": True}, (0, 0), True),
    ],
)
def test_counts_that_cannot_be_read_are_estimated(
    told: dict[str, Any], counted: tuple[int, int], estimated: bool
) -> None:
    meta = meta_of({}, told)
    assert meta.usage is not None
    assert (meta.usage.input_tokens, meta.usage.output_tokens) == counted
    assert meta.usage_estimated is estimated


def chunks(*deltas: dict[str, Any]) -> bytes:
    """A stream of these deltas as Python's json writes them: halves of characters as escapes of their own."""
    ends = ["null"] * (len(deltas) - 1) + ['"stop"']
    said = [
        f'data: {{"choices":[{{"index":0,"delta":{json.dumps(delta)},"finish_reason":{end}}}]}}\n\n'
        for delta, end in zip(deltas, ends, strict=True)
    ]
    return "".join([*said, "data: [DONE]\n\n"]).encode()


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (["a\ud83d", "\ude00b", ""], "a\U0001f600b"),
        (["\ud83d", "", "\ude00", ""], "\U0001f600"),
        (["\ud83d", "\ude00\ud83d", "\ude00"], "\U0001f600\U0001f600"),
        (["one", " two", " \ud83d", "\ude00", " three", " four", ""], "one two \U0001f600 three four"),
        (["\ud83d", "b", ""], "\ufffdb"),
        (["\ude00", "b\ud83d", ""], "\ufffdb\ufffd"),
        (["whole \U0001f600", " a\ud83d"], "whole \U0001f600 a\ufffd"),
    ],
)
def test_a_character_that_two_chunks_share_is_whole(texts: list[str], whole: str) -> None:
    for name in ("content", "reasoning", "refusal"):
        data = chunks(*({name: text} for text in texts))
        check_split_proof(stream, data)
        message = fold(read(*stream(), [data])).choices()[0]["message"]
        assert message["reasoning_content" if name == "reasoning" else name] == whole
    calls = [
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f" if n == 0 else None, "arguments": text}}]}
        for n, text in enumerate(texts)
    ]
    message = fold(read(*stream(), [chunks(*calls)])).choices()[0]["message"]
    assert message["tool_calls"][0]["function"]["arguments"] == whole


def test_a_half_waits_for_the_text_that_it_belongs_to() -> None:
    data = chunks({"content": "\ud83d", "reasoning": "\ud83e"}, {"reasoning": "\udd14"}, {"content": "\ude00"})
    message = fold(read(*stream(), [data])).choices()[0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("\U0001f600", "\U0001f914")
