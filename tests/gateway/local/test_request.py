"""A chat body in the words of a worker."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.upstreams.local.engine import EngineError
from gateway.upstreams.local.request import encode
from gateway.upstreams.local.worker import asked_of, room
from gateway.wire.values import Unsupported, WireError

HI: list[Any] = [
    {"role": "developer", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
]


def test_it_says_all_that_engines_know() -> None:
    body = {
        "messages": HI, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "seed": 7, "stop": "END", "max_tokens": 9,
        "max_completion_tokens": 8, "logit_bias": {"3": -100}, "user": "u", "n": 1, "unload_after": True,
    }  # fmt: skip
    said, ignored = encode("mlx", "tiny", body)
    asked = asked_of(said["chat"])
    assert asked.messages == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert (asked.max_tokens, asked.stop, asked.sampling.seed, asked.sampling.logit_bias) == (8, ("END",), 7, {3: -100})
    assert (said["unload"], ignored) == (True, ("user", "n"))


@pytest.mark.parametrize(
    ("param", "value"),
    [("n", 2), ("logprobs", True), ("tools", [{}]), ("response_format", {"type": "json_object"}), ("strange", 1)],
)
def test_what_changes_the_answer_and_is_not_known_is_refused(param: str, value: Any) -> None:
    with pytest.raises(Unsupported) as refused:
        encode("mlx", "tiny", {"messages": HI, param: value})
    assert refused.value.param == param


def test_an_image_is_refused_by_its_place() -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
    with pytest.raises(Unsupported) as refused:
        encode("mlx", "tiny", {"messages": [image]})
    assert refused.value.param == "messages[0].content[0]"


@pytest.mark.parametrize("field", [{"seed": "x"}, {"top_k": 1.5}, {"repetition_penalty": 0}, {"logit_bias": {"a": 1}}])
def test_what_engines_would_stumble_over_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        encode("mlx", "tiny", {"messages": HI, **field})


def test_an_answer_has_what_the_prompt_leaves() -> None:
    assert (room(10, 100, None), room(10, 100, 5), room(10, 100, 500)) == (90, 5, 90)
    with pytest.raises(EngineError, match="context"):
        room(100, 100, None)
