"""multipart/form-data (RFC 7578), written: a form whose files are `{"filename", "content_type", "data"}`, `data` in
base64, as the log keeps them."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import orjson

from gateway.wire.values import WireError


def is_file(value: Any) -> bool:
    """Whether a field of a form is a file."""
    named = isinstance(value, dict) and isinstance(value.get("filename"), str)
    return named and isinstance(value.get("data"), str) and isinstance(value.get("content_type", ""), str)


def encode(form: Mapping[str, Any]) -> tuple[str, bytes]:
    """The content type and the bytes. A list becomes as many parts, named `name[]`. Raises `WireError` for a file that
    is not base64."""
    parts = [part for name, value in form.items() for part in _parts(name, value)]
    boundary = "abstractcore-" + sha256(b"\0".join(parts)).hexdigest()[:40]  # of the content, so it is not in it
    mark = b"--" + boundary.encode()
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
    return f"multipart/form-data; boundary={boundary}", body


def _parts(name: str, value: Any) -> Iterator[bytes]:
    if isinstance(value, list):
        for item in value:
            yield from _parts(f"{name}[]", item)
    elif is_file(value):
        kind = value.get("content_type") or "application/octet-stream"
        head = f'Content-Disposition: form-data; name="{_quoted(name)}"; filename="{_quoted(value["filename"])}"'
        yield f"{head}\r\nContent-Type: {_line(kind)}\r\n\r\n".encode() + _data(name, value)
    elif value is not None:
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        yield f'Content-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{text}'.encode()


def _data(name: str, file: Mapping[str, Any]) -> bytes:
    try:
        return b64decode(file["data"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"the file {name[:80]!r} is not base64") from error


def _quoted(text: str) -> str:
    """As browsers write it (WHATWG HTML, multipart form data)."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _line(text: str) -> str:
    return text.replace("\r", "").replace("\n", "")
