"""Which requests may be given another's answer, decided without a server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.exchange.alike import question
from gateway.exchange.claims import Caching, cacheable, places
from gateway.exchange.inputs import Submission

ON = Caching(on=True)
PLAIN = Submission(
    request_id="r1", endpoint="/v1/chat/completions", wire="chat_completions", renderer=1, recorded=None, model="m",
    body={"model": "m", "messages": [{"role": "user", "content": "Hello"}]}, body_digest="d1", key="k1",
)  # fmt: skip


def saying(**fields: Any) -> Submission:
    return replace(PLAIN, body={**PLAIN.body, **fields})


def stream(submission: Submission, headers: dict[str, str] | None = None) -> str:
    (place,) = places(submission, headers or {}, ON, "/v1/chat/completions")
    return place.stream


def part(**fields: Any) -> Submission:
    return saying(messages=[{"role": "user", "content": [fields]}])


def asking(**fields: Any) -> Submission:
    """A request without messages."""
    return replace(PLAIN, body={"model": "m", **fields})


@pytest.mark.parametrize(
    "same",
    [
        saying(stream=True, stream_options={"include_usage": True}),
        saying(user="u", metadata={"a": "b"}, max_cost_usd=1, tools=None),
    ],
)
def test_what_does_not_change_the_answer_does_not_count(same: Submission) -> None:
    assert stream(same) == stream(PLAIN)


@pytest.mark.parametrize(
    "other",
    [
        saying(temperature=0),
        saying(messages=[{"role": "user", "content": "Hello."}]),
        replace(PLAIN, key="k2"),
        replace(PLAIN, model="n"),
        replace(PLAIN, wire="messages"),
        replace(PLAIN, renderer=2),
    ],
)
def test_what_may_change_it_does(other: Submission) -> None:
    assert stream(other) != stream(PLAIN)


@pytest.mark.parametrize(
    "own",
    [
        replace(PLAIN, retained=False),
        replace(PLAIN, api_key="sk-own"),
        replace(PLAIN, base_url="http://own.test"),
        replace(PLAIN, parent="group"),
        replace(PLAIN, wire="responses"),
        replace(PLAIN, options={"execute_tools": True}),
        part(type="image_url", image_url={"url": "https://files.test/a.png"}),
        part(type="image", source={"type": "url", "url": "https://files.test/a.png"}),
        part(type="file", file={"file_id": "file-1"}),
        part(type="text", text="Read @report.pdf, please."),
        asking(prompt="Read @report.pdf, please."),
        asking(prompt=["Read @report.pdf, please."]),
        asking(input=[{"type": "image_url", "image_url": {"url": "https://files.test/a.png"}}]),
        asking(prompt="A hat", image="https://files.test/a.png"),
        asking(prompt="A hat", image=[{"data": "AAAA"}, "https://files.test/a.png"]),
        asking(prompt="A hat", image={"data": "AAAA"}, mask="https://files.test/a.png"),
    ],
)
def test_these_hang_on_more_than_their_words(own: Submission) -> None:
    assert not cacheable(own)
    assert places(own, {"x-abstractcore-cache": "use"}, ON, "/") == ()


@pytest.mark.parametrize(
    "whole",
    [
        part(type="image_url", image_url={"url": "data:image/png;base64,AAAA"}),
        asking(prompt="A hat", image={"filename": "a.png", "content_type": "image/png", "data": "AAAA"}),
        asking(prompt=[1, 2], messages=3),
        saying(tools=[{"type": "function", "function": {"parameters": {"properties": {"url": {"type": "string"}}}}}]),
    ],
)
def test_a_file_that_the_request_holds_is_part_of_it(whole: Submission) -> None:
    assert cacheable(whole)


CHANCE = [saying(temperature=0.7), saying(n=2), asking(n="2"), asking(temperature="0.7"), asking(n="two"), asking(n=[])]


@pytest.mark.parametrize("chance", CHANCE)
def test_who_wants_chance_must_ask_for_the_cache(chance: Submission) -> None:
    assert places(chance, {}, ON, "/") == ()
    assert len(places(chance, {"x-abstractcore-cache": "use"}, Caching(), "/")) == 1


@pytest.mark.parametrize("plain", [saying(temperature=0), saying(n=1), asking(n="1"), asking(temperature="0.0")])
def test_who_wants_no_chance_need_not(plain: Submission) -> None:
    assert len(places(plain, {}, ON, "/")) == 1


def test_an_idempotency_key_is_its_callers_own() -> None:
    def of(submission: Submission, key: str = "order-1", path: str = "/a") -> tuple[str, str]:
        (place,) = places(submission, {"idempotency-key": key}, Caching(), path)
        return place.stream, place.asked

    assert of(PLAIN)[0] != of(replace(PLAIN, key="k2"))[0]
    assert of(PLAIN)[0] != of(PLAIN, key="order-2")[0]
    assert "order-1" not in of(PLAIN)[0]
    for other in (of(replace(PLAIN, body_digest="d2")), of(PLAIN, path="/b")):
        assert other[0] == of(PLAIN)[0]
        assert other[1] != of(PLAIN)[1]


@pytest.mark.parametrize(
    ("text", "like", "may"),
    [
        ("Is 5 above 3?", "Is 5 more than 3?", True),
        ("Is 5 above 3?", "Is 5 above 4?", False),
        ("Is 5 above 3?", "Is -5 above 3?", False),
        ("Is 5 above 3?", "Is \N{MINUS SIGN}5 above 3?", False),
    ],
)
def test_questions_with_other_figures_are_not_alike(text: str, like: str, may: bool) -> None:
    def others(said: str) -> str:
        asked = saying(messages=[{"role": "user", "content": said}])
        alike = replace(ON, alike=0.9)
        found = question(asked, {}, alike, places(asked, {}, alike, "/"))
        assert found is not None
        return found.others

    assert (others(text) == others(like)) == may


@pytest.mark.parametrize("age", ["soon", "-1", "nan", "inf"])
def test_an_age_is_a_number(age: str) -> None:
    with pytest.raises(InvalidRequest):
        places(PLAIN, {"x-abstractcore-cache": "use", "x-abstractcore-cache-max-age": age}, ON, "/")
