"""What of a conversation goes into a call: the newest turns, whole, that leave room for the answer."""

from __future__ import annotations

from typing import Any

from gateway.media.parts import LARGEST_SUM, MOST_FILES
from gateway.sessions.fitting import TOKENS_PER_PART, Fitting, Words, files_of, room_for_answer, tokens_of


def message(size: int, role: str = "user", **fields: Any) -> dict[str, Any]:
    """One of about so many tokens."""
    return {"role": role, "content": "abc" * (size - 4), **fields}


def fitted(turns: list[list[dict[str, Any]]], window: int, answer: int = 0) -> tuple[list[dict[str, Any]], Any]:
    """The turns offered as the gateway offers them: the newest first, until one is not taken."""
    fitting = Fitting([message(10)], window, answer)
    for turn in reversed(turns):
        if not fitting.take(Words(turn, tokens_of(turn), files_of(turn))):
            break
    return fitting.carried(len(turns))


def test_sizes_are_rather_too_large_than_too_small() -> None:
    assert tokens_of([{"role": "user", "content": "four words of English"}]) >= 4
    assert tokens_of([{"role": "user", "content": "日本語"}]) >= 3
    assert tokens_of([{"role": "user", "content": [{"type": "text", "text": "abc"}, {"type": "image_url"}]}]) == (
        4 + 1 + TOKENS_PER_PART
    )
    assert tokens_of([{"role": "assistant", "content": None, "tool_calls": [{"id": "c" * 30}]}]) > 14


def test_all_goes_that_fits() -> None:
    turns = [[message(20)], [message(30)]]
    messages, carried = fitted(turns, window=60)
    assert messages == [*turns[0], *turns[1]]
    assert (carried.turns, carried.dropped, carried.tokens, carried.window) == (2, 0, 60, 60)


def test_the_oldest_stay_behind_and_turns_stay_whole() -> None:
    turns = [[message(5)], [message(20), message(20)], [message(20), message(20)]]
    messages, carried = fitted(turns, window=80)
    assert messages == turns[2]
    assert (carried.turns, carried.dropped) == (1, 2)


def test_room_is_left_for_the_answer() -> None:
    turns = [[message(20)], [message(20)]]
    assert fitted(turns, window=50, answer=0)[1].turns == 2
    assert fitted(turns, window=50, answer=10)[1].turns == 1


def images(count: int, size: int = 3) -> dict[str, Any]:
    """A message with so many, each of about so many bytes."""
    url = f"data:image/png;base64,{'a' * (size * 4 // 3)}"
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}] * count}


def test_no_more_files_go_than_a_request_may_have() -> None:
    half = MOST_FILES // 2
    assert fitted([[images(1)], [images(half)], [images(half)]], window=1_000_000)[1].turns == 2
    assert fitted([[images(half)], [message(20)], [images(half)]], window=1_000_000)[1].turns == 3


def test_no_more_bytes_of_files_go_than_a_request_may_have() -> None:
    large = images(1, LARGEST_SUM // 2 - 1000)
    assert fitted([[message(20)], [large], [large], [message(20)]], window=1_000_000)[1].turns == 4
    assert fitted([[images(1, 2000)], [large], [message(20)], [large]], window=1_000_000)[1].turns == 3


def test_a_file_elsewhere_has_a_size_that_nobody_knows() -> None:
    part = {"type": "file", "file_url": {"url": "https://example.com/a.pdf"}}
    assert files_of([{"role": "user", "content": [part, *images(2, 30)["content"]]}]).count == 3
    assert files_of([{"role": "user", "content": [part]}]).size == 0


def test_the_result_of_a_tool_does_not_go_without_its_call() -> None:
    call = [message(20), message(20, "assistant", tool_calls=[{}])]
    result = [message(20, "tool"), message(20, "assistant")]
    later = [message(20)]
    assert fitted([call, result, later], window=500)[1].turns == 3
    messages, carried = fitted([call, result, later], window=75)
    assert messages == later
    assert (carried.turns, carried.dropped) == (1, 2)


def test_new_messages_that_are_too_large_go_alone() -> None:
    messages, carried = fitted([[message(20)]], window=5)
    assert messages == []
    assert (carried.turns, carried.dropped, carried.tokens) == (0, 1, 10)


def test_how_much_room_an_answer_has() -> None:
    assert room_for_answer({"max_tokens": 7}, 1000) == 7
    assert room_for_answer({"max_tokens": 7, "max_completion_tokens": 9}, 1000) == 9
    assert room_for_answer({}, 1000) == 250
    assert room_for_answer({}, 1_000_000) == 4096


def test_what_the_header_says() -> None:
    assert fitted([[message(20)]], window=100)[1].header(7) == "turn=7; turns=1; dropped=0; tokens=30; window=100"
