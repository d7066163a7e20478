"""OpenAI chat completions, written: the rules that clients rely on, and the official types as their judge."""

from __future__ import annotations

from collections.abc import Sequence
from time import process_time
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from eventstore.catalogue.values import Usage
from eventstore.frames import SEP
from gateway.wire.anthropic_messages import MessagesStreamDecoder
from gateway.wire.ndjson import LineFramer
from gateway.wire.ollama import OllamaChatDecoder
from gateway.wire.openai_chat import ChatBodyDecoder, ChatStreamDecoder
from gateway.wire.openai_chat_answer import DONE, ChatBody, ChatStream
from gateway.wire.sse import SSEFramer
from gateway.wire.values import Delta, Fold, Meta, Piece, TextRun, ToolCallDelta
from tests.gateway.wire.reading import SCRIPTS, fold, read

READERS: dict[str, Any] = {
    "openai": lambda: (SSEFramer(), ChatStreamDecoder()),
    "anthropic": lambda: (SSEFramer(), MessagesStreamDecoder()),
    "ollama": lambda: (LineFramer(), OllamaChatDecoder()),
}
ANSWERS = sorted(
    path.relative_to(SCRIPTS).as_posix()
    for family in READERS
    for path in (SCRIPTS / family).iterdir()
    if path.suffix in {".sse", ".ndjson"} and "error" not in path.name
)


def streamed(pieces: Sequence[Piece], usage: bool = False) -> list[dict[str, Any]]:
    """The chunks of a whole answer, its end mark checked."""
    stream = ChatStream("r1", 1_763_712_000, "demo/m", usage)
    sent = stream.pieces(pieces) + stream.completed(fold(pieces))
    assert sent.endswith(DONE)
    assert sent.count(DONE) == 1
    return [orjson.loads(part.removeprefix(b"data: ")) for part in sent.removesuffix(DONE).split(b"\n\n")[:-1]]


def deltas(chunks: list[dict[str, Any]], choice: int = 0) -> list[dict[str, Any]]:
    """What each chunk adds to a choice."""
    return [c["delta"] for chunk in chunks for c in chunk["choices"] if c["index"] == choice]


def said(name: str) -> list[Piece]:
    """The pieces of a script."""
    return read(*READERS[name.partition("/")[0]](), [(SCRIPTS / name).read_bytes()])


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
def test_every_chunk_is_of_the_official_type(name: str, usage: bool) -> None:
    chunks = streamed(said(name), usage)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert {(c["id"], c["created"], c["model"], c["object"]) for c in chunks} == {
        ("chatcmpl-r1", 1_763_712_000, "demo/m", "chat.completion.chunk")
    }
    assert all(c.get("usage", "none") == (None if usage else "none") for c in chunks[: -1 if usage else None])


@pytest.mark.parametrize("name", ANSWERS)
def test_every_choice_begins_with_its_role_and_ends_once(name: str) -> None:
    chunks = streamed(said(name))
    for index in {c["index"] for chunk in chunks for c in chunk["choices"]}:
        of_choice = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert [("role" in c["delta"]) for c in of_choice] == [True] + [False] * (len(of_choice) - 1)
        assert [c["finish_reason"] is None for c in of_choice] == [True] * (len(of_choice) - 1) + [False]
        assert of_choice[-1]["delta"] == {}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_body_is_of_the_official_type_and_says_the_same(name: str) -> None:
    pieces = said(name)
    body = orjson.loads(ChatBody("r1", 1_763_712_000, "demo/m").completed(fold(pieces)))
    ChatCompletion.model_validate(body, strict=True)
    texts = "".join(delta.get("content") or "" for delta in deltas(streamed(pieces)))
    assert (body["choices"][0]["message"]["content"] or "") == texts


def test_usage_comes_only_if_it_was_asked_for_in_a_chunk_of_its_own() -> None:
    pieces = said("openai/text.sse")
    assert all("usage" not in chunk for chunk in streamed(pieces))
    *before, last = streamed(pieces, usage=True)
    assert [chunk["usage"] for chunk in before] == [None] * len(before)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 41
    assert last["usage"]["prompt_tokens_details"]["cached_tokens"] == 4


def test_usage_of_another_family_in_openai_words() -> None:
    usage = streamed(said("anthropic/cache.sse"), usage=True)[-1]["usage"]
    assert usage["prompt_tokens"] > usage["prompt_tokens_details"]["cached_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize(
    ("raw", "counts"),
    [
        ({"prompt_tokens": 5}, (5, 2, 7)),
        ({"prompt_tokens": None, "completion_tokens": 2, "more": 1}, (5, 2, 7)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 9}, (5, 2, 9)),
        ({"input_tokens": 5}, (5, 2, 7)),
        (None, (5, 2, 7)),
    ],
)
def test_counts_that_a_provider_leaves_out_are_filled_in(raw: dict[str, Any] | None, counts: tuple[int, ...]) -> None:
    pieces = [Delta(text="x"), Meta(usage=Usage(input_tokens=5, output_tokens=2), usage_raw=raw)]
    usage = streamed(pieces, usage=True)[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == counts
    assert usage.get("more") == (raw or {}).get("more")


def test_nobody_said_how_much() -> None:
    assert streamed([Delta(text="x")], usage=True)[-1]["usage"]["total_tokens"] == 0


def test_a_call_is_named_once_and_then_only_its_arguments_come() -> None:
    calls = [d["tool_calls"][0] for d in deltas(streamed(said("openai/tools.sse"))) if "tool_calls" in d]
    first = [call for call in calls if "id" in call]
    assert [(c["index"], c["id"], c["type"], c["function"]) for c in first] == [
        (0, "call_ZUe1", "function", {"name": "get_weather", "arguments": ""}),
        (1, "call_Tim2", "function", {"name": "get_time", "arguments": ""}),
    ]
    rest = [call for call in calls if "id" not in call]
    assert all(set(call) == {"index", "function"} and set(call["function"]) == {"arguments"} for call in rest)
    assert [call["index"] for call in rest] == [0, 0, 1, 0, 1]


def test_an_answer_that_begins_with_a_call_has_no_content() -> None:
    call = ToolCallDelta(0, "call_1", "f", "{}")
    chunks = streamed([Delta(tool_calls=[call]), Delta(finish_reason="stop")])
    assert deltas(chunks)[0] == {"role": "assistant", "content": None}
    assert deltas(chunks)[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_an_answer_that_says_nothing_still_has_a_choice() -> None:
    chunks = streamed([])
    assert deltas(chunks) == [{"role": "assistant", "content": ""}, {}]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_reasoning_refusal_and_logprobs_keep_their_places() -> None:
    assert "".join(d.get("reasoning_content", "") for d in deltas(streamed(said("openai/reasoning.sse")))) == (
        "27 is 3³."
    )
    assert "".join(d.get("refusal", "") for d in deltas(streamed(said("openai/refusal.sse")))) == (
        "I can't help with that."
    )
    logprobs = [
        token["token"]
        for chunk in streamed(said("openai/logprobs.sse"))
        for token in (chunk["choices"][0]["logprobs"] or {}).get("content", ())
    ]
    assert logprobs == ["Yes", "!"]


def test_what_grows_in_the_whole_is_shown_piece_by_piece() -> None:
    grows: list[dict[str, Any]] = [
        {"audio": {"id": "a", "data": letter, "parts": [letter]}, "annotations": [letter]} for letter in "AB"
    ]
    pieces: list[Piece] = [Delta(extra=each, logprobs={"content": each["annotations"]}) for each in grows]
    expected = orjson.loads(orjson.dumps(grows))
    message = fold(pieces).choices()[0]
    assert message["message"]["audio"] == {"id": "a", "data": "AB", "parts": ["A", "B"]}
    assert message["message"]["annotations"] == message["logprobs"]["content"] == ["A", "B"]
    assert grows == expected
    assert [each for each in deltas(streamed(pieces)) if "audio" in each] == expected


def test_what_the_provider_says_of_itself_stands_on_every_chunk() -> None:
    chunks = streamed(said("openai/text.sse"))
    assert {(c["system_fingerprint"], c["service_tier"]) for c in chunks} == {("fp_9c1b2e", "default")}


PERPLEXITY = {"citations": ["https://a.example"], "search_results": [{"title": "A", "url": "https://a.example"}]}
OWN: list[dict[str, Any]] = [
    {"choices": [{"index": 0, "delta": {"role": "assistant"}}], "x_groq": {"id": "req_1"}, "provider": "Aqua"},
    {"choices": [{"index": 0, "delta": {"content": "Hi"}}], "provider": "Aqua", **PERPLEXITY, "obfuscation": "nV3"},
    {"choices": [{"index": 0, "delta": {"content": "!"}}], "provider": "Aqua", **PERPLEXITY, "obfuscation": "k"},
    {
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "provider": "Aqua",
        "timings": {"predicted_n": 2},
    },
    {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}, "x_groq": {"usage": {"queue_time": 0.1}}},
]
"""A stream with what providers say beside the format."""


@pytest.mark.parametrize("at_once", [True, False])
def test_what_else_a_provider_says_is_said_once_or_as_often_as_it_changes(at_once: bool) -> None:
    frames = [b"data: " + orjson.dumps({"id": "c", "model": "m", **chunk}) + b"\n\n" for chunk in OWN]
    frames.append(b"data: [DONE]\n\n")
    chunks = streamed(read(*READERS["openai"](), [b"".join(frames)] if at_once else frames))
    ours = {"id", "object", "created", "model", "choices"}
    own = [{key: value for key, value in chunk.items() if key not in ours} for chunk in chunks]
    assert [each for each in own if each] == [
        {"x_groq": {"id": "req_1"}, "provider": "Aqua"},
        PERPLEXITY,
        {"timings": {"predicted_n": 2}, "x_groq": {"usage": {"queue_time": 0.1}}},
    ]
    assert "".join(each.get("content", "") for each in deltas(chunks)) == "Hi!"


@pytest.mark.parametrize("value", ["f" * 1_000, {"f": "f"}, ["f"]])
def test_what_is_no_word_does_not_stand_on_every_chunk(value: object) -> None:
    stream = ChatStream("r", 0, "m", usage_chunk=False)
    said = stream.pieces([Meta(top={"system_fingerprint": value}), TextRun(SEP.join([b"a"] * 99), "a" * 99)])
    assert b"fingerprint" not in said


def test_many_keys_are_folded_in_time_that_grows_with_them() -> None:
    """A new one each time, 32 bytes on the wire: copied each time, these would take ten seconds."""
    whole = Fold()
    pieces = [Meta(top={f"k{number}": 1}) for number in range(50_000)]
    began = process_time()
    whole.add(pieces)
    assert process_time() - began < 3
    assert whole.meta.top is not None
    assert len(whole.meta.top) == len(pieces)


def test_a_whole_answer_has_it_all() -> None:
    choices = [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]
    whole = {"id": "c", "object": "chat.completion", "created": 5, "model": "m", "choices": choices, **PERPLEXITY}
    meant = fold(ChatBodyDecoder().body(orjson.dumps({**whole, "error": None, "usage": {}})))
    answer = orjson.loads(ChatBody("r1", 1, "demo/m").completed(meant))
    assert {key: value for key, value in answer.items() if key in PERPLEXITY} == PERPLEXITY
    assert (answer["id"], answer["created"], answer["model"]) == ("chatcmpl-r1", 1, "demo/m")


def test_a_run_of_texts_is_a_chunk_each() -> None:
    run = TextRun(b'a\x1e\x1f\\"b\\"\x1e\x1f\xc3\xa9', 'a"b"é')
    assert [d["content"] for d in deltas(streamed([run])) if "content" in d] == ["", "a", '"b"', "é"]


def test_an_error_in_the_stream_has_no_end_mark() -> None:
    stream = ChatStream("r1", 0, "m", True)
    frame = stream.failed({"message": "broke", "type": "server_error"})
    assert frame == b'data: {"error":{"message":"broke","type":"server_error","param":null,"code":null}}\n\n'
