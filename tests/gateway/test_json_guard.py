"""Bodies: what is refused, what passes unchanged, and what a hostile one may cost."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.json_guard import LARGE, LONGEST_ID, check_id, check_ids, parse
from tests.gateway.serving import serving

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
ROOT = Path(__file__).parents[2]


def refusal(body: bytes) -> str | None:
    with pytest.raises(InvalidRequest) as refused:
        parse(body)
    return refused.value.error_code


MALFORMED = [
    b"", b"   ", b"{", b"[1]", b'"text"', b"null", b"7", b"{'a':1}", b'{"a":1,}', b'{"a":NaN}',
    b'{"a":Infinity}', b'{"a":-Infinity}',
    b'{"a":1e400}', b'{"a":"\\ud800"}', b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'\xef\xbb\xbf{"a":1}', b'{"a":01}',
    b'{"a":' + b"[" * 100_000, b'{"a":' * 2000 + b"1" + b"}" * 2000, b'{"a":"\n"}', b'{"a":1}{"b":2}', b'{"a":\x00}',
]  # fmt: skip


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: str(body[:20]))
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    assert refusal(body) == "invalid_json"


@pytest.mark.parametrize("levels", [201, 254, 255, 1000])
def test_what_could_not_be_written_again_is_refused(levels: int) -> None:
    """Read it can be; but it could be neither recorded nor sent on."""
    assert refusal(b'{"a":' + b"[" * levels + b"]" * levels + b"}") == "nested_too_deep"
    assert parse(b'{"a":' + b"[" * 199 + b"]" * 199 + b"}")


BEYOND = [
    b"18446744073709551616", b"-9223372036854775809", b"99999999999999999999", b"[1,2,100000000000000000000000000000]",
    b'{"b":18446744073709551616}', b"1" * 3000, b"-" + b"9" * 20, b" 18446744073709551616 ",
]  # fmt: skip


@pytest.mark.parametrize("number", BEYOND, ids=lambda number: str(number[:30]))
@pytest.mark.parametrize("padding", [0, 300_000])
def test_an_integer_beyond_64_bits_is_refused(number: bytes, padding: int) -> None:
    assert refusal(b'{"p":"%b","a":%b}' % (b"x" * padding, number)) == "integer_out_of_range"


def test_a_parser_without_the_guard_rounds_it() -> None:
    """The deliberate bug: orjson alone."""
    assert type(orjson.loads(b'{"a":18446744073709551616}')["a"]) is float


WITHIN = [
    b"18446744073709551615", b"-9223372036854775808", b"0.12345678901234567890123456789", b"12345678901234567890123.5",
    b"12345678901234567890123e-5", b"1e-12345678901234567890", b"1.5E+12", b'"18446744073709551616"',
    b'"\\"99999999999999999999,"',
    b'"\\\\"', b'{"12345678901234567890123":1}', b'"a, 99999999999999999999 ]"',
]  # fmt: skip


@pytest.mark.parametrize("value", WITHIN, ids=str)
@pytest.mark.parametrize("padding", [0, 300_000])
def test_numbers_in_range_and_digits_in_strings_pass(value: bytes, padding: int) -> None:
    body = b'{"p":"%b","a":%b}' % (b"\\\\" * (padding // 2), value)
    assert parse(body) == orjson.loads(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))) | st.text('\\"0123456789,{['),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text('ab"\\'), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@given(st.dictionaries(st.text("abc"), json_values, max_size=5), st.integers(65_300, 65_600))
def test_every_json_object_passes_unchanged_wherever_the_slices_fall(value: dict[str, Any], padding: int) -> None:
    body = orjson.dumps({"pad": "9" * padding * 4, **value})
    assert parse(body) == orjson.loads(body)


@given(st.integers(2**64, 10**30), st.integers(65_400, 65_600))
def test_no_slice_hides_an_integer(number: int, padding: int) -> None:
    assert refusal(b'{"p":"%b","a":[1,%d]}' % (b"x" * (padding * 4), number)) == "integer_out_of_range"


BOMBS = {
    "objects": b'{"a":[' + b"{}," * 3_000_000 + b"{}]}",
    "arrays": b'{"a":[' + b"[]," * 3_000_000 + b"[]]}",
    "numbers": b'{"a":[' + b"1," * 4_500_000 + b"1]}",
    "strings": b'{"a":[' + b'"",' * 3_000_000 + b'""]}',
    "backslashes": b'{"a":[' + b'"\\\\",' * 1_800_000 + b'""]}',
    "quotes": b'{"a":' + b'"' * 9_000_000 + b"}",
    "digits": b'{"a":' + b"0" * 9_000_000 + b"}",
    "decimals": b'{"a":0.' + b"0" * 9_000_000 + b"}",
}
"""Nine megabytes each."""

MEASURE = """
from tests.gateway.test_json_guard import BOMBS, peak_kib, {parse} as parse
for name, bomb in {bombs}:
    before = peak_kib()
    try:
        kept = parse(bomb)
    except ValueError:
        pass
    except Exception as error:
        assert type(error).__name__ == "InvalidRequest", error
    print(name, peak_kib() - before)
"""


def peak_kib() -> int:
    """The most memory that this process had. Not `ru_maxrss`: a child begins with the peak of its parent there."""
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))


def growth_kib(parser: str, bombs: str) -> dict[str, int]:
    """How much a process of its own grows, at its peak, by parsing each bomb."""
    code = MEASURE.format(parse=parser, bombs=bombs)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name: int(grown) for name, grown in (line.split() for line in done.stdout.splitlines())}


def unguarded(body: bytes) -> Any:
    """The deliberate bug: orjson alone."""
    return orjson.loads(body)


def test_a_9_mb_bomb_costs_less_than_50_mb() -> None:
    grown = growth_kib("parse", "BOMBS.items()")
    assert grown.keys() == BOMBS.keys()
    assert max(grown.values()) < 50 * 1024


def test_a_parser_without_the_guard_takes_more() -> None:
    assert growth_kib("unguarded", '[("objects", BOMBS["objects"])]')["objects"] > 50 * 1024


def test_large_honest_bodies_pass() -> None:
    picture = base64.b64encode(os.urandom(6 << 20)).decode()
    code = 'def f(x):\n    return {"a": [1, 2, 3], "b": "\\\\"}\n' * 60_000
    body = {"model": "m", "messages": [{"role": "user", "content": code}, {"role": "user", "content": picture}]}
    assert parse(orjson.dumps(body)) == body


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\x00b", "\x1b[31m", "x" * (LONGEST_ID + 1)])
def test_ids_that_would_break_a_line_are_refused(value: str) -> None:
    for field in ("model", "user", "session_id", "safety_identifier"):
        with pytest.raises(InvalidRequest) as refused:
            check_ids({field: value})
        assert refused.value.param == field


def test_usual_ids_pass() -> None:
    check_ids({"model": "openai/gpt-4o", "user": "Ünïcode 用户", "session_id": None, "messages": [{"content": "a\nb"}]})
    check_id("u" * LONGEST_ID, "user")


async def test_a_body_arrives_as_it_was_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for size in (10, LARGE + 1000):
            data = orjson.dumps({"model": "m", "text": "x" * size})
            status, answer, _ = await served.post(CHAT, data=data, headers=JSON)
            assert (status, answer["length"]) == (200, len(data))


REFUSED_TYPES = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "TEXT/PLAIN"]


@pytest.mark.parametrize("kind", REFUSED_TYPES)
async def test_types_that_a_foreign_page_can_send_are_refused(tmp_path: Path, kind: str) -> None:
    async with serving(tmp_path) as served:
        status, answer, _ = await served.post(CHAT, data=b"{}", headers={"Content-Type": kind})
        assert (status, answer["error"]["code"]) == (400, "unsupported_content_type")
        assert "application/json" in answer["error"]["message"]


async def test_a_browser_must_say_json_and_a_program_need_not_say_anything(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        options: dict[str, Any] = {"data": b"{}", "skip_auto_headers": ["Content-Type"]}
        assert (await served.post(CHAT, **options))[0] == 200
        assert (await served.post(CHAT, **options, headers={"Origin": served.url}))[0] == 400
        assert (await served.post(CHAT, data=b"{}", headers={"Origin": served.url, **JSON}))[0] == 200


async def test_a_compressed_body_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        status, answer, _ = await served.post(CHAT, data=b"x", headers={"Content-Encoding": "gzip", **JSON})
        assert (status, answer["error"]["code"]) == (400, "unsupported_content_encoding")


async def test_a_body_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        writer.close()


async def test_a_body_without_a_length_is_counted(tmp_path: Path) -> None:
    async def endless() -> Any:
        for _ in range(46):
            yield b" " * (1 << 20)

    async with serving(tmp_path) as served:
        status, answer, _ = await served.post(CHAT, data=endless(), headers=JSON)
        assert (status, answer["error"]["code"]) == (413, "request_too_large")


async def test_other_requests_are_served_while_a_bomb_is_looked_at(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        bomb = asyncio.create_task(served.post(CHAT, data=BOMBS["objects"], headers=JSON))
        assert (await served.get("/health"))[0] == 200
        status, answer, _ = await bomb
        assert (status, answer["error"]["code"]) == (400, "too_many_values")
