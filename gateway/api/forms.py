"""Requests that are forms: multipart/form-data (RFC 7578), read whole, and parsed off the event loop where large."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

from aiohttp import web
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from gateway.errors import InvalidRequest
from gateway.json_guard import LARGE, LARGEST_BODY, read_body, read_json

MOST_PARTS = 1000
_IN_MEMORY = {"MAX_MEMORY_FILE_SIZE": LARGEST_BODY, "UPLOAD_ERROR_ON_BAD_CTE": True}
"""What callers send is written to no other file than the log's."""


async def read_form(request: web.Request) -> tuple[dict[str, Any], bytes]:
    """The form as a JSON object, and the bytes that it was read from. A file becomes `{"filename", "content_type",
    "data"}`, `data` in base64; fields of one name, or named `name[]`, become a list. JSON passes as it is.

    Raises `GatewayError`.
    """
    content_type = request.headers.get("Content-Type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        return await read_json(request)
    raw = await read_body(request)
    if len(raw) <= LARGE:
        return _parse(raw, content_type), raw
    return await asyncio.to_thread(_parse, raw, content_type), raw


def _parse(raw: bytes, content_type: str) -> dict[str, Any]:
    form = _Form()
    try:
        parser = FormParser(
            "multipart/form-data",
            lambda field: form.add(field.field_name, _value(field)),
            lambda file: form.add(file.field_name, _file(file)),
            form.end,
            boundary=parse_options_header(content_type)[1].get(b"boundary"),
            config=_IN_MEMORY,
        )
        parser.write(raw)
    except (FormParserError, UnicodeEncodeError) as error:
        raise InvalidRequest("The form cannot be read.", code="invalid_form") from error
    if not form.whole:
        raise InvalidRequest("The form breaks off before its end.", code="invalid_form")
    return form.fields()


class _Form:
    """The parts of a form by their names. `whole`: its end has come."""

    def __init__(self) -> None:
        self._found: dict[str, list[Any]] = {}
        self._lists: set[str] = set()
        self._count = 0
        self.whole = False

    def add(self, name: bytes | None, value: Any) -> None:
        """Take the next part. Raises `InvalidRequest` for one too many."""
        self._count += 1
        if self._count > MOST_PARTS:
            raise InvalidRequest(f"The form has more than {MOST_PARTS} parts.", code="invalid_form")
        text = _text(name)
        if text.endswith("[]"):
            text = text[:-2]
            self._lists.add(text)
        self._found.setdefault(text, []).append(value)

    def end(self) -> None:
        """It is whole."""
        self.whole = True

    def fields(self) -> dict[str, Any]:
        """Each name's value, or values."""
        return {
            name: found if name in self._lists or len(found) > 1 else found[0] for name, found in self._found.items()
        }


def _value(field: Field) -> str:
    return _text(field.value)


def _file(file: File) -> dict[str, str]:
    file.file_object.seek(0)
    data = file.file_object.read()
    return {
        "filename": _text(file.file_name),
        "content_type": _text(file.content_type) if file.content_type else "application/octet-stream",
        "data": b64encode(data).decode(),
    }


def _text(value: bytes | str | None) -> str:
    """Raises `InvalidRequest` for what is no UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else value or ""
    except UnicodeDecodeError as error:
        raise InvalidRequest("A field of the form is not UTF-8.", code="invalid_form") from error
