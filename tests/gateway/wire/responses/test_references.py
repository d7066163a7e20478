"""References to items: what is one, and what each stands for."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.wire.responses.references import by_id, referred, request_of


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ({"type": "item_reference", "id": "msg_R_0"}, "msg_R_0"),
        ({"id": "msg_R_0"}, "msg_R_0"),
        ({"type": None, "id": "msg_R_0"}, "msg_R_0"),
        ({"id": "msg_R_0", "role": "assistant", "content": "Hi"}, None),
        ({"type": "message", "id": "msg_R_0", "role": "user", "content": "Hi"}, None),
        ({"type": "function_call", "id": "fc_R_1"}, None),
        ({}, None),
    ],
)
def test_a_reference_is_a_name_alone(item: dict[str, Any], name: str | None) -> None:
    assert referred(item) == name


@pytest.mark.parametrize(
    ("item_id", "request_id"), [("msg_R_0", "R"), ("item_R_12", "R"), ("R", ""), ("a_b_c_1", "b_c")]
)
def test_an_id_says_whose_request_issued_it(item_id: str, request_id: str) -> None:
    assert request_of(item_id) == request_id


def thought(place: int, sealed: str | None = None) -> dict[str, Any]:
    return {"type": "reasoning", "id": f"rs_R_{place}"} | ({"encrypted_content": sealed} if sealed else {})


def said(place: int) -> dict[str, Any]:
    return {"type": "message", "id": f"msg_R_{place}"}


def called(place: int) -> dict[str, Any]:
    return {"type": "function_call", "id": f"fc_R_{place}"}


@pytest.mark.parametrize(
    ("shown", "signed", "meant"),
    [
        ([said(0)], [said(0)], {"msg_R_0": [said(0)]}),
        (
            [thought(0), said(1)],
            [thought(0, "s"), said(1)],
            {"rs_R_0": [thought(0, "s")], "msg_R_1": [said(1)]},
        ),
        # Thinking that nobody may read is an item only where it is asked for: places after it differ.
        (
            [said(0), called(1)],
            [thought(0, "s"), said(1), thought(2, "t"), called(3)],
            {"msg_R_0": [thought(0, "s"), said(1)], "fc_R_1": [thought(2, "t"), called(3)]},
        ),
        # It parts a text in two, where else it is one.
        ([said(0)], [said(0), thought(1, "s"), said(2)], {"msg_R_0": [said(0)]}),
    ],
)
def test_an_item_comes_with_the_thinking_before_it(shown: Any, signed: Any, meant: Any) -> None:
    assert by_id(shown, signed) == meant
