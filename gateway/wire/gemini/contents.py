"""Gemini's `contents` as chat messages: https://ai.google.dev/api/caching#Content

A turn's parts become one message, also where a client gives back each piece of a stream as a turn; results of functions
are messages of their own. Calls need no ids there, so one without gets one, and a result without answers the first open
call of its function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import orjson

from gateway.errors import InvalidRequest, UnsupportedParameter
from gateway.wire.gemini.signed import signed_in, usual
from gateway.wire.responses.sealed import BLOCKS

_SOUNDS: Mapping[str, str] = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}
"""Subtypes of audio -> chat's names for the formats."""

Part = Mapping[str, Any]


def messages(system: Mapping[str, Any] | None, contents: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The conversation. Raises `InvalidRequest`, `UnsupportedParameter`."""
    if system is not None and (text := _texts("systemInstruction", system.get("parts") or (), "\n\n")):
        yield {"role": "system", "content": text}
    ids = _Ids()
    for role, turns in groupby(enumerate(contents), lambda turn: turn[1].get("role") or "user"):
        said = [(f"contents[{index}]", content.get("parts") or ()) for index, content in turns]
        if role == "model":
            yield _model(said[0][0], [part for _, parts in said for part in parts], ids)
        elif role in ("user", "function"):
            for where, parts in said:
                yield from _user(where, parts, ids)
        else:
            raise InvalidRequest(f"{said[0][0]}.role must be user or model.", param=f"{said[0][0]}.role")


def marks(contents: Sequence[Mapping[str, Any]]) -> set[str]:
    """What the parts say to Google's own models alone: thoughts, which nobody else can read, and their signatures, but
    for those that stand for another provider's."""
    given = [part for content in contents for part in content.get("parts") or ()]
    found = {"contents[].parts[].thought"} if any(part.get("thought") for part in given) else set()
    signed = any(part.get("thought_signature") and not signed_in(part) for part in given)
    return found | ({"contents[].parts[].thoughtSignature"} if signed else set())


class _Ids:
    """The ids of calls, as their results name them."""

    def __init__(self) -> None:
        self._open: list[tuple[str, str]] = []
        self._count = 0

    def called(self, call: Mapping[str, Any]) -> str:
        self._count += 1
        made: str = call.get("id") or f"call_{self._count}"
        self._open.append((call["name"], made))
        return made

    def answered(self, response: Mapping[str, Any], where: str) -> str:
        given, name = response.get("id"), response["name"]
        for index, (called, id_) in enumerate(self._open):
            if given == id_ or (given is None and called == name):
                del self._open[index]
                return id_
        if given is None:
            raise InvalidRequest(f"{where} answers no call of {name[:80]!r}.", param=where)
        return str(given)


def _texts(where: str, parts: Sequence[Part], between: str) -> str:
    """The texts of parts that can be nothing else."""
    for index, part in enumerate(parts):
        if part.keys() - {"text", "thought", "thought_signature"}:
            raise UnsupportedParameter("There can be text only.", param=f"{where}.parts[{index}]")
    return between.join(part.get("text") or "" for part in parts if not part.get("thought"))


def _model(where: str, parts: Sequence[Part], ids: _Ids) -> dict[str, Any]:
    called = [part["function_call"] for part in parts if part.get("function_call") is not None]
    text = _texts(where, [part for part in parts if part.get("function_call") is None], "")
    if not called:
        return {"role": "assistant", "content": text}
    said = {"role": "assistant", "content": text or None, "tool_calls": [_call(call, ids) for call in called]}
    signed = [block for part in parts for block in signed_in(part)]
    return said | {BLOCKS: signed} if signed else said


def _call(call: Mapping[str, Any], ids: _Ids) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": orjson.dumps(call.get("args") or {}).decode()}
    return {"id": ids.called(call), "type": "function", "function": function}


def _user(where: str, parts: Sequence[Part], ids: _Ids) -> Iterator[dict[str, Any]]:
    """Results come first: they answer the turn before. Files in a result follow in the user's message, since a tool's
    message has text only."""
    said: list[dict[str, Any]] = []
    for index, part in enumerate(parts):
        at = f"{where}.parts[{index}]"
        if (response := part.get("function_response")) is not None:
            content = orjson.dumps(response.get("response") or {}).decode()
            yield {"role": "tool", "tool_call_id": ids.answered(response, at), "content": content}
            said += [_file(f"{at}.functionResponse", held) for held in response.get("parts") or ()]
        elif part.get("function_call") is not None:
            raise InvalidRequest(f"{at}: only the model calls functions.", param=at)
        elif part.get("text") is not None:
            said.append({"type": "text", "text": part["text"]})
        elif part.keys() & {"inline_data", "file_data"}:
            said.append(_file(at, part))
    if len(said) == 1 and said[0]["type"] == "text":
        yield {"role": "user", "content": said[0]["text"]}
    elif said:
        yield {"role": "user", "content": said}


def _file(where: str, part: Part) -> dict[str, Any]:
    if (blob := part.get("inline_data")) is not None:
        return _inline(blob["mime_type"].lower(), usual(blob["data"]))
    file = part.get("file_data") or {}
    uri, kind = file.get("file_uri") or "", (file.get("mime_type") or "").lower()
    if not uri.lower().startswith(("http://", "https://")) or kind.startswith("audio/"):
        raise UnsupportedParameter(
            "Files are given as inlineData, or by an http(s) URL (sound as inlineData only).", param=f"{where}.fileData"
        )
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": uri}}
    return {"type": "file", "file": {"file_url": uri}}


def _inline(kind: str, data: str) -> dict[str, Any]:
    main, _, sub = kind.partition("/")
    if main == "audio":
        return {"type": "input_audio", "input_audio": {"data": data, "format": _SOUNDS.get(sub, sub)}}
    url = f"data:{kind};base64,{data}"
    if main == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"file_data": url}}
