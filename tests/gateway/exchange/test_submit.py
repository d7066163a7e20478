"""From a request's JSON to a submission: what is recorded of it, and what is only used."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson
import pytest

from eventstore.parts import join
from gateway.errors import Forbidden, GatewayError, InvalidRequest
from gateway.exchange.inputs import Submission
from gateway.exchange.submit import Caller, Rules, submit, unread
from gateway.redaction import Redactor
from gateway.wire.dialects import CHAT
from tests.gateway.exchange.given import BODY, ID

REDACTOR = Redactor(b"k" * 32)
RULES = Rules(REDACTOR, "demo/echo", frozenset({"models.example"}), bound_to_loopback=True)


def caller(headers: Mapping[str, str] | None = None, key: str = "anonymous") -> Caller:
    return Caller(ID, "/v1/chat/completions", key, "127.0.0.1", headers or {})


def made(headers: Mapping[str, str] | None = None, key: str = "anonymous", **fields: Any) -> Submission:
    body = {**BODY, **fields}
    CHAT.check(body)
    return submit(caller(headers, key), body, orjson.dumps(body), RULES, CHAT, body)


def test_what_was_received_is_known_by_length_and_digest() -> None:
    raw = orjson.dumps(BODY)
    found = made()
    assert (found.body_length, found.body_digest) == (len(raw), sha256(raw).hexdigest())
    assert (found.model, found.streamed, found.include_usage) == ("p/m", False, False)


def test_a_model_that_is_not_named_is_the_default_one() -> None:
    assert made(model=None).model == "demo/echo"


@pytest.mark.parametrize(
    ("stream", "options", "expected"),
    [
        (True, {"include_usage": True}, (True, True)),
        (True, None, (True, False)),
        (None, None, (False, False)),
        (False, None, (False, False)),
    ],
)
def test_streaming_and_its_usage(
    stream: bool | None, options: dict[str, bool] | None, expected: tuple[bool, bool]
) -> None:
    found = made(stream=stream, stream_options=options)
    assert (found.streamed, found.include_usage) == expected


def test_large_parts_become_blobs_and_join_to_what_was_sent() -> None:
    messages = [{"role": "user", "content": "all of it " * 500}, {"role": "user", "content": "and this"}]
    found = made(messages=messages)
    blobs = {sha256(blob).digest(): blob for blob in found.blobs}
    assert found.recorded is not None
    assert len(found.blobs) == 1
    assert join(found.recorded, blobs.__getitem__) == {**BODY, "messages": messages}


def test_a_credential_is_used_and_not_recorded() -> None:
    found = made(api_key="sk-0123456789abcdef")
    assert found.api_key == "sk-0123456789abcdef"
    assert found.recorded is not None
    assert found.recorded["api_key"] == REDACTOR.mark("sk-0123456789abcdef")
    assert "sk-0123456789abcdef" not in repr(found)


@pytest.mark.parametrize(
    ("headers", "fields", "key", "subject"),
    [
        ({}, {}, "anonymous", "anonymous"),
        ({}, {}, "key-abc", "key-abc"),
        ({}, {"user": "ann@example.org"}, "key-abc", f"user-{REDACTOR.fingerprint('ann@example.org')}"),
        ({}, {"user": "u", "safety_identifier": "s"}, "key-abc", f"user-{REDACTOR.fingerprint('s')}"),
        ({}, {"user": "u", "session_id": "one"}, "key-abc", "session-one"),
        ({"x-abstractcore-session-id": "two"}, {"user": "u"}, "key-abc", "session-two"),
    ],
)
def test_whose_data_it_is(headers: dict[str, str], fields: dict[str, str], key: str, subject: str) -> None:
    assert made(headers, key, **fields).subject == subject


def test_tags_come_from_metadata_and_a_header_which_wins() -> None:
    headers = {"x-abstractcore-tags": "team=core, empty=, =nameless, bare, run = 7 "}
    assert made(headers, metadata={"team": "other", "a": "b"}).tags == {
        "team": "core", "a": "b", "empty": "", "run": "7",
    }  # fmt: skip
    with pytest.raises(InvalidRequest):
        made({"x-abstractcore-tags": ",".join(f"t{n}=1" for n in range(33))})


def test_only_known_headers_are_recorded() -> None:
    headers = {"user-agent": "u", "authorization": "Bearer sk-0123456789", "x-unheard-of": "x"}
    assert made(headers).headers == {"user-agent": "u"}


def test_what_must_not_be_retained_is_not_there() -> None:
    headers = {"x-abstractcore-retention": "none", "x-abstractcore-tags": "team=core", "user-agent": "u"}
    found = made(headers, metadata={"a": "b"}, user="ann")
    assert (found.retained, found.recorded, found.blobs, found.tags) == (False, {}, (), None)
    assert found.headers == {"user-agent": "u", "x-abstractcore-retention": "none"}
    assert found.body["metadata"] == {"a": "b"}, "it is still sent"
    assert not unread(caller(headers), CHAT, b"{").retained


@pytest.mark.parametrize(
    ("headers", "fields", "error"),
    [
        ({"x-abstractcore-retention": "some"}, {}, InvalidRequest),
        ({"x-abstractcore-session-id": "a\x7fb"}, {}, InvalidRequest),
        ({}, {"session_id": "a\nb"}, InvalidRequest),
        ({}, {"user": "x" * 1025}, InvalidRequest),
        ({}, {"base_url": "http://evil.example"}, Forbidden),
        ({}, {"messages": None}, InvalidRequest),
    ],
)
def test_what_is_refused(headers: dict[str, str], fields: dict[str, Any], error: type[GatewayError]) -> None:
    with pytest.raises(error):
        made(headers, **fields)


def test_of_what_cannot_be_read_only_length_and_digest_are_known() -> None:
    found = unread(caller(key="key-abc"), CHAT, b'{"a"')
    assert (found.recorded, found.body, found.body_length, found.key) == (None, {}, 4, "key-abc")
    assert found.body_digest == sha256(b'{"a"').hexdigest()
