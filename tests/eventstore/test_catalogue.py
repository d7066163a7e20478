"""The catalogue keeps its word: what it wrote once it reads for ever, and what it reads it writes again."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any, ClassVar, get_type_hints

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, TypeAdapter

from eventstore.catalogue import REGISTRY, Event, decode
from eventstore.catalogue.event import event
from eventstore.catalogue.values import PICO, Usd, dumps
from eventstore.envelope import RecordedEvent
from eventstore.errors import UnknownEventType
from tests.eventstore.golden import exact, goldens, path_of, recorded, sample

ENVELOPE = ("type", "schema", "stream", "version", "origin", "oseq", "time")
TYPES = pytest.mark.parametrize("cls", REGISTRY.values(), ids=REGISTRY.keys())
GOLDENS = pytest.mark.parametrize(
    ("type_", "schema", "content"), [pytest.param(*golden, id=f"{golden[0]}.{golden[1]}") for golden in goldens()]
)


def as_recorded(type_: str, content: bytes) -> RecordedEvent:
    body = orjson.loads(content)
    return RecordedEvent(1, body["origin"], body["oseq"], body["stream"], body["version"], type_, 0, 0, content, b"")


@TYPES
def test_every_type_has_a_golden_file(cls: type[Event]) -> None:
    assert path_of(cls).exists(), "python -m tests.eventstore.golden writes it"


@GOLDENS
def test_every_golden_event_is_still_understood(type_: str, schema: int, content: bytes) -> None:
    typed = decode(as_recorded(type_, content))
    assert typed.type == type_
    if schema == typed.schema:
        fields = {name: value for name, value in exact(content).items() if name not in ENVELOPE}
        assert fields.keys() <= set(typed.NAMES)
        assert exact(typed.new().fields) == fields


@pytest.mark.parametrize("later", [("key", "seen"), ("key", "seen", "holder")], ids=["removed", "renamed"])
def test_a_field_taken_from_a_type_is_noticed(later: tuple[str, ...]) -> None:
    """The twin: a later release of `key_seen` no longer knows `owner`."""
    define("key", "seen", "owner")
    content = recorded(sample(REGISTRY.pop("key_seen"))).data
    define(*later)
    try:
        with pytest.raises((UnknownEventType, AssertionError)):
            test_every_golden_event_is_still_understood("key_seen", 1, content)
    finally:
        del REGISTRY["key_seen"]


def define(*names: str) -> None:
    annotations = {"type": ClassVar[str]} | dict.fromkeys(names, str)
    cls = type("KeySeen", (Event,), {"type": "key_seen", "__annotations__": annotations})
    event(dataclasses.dataclass(frozen=True, kw_only=True)(cls))


@GOLDENS
def test_golden_values_have_the_declared_types(type_: str, schema: int, content: bytes) -> None:
    cls = REGISTRY[type_]
    typed = decode(as_recorded(type_, content))
    hints = get_type_hints(cls)
    for name in cls.NAMES:
        adapter: TypeAdapter[Any] = TypeAdapter(
            hints[name], config=ConfigDict(arbitrary_types_allowed=True, strict=True)
        )
        adapter.validate_python(getattr(typed, name))


@TYPES
def test_a_type_is_named_in_the_past_tense_and_lower_case(cls: type[Event]) -> None:
    assert cls.type.replace("_", "").isalpha()
    assert cls.type == cls.type.lower()
    assert cls.type.rsplit("_", 1)[1].endswith(("ed", "hit", "en", "progress"))


@TYPES
def test_what_a_type_says_about_its_fields_is_about_fields(cls: type[Event]) -> None:
    assert set(cls.NAMES).isdisjoint(ENVELOPE), "a field would hide the envelope's"
    assert set(cls.NAMES) >= cls.EXPLICIT | cls.CONTENT | cls.MONEY


@TYPES
def test_what_is_not_known_is_passed_over_and_what_is_missing_is_named(cls: type[Event]) -> None:
    body = orjson.loads(recorded(sample(cls)).data)
    assert cls.of(body | {"from_the_future": 1}) == sample(cls)
    for name in cls.REQUIRED:
        with pytest.raises(UnknownEventType, match=name):
            cls.of({field: value for field, value in body.items() if field != name})


def test_unknown_types_and_newer_schemas_are_refused_by_name() -> None:
    content = path_of(REGISTRY["node_stopped"]).read_bytes()
    with pytest.raises(UnknownEventType, match="node_vanished"):
        decode(as_recorded("node_vanished", content))
    with pytest.raises(UnknownEventType, match="schema 99"):
        decode(as_recorded("node_stopped", content.replace(b'"schema":1', b'"schema":99')))


amounts = st.integers(min_value=-(10**18), max_value=10**18).map(Usd)


@given(amounts)
def test_money_is_an_exact_decimal_number_in_json(amount: Usd) -> None:
    text = dumps({"cost_usd": amount}).decode()
    assert exact(text)["cost_usd"] * PICO == int(amount)
    assert Usd.parse(Decimal(amount.decimal())) == amount


@given(st.integers(min_value=0, max_value=1_000 * PICO - 1).map(Usd))
def test_money_under_a_thousand_dollars_survives_a_float(amount: Usd) -> None:
    assert Usd.parse(orjson.loads(dumps(amount))) == amount


@given(st.lists(amounts))
def test_sums_of_money_are_exact(parts: list[Usd]) -> None:
    assert Decimal(Usd(sum(parts)).decimal()) == sum((Decimal(part.decimal()) for part in parts), Decimal(0))
