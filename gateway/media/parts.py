"""The files in a chat body: where they are, what they refer to, and how their parts are replaced. Pure.

    {"type": "image_url", "image_url": {"url": "data:… | https://… | path"}}     or the URL in place of the object
    {"type": "file", "file": {"file_data": "data:… | base64", "filename": "…"}}     OpenAI's
    {"type": "file", "file": {"file_id": "…"}}
    {"type": "file", "file_url": {"url": "data:… | https://… | path"}}            or inside `file`, or the URL alone
    {"type": "input_audio", "input_audio": {"data": "base64", "format": "wav | mp3"}}

Source: https://platform.openai.com/docs/api-reference/chat/create, and the original AbstractCore server for `file_url`
and for `@name` in a text.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from eventstore.value import value
from gateway.errors import InvalidRequest
from gateway.media.kinds import clean, name_of_url

LARGEST_SUM = 32 * 1024 * 1024
MOST_FILES = 64
"""What the files of one request may come to: bytes, and how many."""
Source = Literal["inline", "url", "path", "id", "audio"]
AUDIO_TYPES = frozenset({"input_audio"})
FILE_TYPES = frozenset({"image_url", "file", "input_file"})
_MENTION = re.compile(r"(?<![\w@.])@([^\s@]+\.\w+)")
"""`@report.pdf`, `@/data/report.pdf`; not `ada@example.com`."""


@value
class Found:
    """A file that a message refers to. `message` and `part` are indexes (`part` -1: a mention in the text); `ref` is
    the data, the URL, the path or the id; `image` whether it was given as an image."""

    message: int
    part: int
    source: Source
    ref: str
    name: str | None = None
    image: bool = False

    @property
    def where(self) -> str:
        """The part's JSON path."""
        path = f"messages[{self.message}].content"
        return path if self.part < 0 else f"{path}[{self.part}]"


def find(body: Mapping[str, Any]) -> list[Found]:
    """Every file of every message, in order. Raises `InvalidRequest` for a part that cannot be understood."""
    return [
        _found(m, p, part)
        for m, message in enumerate(body.get("messages") or ())
        for p, part in _parts(message)
        if part.get("type") in FILE_TYPES or part.get("type") in AUDIO_TYPES
    ]


def mentions(body: Mapping[str, Any]) -> list[Found]:
    """Every `@name` in what users wrote, each once in a message."""
    return [
        Found(m, -1, "path", name, name_of_url(name))
        for m, message in enumerate(body.get("messages") or ())
        if isinstance(message, dict) and message.get("role") == "user"
        for name in dict.fromkeys(_MENTION.findall("\n".join(_texts(message))))
    ]


def replaced(body: dict[str, Any], found: Sequence[tuple[Found, Mapping[str, Any]]]) -> dict[str, Any]:
    """The body with these parts in place of those found; a mention's comes at the end of its message. Never mutates."""
    messages = list(body["messages"])
    for file, part in found:
        message = messages[file.message]
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        if file.part < 0:
            parts.append(part)
        else:
            parts[file.part] = _like(parts[file.part], part)
        messages[file.message] = {**message, "content": parts}
    return {**body, "messages": messages}


def _like(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The new part with what the old one said besides its file: `cache_control`, an image's `detail`."""
    made = {**new, **({"cache_control": old["cache_control"]} if old.get("cache_control") else {})}
    image = old.get("image_url")
    if isinstance(image, dict) and "image_url" in made:
        made["image_url"] = {**image, **made["image_url"]}
    return made


def data_of(file: Found) -> tuple[bytes, str | None]:
    """The bytes of an inline file, and the media type that it was declared to have. Raises `InvalidRequest`."""
    head, comma, data = file.ref.partition(",")
    if file.ref[:5].lower() != "data:":
        return _decoded(file.ref, file), None
    if not comma:
        raise InvalidRequest(f"{file.where} must be a data URL: data:<media type>;base64,<data>.", param=file.where)
    media_type, *parameters = (word.strip().lower() for word in head[5:].split(";"))
    return (_decoded(data, file) if "base64" in parameters else unquote_to_bytes(data)), media_type or None


def inline_size(file: Found) -> int:
    """At most how many bytes an inline file has, without decoding it."""
    return len(file.ref) * 3 // 4


def _decoded(data: str, file: Found) -> bytes:
    try:
        return b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        pass
    try:
        return b64decode("".join(data.split()), validate=True)  # some clients break the lines
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{file.where} is not base64.", param=file.where) from error


def _parts(message: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        yield from ((i, part) for i, part in enumerate(content) if isinstance(part, dict))


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    yield from (p["text"] for _, p in _parts(message) if p.get("type") == "text" and isinstance(p.get("text"), str))


def _found(m: int, p: int, part: Mapping[str, Any]) -> Found:
    kind = part["type"]
    if kind in AUDIO_TYPES:
        audio = part.get("input_audio")
        data = audio.get("data") if isinstance(audio, dict) else None
        return Found(m, p, "audio", _text(data, f"messages[{m}].content[{p}].input_audio.data"))
    where = f"messages[{m}].content[{p}].{'image_url' if kind == 'image_url' else 'file'}"
    if kind == "image_url":
        return _by_url(m, p, _text(_url(part.get("image_url")), f"{where}.url"), None, image=True)
    inner = part.get("file")
    fields = {**part, **inner} if isinstance(inner, dict) else part
    given = fields.get("filename")
    name = clean(given) if isinstance(given, str) and given else None
    if fields.get("file_data") is not None:
        return Found(m, p, "inline", _text(fields["file_data"], f"{where}.file_data"), name)
    if fields.get("file_url") is not None:
        return _by_url(m, p, _text(_url(fields["file_url"]), f"{where}.file_url"), name)
    if fields.get("file_id") is not None:
        return Found(m, p, "id", _text(fields["file_id"], f"{where}.file_id"), name)
    raise InvalidRequest(f"{where} needs file_data, file_url or file_id.", param=where)


def _by_url(m: int, p: int, url: str, name: str | None, image: bool = False) -> Found:
    scheme = url.partition(":")[0].lower()
    if scheme == "data":
        return Found(m, p, "inline", url, name, image)
    if scheme in {"http", "https"}:
        return Found(m, p, "url", url, name or name_of_url(url), image)
    path = url[7:] if url[:7].lower() == "file://" else url
    return Found(m, p, "path", path, name or name_of_url(path), image)


def _url(given: Any) -> Any:
    return given.get("url") if isinstance(given, dict) else given


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str) or not given:
        raise InvalidRequest(f"{where} must be a string.", param=where)
    return given
