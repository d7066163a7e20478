"""What a call says before its body, and where a URL leads. Pure."""

from __future__ import annotations

from collections.abc import Callable

import httptools
import pytest

from gateway.upstreams.http1_request import Place, place_of, request_head
from gateway.upstreams.upstream import UpstreamFailure

KEY = "sk-canary"


@pytest.mark.parametrize(
    ("url", "origin", "target", "host"),
    [
        ("https://api.openai.com/v1/x", ("api.openai.com", 443, True), "/v1/x", "api.openai.com"),
        ("http://h", ("h", 80, False), "/", "h"),
        ("http://H:8080/a?b=c#d", ("h", 8080, False), "/a?b=c", "h:8080"),
        ("http://[::1]:1234/v1", ("::1", 1234, False), "/v1", "[::1]:1234"),
        ("https://[2001:db8::1]/", ("2001:db8::1", 443, True), "/", "[2001:db8::1]"),
        ("http://h:80/", ("h", 80, False), "/", "h:80"),
        ("http://bücher.example/ä ö?ü=1", ("xn--bcher-kva.example", 80, False), "/%C3%A4%20%C3%B6?%C3%BC=1",
         "xn--bcher-kva.example"),
        ("http://h/%2Fa%20b;c=d?e=%3F[1]", ("h", 80, False), "/%2Fa%20b;c=d?e=%3F[1]", "h"),
        ("http://h/a\r\nx: y", ("h", 80, False), "/ax:%20y", "h"),
    ],
)  # fmt: skip
def test_where_a_url_leads(url: str, origin: tuple[str, int, bool], target: str, host: str) -> None:
    assert place_of(url) == Place(origin, target, host, None)


@pytest.mark.parametrize(
    "url",
    ["", "h", "/v1", "ftp://h/", "file:///etc/passwd", "http://", "http:///v1", "http://h:port/", "http://h:99999/",
     "http://[::1/", "http://" + "ü" * 70 + "/", "http://user:sk-canary@:0:/"],
)  # fmt: skip
def test_a_url_that_leads_nowhere(url: str) -> None:
    with pytest.raises(UpstreamFailure) as failed:
        place_of(url)
    assert failed.value.kind == "connect_failed"
    assert failed.value.__cause__ is None
    assert KEY not in str(failed.value)


def test_userinfo_is_said_as_basic_authorization_unless_there_is_another() -> None:
    place = place_of("http://user:p%40ss@h/")
    assert place.host == "h"
    assert b"\r\nauthorization: Basic dXNlcjpwQHNz\r\n" in request_head(place, {}, 0)
    head = request_head(place, {"authorization": f"Bearer {KEY}"}, 0)
    assert head.count(b"authorization") == 1
    assert b"Basic" not in head


class Read:
    """A request as a server reads it."""

    def __init__(self, head: bytes) -> None:
        self.headers: list[bytes] = []
        self.requests = 0
        httptools.HttpRequestParser(self).feed_data(head)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append(name)

    def on_headers_complete(self) -> None:
        self.requests += 1


INTO_LINES = [
    "a\r\nevil: 1",
    "a\nevil: 1",
    "a\revil: 1",
    "a\r\n\r\nPOST /evil HTTP/1.1\r\nhost: h\r\n\r\n",
    "a\0b",
    "a\r",
]


def smuggled(write: Callable[[Place, dict[str, str], int], bytes], said: str) -> bool:
    """Whether a header's value came to mean more than a value."""
    try:
        read = Read(write(place_of("http://h/"), {"x-said": said}, 0))
    except (UpstreamFailure, httptools.HttpParserError):
        return False
    return read.headers != [b"host", b"x-said", b"content-length"] or read.requests != 1


@pytest.mark.parametrize("said", INTO_LINES)
def test_a_value_cannot_leave_its_line(said: str) -> None:
    assert not smuggled(request_head, said)
    for headers in ({"x-said": said}, {said: "x"}):
        with pytest.raises(UpstreamFailure, match="line break"):
            request_head(place_of("http://h/"), headers, 0)


def test_the_check_of_lines_sees_a_writer_that_trusts_its_values() -> None:
    def trusting(place: Place, headers: dict[str, str], length: int) -> bytes:
        lines = "".join(f"{name}: {said}\r\n" for name, said in headers.items())
        return f"POST / HTTP/1.1\r\nhost: h\r\n{lines}content-length: {length}\r\n\r\n".encode()

    assert smuggled(trusting, INTO_LINES[0])


def test_a_value_is_sent_as_it_is_or_not_at_all() -> None:
    assert "x-said: é\r\n".encode("latin-1") in request_head(place_of("http://h/"), {"x-said": "é"}, 0)
    with pytest.raises(UpstreamFailure, match="cannot say") as failed:
        request_head(place_of("http://h/"), {"authorization": f"Bearer {KEY}\u2026"}, 0)
    assert failed.value.__cause__ is None
    assert KEY not in str(failed.value)
