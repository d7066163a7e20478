"""Request bodies: read within bounds, checked before they are parsed, and parsed to exactly what the client wrote.

orjson refuses NaN, Infinity, 1e400, lone surrogates, bad UTF-8 and depth over 1024. What it lets through is refused
here: what is nested too deep to be written again, integers beyond 64 bits, which it would silently round to floats, and
bodies of so many tiny values that the parsed form takes a hundred times their length. The last two checks look at the
text outside of strings only.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway.errors import InvalidRequest, RequestTimeout, TooLarge
from gateway.wire.nesting import deeper_than

LARGEST_BODY = 45 * 1024 * 1024
"""Bytes. Room for 32 MB of files in base64."""
READ_DEADLINE_S = 60.0
MOST_VALUES = 200_000
"""Objects, arrays and commas outside of strings."""
DEEPEST = 200
"""Objects and arrays within one another."""
LARGE = 256 * 1024
"""Bodies over this many bytes are checked and parsed in a thread, slice by slice."""

LONGEST_ID = 1024
ID_FIELDS = ("model", "user", "safety_identifier", "session_id", "prompt_cache_key", "previous_response_id")

_SLICE = 64 * 1024
_LONGEST_NUMBER = 4096
_DIGITS = bytes(48 if 48 <= byte <= 57 else 32 for byte in range(256))
_RUN = b"0" * 19
_INTEGER = re.compile(rb"(?<![0-9.eE+\-])-?[0-9]{19,}(?![0-9.eE])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_UTF8 = re.compile(r"[\ud800-\udfff]")
"""What stands in a header for bytes that are no UTF-8."""
_REFUSED_TYPES = ("text/", "application/x-www-form-urlencoded", "multipart/")


async def read_json(request: web.Request, limit: int = LARGEST_BODY) -> tuple[dict[str, Any], bytes]:
    """The request's JSON object, and the bytes that it was read from. Raises what the parts below raise."""
    check_content_type(request.headers)
    raw = await read_body(request, limit)
    if len(raw) <= LARGE:
        return parse(raw), raw
    return await asyncio.to_thread(parse, raw), raw


def check_content_type(headers: Mapping[str, str]) -> None:
    """Raises `InvalidRequest` for types that a foreign web page can send without asking: plain text and forms; and for
    any but JSON where a browser sends the request. No type at all is JSON from a program that does not say so."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_json = kind == "application/json" or kind.endswith("+json")
    if kind.startswith(_REFUSED_TYPES) or ("Origin" in headers and not is_json):
        raise InvalidRequest(
            f"Send JSON with the header Content-Type: application/json (it was {kind[:80] or 'missing'!r}).",
            code="unsupported_content_type",
        )


async def read_body(request: web.Request, limit: int = LARGEST_BODY) -> bytes:
    """The whole body, at most `limit` bytes, within `READ_DEADLINE_S`.

    Raises `InvalidRequest` for a Content-Encoding, `TooLarge` (before reading where Content-Length tells),
    `RequestTimeout`, `InvalidRequest` for one that breaks off.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InvalidRequest("Send the body without Content-Encoding.", code="unsupported_content_encoding")
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    content = request.content
    try:
        if content.is_eof():  # usual: all of it came with the head, and waits
            body = content.read_nowait()
            if len(body) > limit:
                raise _too_large(limit)
            return body
        async with asyncio.timeout(READ_DEADLINE_S):
            return await _read_slowly(request, limit)
    except TimeoutError:
        raise RequestTimeout(f"The body did not arrive within {READ_DEADLINE_S:g} seconds.") from None
    except ConnectionError:  # also where the client left before its whole body was read; nobody hears this, but it is
        # recorded like any other refusal
        raise InvalidRequest("The body broke off before its end.", code="incomplete_body") from None


async def _read_slowly(request: web.Request, limit: int) -> bytes:
    pieces, length = [], 0
    while piece := await request.content.readany():
        length += len(piece)
        if length > limit:
            raise _too_large(limit)
        pieces.append(piece)
    return b"".join(pieces)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is over {limit // (1024 * 1024)} MiB ({limit} bytes).")


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in these bytes, every number exactly as written. Raises `InvalidRequest`."""
    if len(body) > MOST_VALUES or _RUN in body.translate(_DIGITS):
        _check_outside_strings(body)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = "it is empty" if not body.strip() else str(error)
        raise InvalidRequest(f"The body is not valid JSON: {where}.", code="invalid_json") from None
    if type(value) is not dict:
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    if deeper_than(value, DEEPEST, body):
        raise InvalidRequest(f"The body is nested deeper than {DEEPEST} levels.", code="nested_too_deep")
    return value


def _check_outside_strings(body: bytes) -> None:
    """Count values and find integers beyond 64 bits, slice by slice; ends at the first finding."""
    values, number = 0, b""
    for outside in _outside_strings(body):
        values += outside.count(b",") + outside.count(b"{") + outside.count(b"[")
        if values > MOST_VALUES:
            raise InvalidRequest(f"The body holds more than {MOST_VALUES:,} values.", code="too_many_values")
        text = number + outside
        number = text[len(text.rstrip(b"0123456789+-.eE")) :]  # a number may go on in the next slice
        if len(number) > _LONGEST_NUMBER:
            raise InvalidRequest(f"A number has more than {_LONGEST_NUMBER:,} characters.", code="number_too_long")
        _check_integers(text[: len(text) - len(number)])
    _check_integers(number)


def _check_integers(text: bytes) -> None:
    for found in _INTEGER.finditer(text):
        digits = found.group()
        if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
            raise InvalidRequest(
                f"The integer {digits[:40].decode()} does not fit into 64 bits. Send it as a string.",
                code="integer_out_of_range",
            )


def _outside_strings(body: bytes) -> Iterator[bytes]:
    """What is left of JSON text when the contents of its strings are taken out, in slices."""
    at, inside = 0, 0
    while at < len(body):
        end = _slice_end(body, at)
        # Escapes go first, so that every quote that is left opens or closes a string.
        pieces = body[at:end].replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        yield b'"'.join(pieces[inside::2])
        inside ^= (len(pieces) - 1) & 1
        at = end


def _slice_end(body: bytes, at: int) -> int:
    """Where a slice can end without cutting an escape: after an even number of backslashes."""
    end = at + _SLICE
    if end >= len(body) or body[end - 1] != 0x5C:
        return end
    slice_ = body[at:end]
    return end + (len(slice_) - len(slice_.rstrip(b"\\"))) % 2


def check_ids(body: Mapping[str, Any]) -> None:
    """Raises `InvalidRequest` where an id-like field holds a control character (CR, LF, NUL…) or is too long."""
    for field in ID_FIELDS:
        if isinstance(value := body.get(field), str):
            check_id(value, field)


def check_id(value: str, param: str) -> None:
    """Raises `InvalidRequest` for one value that would break a line of a log, a header or a subject."""
    if value.isascii() and value.isprintable() and len(value) <= LONGEST_ID:
        return  # nearly every one
    if _CONTROL.search(value):
        raise InvalidRequest(f"{param} must not contain control characters.", param=param, code="invalid_value")
    check_utf8(value, param)
    if len(value) > LONGEST_ID:
        raise InvalidRequest(f"{param} must not be longer than {LONGEST_ID} characters.", param=param)


def check_utf8(value: str, param: str) -> None:
    """Raises `InvalidRequest` for a header's value that cannot be recorded as it is."""
    if not value.isascii() and _NO_UTF8.search(value):
        raise InvalidRequest(f"{param} must be UTF-8.", param=param, code="invalid_value")
