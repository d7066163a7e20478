"""Input items as chat messages. Items of one turn of the model become one message. Of reasoning only what was signed
goes back, to the provider that signed it; items of unknown kinds are passed over."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.errors import InvalidRequest
from gateway.wire.responses.custom import chat_call
from gateway.wire.responses.sealed import BLOCKS, unseal

_ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})


def messages(items: Sequence[Mapping[str, Any]], native: Collection[Any] = ()) -> list[dict[str, Any]]:
    """The conversation. `native` names the custom tools that are chat's own. Raises `InvalidRequest` for a message that
    is none."""
    said: list[dict[str, Any]] = []
    pictures: list[dict[str, Any]] = []
    signed: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        kind = item.get("type") or ("message" if "role" in item else None)
        if kind not in _RESULTS and pictures:
            said.append({"role": "user", "content": pictures})
            pictures = []
        if kind == "message":
            _message(index, item, said)
        elif kind in _CALLS:
            _turn(said).setdefault("tool_calls", []).append(_call(kind, item, native))
        elif kind in _RESULTS:
            text, more = _result(item.get("output"))
            said.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
            pictures += more
        else:
            signed += unseal(item.get("encrypted_content")) if kind == "reasoning" else ()
            continue
        _sign(said[-1], signed)
        signed = []
    return [*said, {"role": "user", "content": pictures}] if pictures else said


def _sign(turn: dict[str, Any], signed: list[dict[str, Any]]) -> None:
    """Give a turn its thinking; that of a turn which never came is of no use."""
    if signed and turn["role"] == "assistant":
        turn[BLOCKS] = [*turn.get(BLOCKS, ()), *signed]


def _message(index: int, item: Mapping[str, Any], said: list[dict[str, Any]]) -> None:
    role = _ROLES.get(str(item.get("role")))
    if role is None:
        raise InvalidRequest(f"'{item.get('role')}' is no role.", param=f"input[{index}].role", code="invalid_value")
    content = item.get("content")
    parts = _parts(index, content) if isinstance(content, list) else None
    if role == "assistant":
        _say(_turn(said), content if parts is None else "".join(part.get("text", "") for part in parts))
    else:
        said.append({"role": role, "content": content if parts is None else _shortest(parts)})


def _say(turn: dict[str, Any], text: Any) -> None:
    """A turn of several messages is one of chat's, with a line for each: none of them may get lost."""
    both = isinstance(text, str) and bool(turn["content"])
    turn["content"] = f"{turn['content']}\n{text}" if both else text


def _turn(said: list[dict[str, Any]]) -> dict[str, Any]:
    """The model's message that an item adds to: the last one, where nobody spoke since."""
    if said and said[-1]["role"] == "assistant":
        return said[-1]
    said.append({"role": "assistant", "content": None})
    return said[-1]


def _call(kind: str, item: Mapping[str, Any], native: Collection[Any]) -> dict[str, Any]:
    given = item.get(_CALLS[kind]) or ""
    if kind == "custom_tool_call":
        return chat_call(item.get("call_id"), item.get("name"), given, native)
    return {
        "id": item.get("call_id"),
        "type": "function",
        "function": {"name": item.get("name"), "arguments": given},
    }


def _result(output: Any) -> tuple[str, list[dict[str, Any]]]:
    """Its text; what is no text follows in a message of the user's, since a tool's message has text only."""
    if not isinstance(output, list):
        return output if isinstance(output, str) else orjson.dumps(output).decode(), []
    parts = _parts(0, output)
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(texts), [part for part in parts if part["type"] != "text"]


def left_out(item: Mapping[str, Any]) -> str | None:
    """The kind of an item that `messages` passes over."""
    kind = item.get("type") or ("message" if "role" in item else "unknown")
    if kind == "message" or kind in _CALLS or kind in _RESULTS:
        return None
    return None if kind == "reasoning" and unseal(item.get("encrypted_content")) else str(kind)


def parts_left_out(item: Mapping[str, Any]) -> Iterator[str]:
    """The kinds of the content parts that `messages` passes over. Reasoning has none: what was signed has its text."""
    content = item.get("content")
    if isinstance(content, list) and item.get("type") != "reasoning" and left_out(item) is None:
        yield from (str(part.get("type")) for part in content if part.get("type") not in _PARTS)


def _parts(index: int, content: list[Any]) -> list[dict[str, Any]]:
    found = []
    for position, part in enumerate(content):
        if not isinstance(part, dict):
            raise InvalidRequest("A content part must be an object.", param=f"input[{index}].content[{position}]")
        if (made := _part(part)) is not None:
            found.append(made)
    return found


_PARTS = ("input_text", "output_text", "text", "refusal", "input_image", "input_file", "input_audio",
          "image_url", "file")  # fmt: skip
"""No set: what a client sends as a type can be a list."""


def _part(part: Mapping[str, Any]) -> dict[str, Any] | None:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": str(part.get("text") or "")}
        case "refusal":
            return {"type": "text", "text": str(part.get("refusal") or "")}
        case "input_image":
            if part.get("file_id"):
                return {"type": "file", "file": {"file_id": part["file_id"]}}
            image = {"url": part.get("image_url")} | ({"detail": part["detail"]} if part.get("detail") else {})
            return {"type": "image_url", "image_url": image}
        case "input_file":
            names = ("file_data", "file_id", "file_url", "filename")
            return {"type": "file", "file": {name: part[name] for name in names if part.get(name)}}
        case "input_audio" | "image_url" | "file":
            return dict(part)
    return None


def _shortest(parts: list[dict[str, Any]]) -> Any:
    """One text as a text: not every server takes a list."""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def resource(item: Mapping[str, Any], item_id: str) -> dict[str, Any]:
    """An item of the input as it is shown again: with an id and a status, and a text as the part that it stands for.

    https://platform.openai.com/docs/api-reference/responses/input-items
    """
    kind = item.get("type") or ("message" if "role" in item else None)
    shown: dict[str, Any] = {"id": item_id, **item, "type": kind}
    if kind == "message":
        shown["content"] = _shown_content(item)
    if kind == "message" or kind in _CALLS or kind in _RESULTS:
        shown["status"] = item.get("status") or "completed"
    return shown


def _shown_content(item: Mapping[str, Any]) -> list[Any]:
    given = item.get("content")
    parts = given if isinstance(given, list) else [{"type": "text", "text": given or ""}]
    return [_shown_part(part, item.get("role") == "assistant") for part in parts]


def _shown_part(part: Any, output: bool) -> Any:
    if not isinstance(part, dict):
        return part
    if part.get("type") == "text":
        part = {**part, "type": "output_text" if output else "input_text"}
    if part.get("type") == "output_text":
        return {"annotations": [], "logprobs": [], **part}
    return {"detail": "auto", **part} if part.get("type") == "input_image" else part
