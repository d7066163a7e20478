"""The live feed: what a listener gets, what it never gets, and cursors."""

from __future__ import annotations

import base64

import orjson
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from eventstore.catalogue.tool import ToolCalled
from eventstore.envelope import RecordedEvent
from projections.feed import ENVELOPE, Cursor, Feed, Filter, frame, sse
from tests.projections.ledger import Ledger
from tests.projections.stories import answered, everything, generated, node_started, received


def recorded(log: Ledger) -> list[RecordedEvent]:
    return [row for row in log.rows if isinstance(row, RecordedEvent)]


def parse(data: bytes) -> dict[str, str]:
    """One server-sent event, by the standard's rules for lines."""
    text = data.decode()
    assert text.endswith("\n\n")
    assert len(text.splitlines()) == len(text.split("\n")) - 1, "a line break that is no LF"
    fields = [line.partition(": ") for line in text[:-2].split("\n")]
    assert [name for name, _, _ in fields] == ["id", "event", "data"]
    return {name: value for name, _, value in fields}


def test_an_event_has_the_fields_that_dashboards_read() -> None:
    log = Ledger()
    tool = ToolCalled(request_id="r", attempt=1, provider="ollama", model="m", tool_name="weather", call_id="c")
    generation, called = log.add(generated("r"), tool)
    fields = parse(frame(generation))
    data = orjson.loads(fields["data"])
    assert fields["event"] == "generation_completed"
    assert (data["model"], data["tokens_output"], data["cost_usd"]) == ("qwen3-coder:30b", 7, 0.00116)
    assert orjson.loads(parse(frame(called))["data"])["tool_name"] == "weather"


def test_content_is_left_out_unless_asked_for() -> None:
    for event in recorded(everything()):
        assert b"hello from" not in frame(event)
        assert b"hi r" not in frame(event)
        assert parse(frame(event, content=True))["data"].encode() == event.data


def test_of_an_unknown_type_only_the_envelope_is_shown() -> None:
    event = Ledger().add_raw("dream_recorded", {"request_id": "r", "dream": "of sheep"}, "request-r")
    assert set(orjson.loads(parse(frame(event))["data"])) <= set(ENVELOPE)
    assert orjson.loads(parse(frame(event, content=True))["data"])["dream"] == "of sheep"


@pytest.mark.parametrize("odd", ["a\r\nid: 1", "a\n\ndata: {}", "\u2028\u2029\x85", "\x00\x1b[31m", "data: x\r"])
def test_nothing_a_client_says_breaks_out_of_its_line(odd: str) -> None:
    log = Ledger()
    (event,) = log.add(received(odd, model=odd), stream="request-r")
    for content in (False, True):
        sent = frame(event, content)
        assert sent.count(b"\n") == 4
        assert b"\r" not in sent
        assert orjson.loads(sent.split(b"data: ", 1)[1])["model"] == odd


def test_a_type_that_is_no_word_is_refused() -> None:
    for event_type, data in (("x\ndata: {}", b"{}"), ("", b"{}"), ("x", b"{\r}"), ("x", b"{\n}")):
        with pytest.raises(ValueError, match="cannot carry"):
            sse(event_type, data, Cursor(1))


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Filter(), 51),
        (Filter(types=frozenset({"request_completed"})), 5),
        (Filter(types=frozenset({"token_generated"})), 0),
        (Filter(request_id="r2"), 7),
        (Filter(session_id="s1"), 5),
        (Filter(session_id="s1", types=frozenset({"generation_completed", "node_started"})), 1),
        (Filter(request_id="r2", session_id="s1"), 0),
    ],
)
def test_filters(wanted: Filter, count: int) -> None:
    feed = Feed(wanted)
    sent = [frame for event in recorded(everything()) if (frame := feed.offer(event))]
    assert len(sent) == count


def test_a_listener_that_resumes_inside_a_session_still_gets_it() -> None:
    log = Ledger()
    log.add(node_started(), *answered("r1", session_id="s1"), *answered("r2"))
    feed = Feed(Filter(session_id="s1"), {"r1": "s1", "r2": None}.get)
    assert len([event for event in recorded(log)[3:] if feed.offer(event)]) == 3


def test_tokens_come_only_to_those_who_name_them() -> None:
    token = {"type": "token_generated", "request_id": "r", "frame": 3, "text": "hi"}
    cursor = Cursor(7, 3)
    assert Feed(Filter(content=True)).offer_token(token, cursor) is None
    named = frozenset({"token_generated"})
    assert Filter(types=named).tokens
    sent = Feed(Filter(types=named)).offer_token(token, cursor)
    assert sent is not None
    assert orjson.loads(parse(sent)["data"]) == {"type": "token_generated", "request_id": "r", "frame": 3}
    with_text = Feed(Filter(types=named, content=True)).offer_token(token, cursor)
    assert with_text is not None
    assert orjson.loads(parse(with_text)["data"])["text"] == "hi"
    assert Feed(Filter(types=named, request_id="other")).offer_token(token, cursor) is None
    assert Feed(Filter(types=named, session_id="s1")).offer_token(token, cursor) is None


def test_an_id_is_the_cursor_of_its_event() -> None:
    event = recorded(everything())[9]
    assert Cursor.decode(parse(frame(event))["id"]) == Cursor(event.position, 0, "n1i1", event.oseq)


@examples(
    st.builds(
        Cursor,
        position=st.integers(0, 10**18),
        frame=st.integers(0, 10**9),
        origin=st.text("abcxyz019", max_size=32),
        oseq=st.integers(0, 10**18),
    )
)
def test_cursors_come_back(cursor: Cursor) -> None:
    assert Cursor.decode(cursor.encode()) == cursor


def test_a_cursor_inside_a_row_of_frames_reads_that_row_again() -> None:
    assert Cursor(9, frame=4).after == 8
    assert Cursor(9).after == 9


@pytest.mark.parametrize(
    "text",
    ["", "17", "-1", "a b", "é", "AAAA\n", "Li4u", "=" * 9, "x" * 500, base64.b64encode(b"1.2.A.3").decode(),
     base64.b64encode(b"1.0.n1.1\n").decode(), base64.b64encode(b"\xd9\xa1.0.n1.1").decode()],
)  # fmt: skip
def test_a_bad_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.decode(text)


@examples(st.text(max_size=60))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        cursor = Cursor.decode(text)
    except ValueError:
        return
    assert cursor.position >= 0
