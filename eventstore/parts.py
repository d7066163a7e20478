"""A JSON body in parts: what is large stands in blobs, so that history which is sent again each turn is kept once.

The parts of a body are each item of the top-level lists `messages` and `input`, and every other top-level value as a
whole (`tools` too). A part whose JSON is over `LARGE` bytes becomes `{"$blob": "<sha256 hex>"}`, and its JSON a blob.
Of an item, the large members of its list `content` (such as files) are blobs of their own: the item then becomes
`{"$blob": "…", "$parts": {"<index>": "<sha256 hex>"}}`, and stands in its blob with null in their places.
Pure: where blobs are kept is the caller's affair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson

LARGE = 1024
"""Bytes of JSON above which a part becomes a blob."""
MARK = "$blob"
WITHIN = "$parts"
_MARK = MARK.encode()
_ESCAPE = b"\\u"
"""JSON can say any character by its number."""
LISTS = frozenset({"messages", "input"})
WORST = 6
"""Bytes of JSON that one character of text can take: a control character is `\\u001f`."""


def split(body: dict[str, Any], received: bytes | None = None) -> tuple[dict[str, Any], list[bytes]]:
    """The skeleton of a body that was parsed from the bytes `received`, and the blobs it names, each once.

    Keys keep their order; `body` is not changed, and parts that are small are shared with it. Where the whole body
    came in at most `LARGE` bytes no part is measured, and where these can hold no `$blob` either, no part is looked
    at. An object with the key `$blob` is always stored as a blob, however small, so that what a caller wrote is never
    taken for a reference.
    """
    measure = received is None or len(received) > LARGE
    if received is not None and not measure and _MARK not in received and _ESCAPE not in received:
        return body, []
    blobs: dict[str, bytes] = {}
    skeleton: dict[str, Any] = {}
    part = _item if measure else _part
    for name, value in body.items():
        if type(value) is list and name in LISTS:
            skeleton[name] = [part(item, blobs, measure) for item in value]
        elif measure or type(value) is dict:
            skeleton[name] = _part(value, blobs, measure)
        else:
            skeleton[name] = value
    return skeleton, list(blobs.values())


def join(skeleton: Mapping[str, Any], fetch: Callable[[bytes], bytes]) -> dict[str, Any]:
    """The body again. `fetch` gives the blob of a (raw) sha256 digest; what it raises passes through."""
    return {
        name: [_whole(item, fetch) for item in value] if name in LISTS and type(value) is list else _whole(value, fetch)
        for name, value in skeleton.items()
    }


def named(skeleton: Mapping[str, Any]) -> set[bytes]:
    """The (raw) sha256 digests of the blobs that `join` asks for."""
    digests: set[str] = set()
    for name, value in skeleton.items():
        for part in value if name in LISTS and type(value) is list else (value,):
            if type(part) is dict and MARK in part:
                digests.update((part[MARK], *part.get(WITHIN, {}).values()))
    return set(map(bytes.fromhex, digests))


def _part(value: Any, blobs: dict[str, bytes], measure: bool) -> Any:
    if not (type(value) is dict and MARK in value):
        if not measure or _surely_small(value):
            return value
        data = orjson.dumps(value)
        if len(data) <= LARGE:
            return value
    else:
        data = orjson.dumps(value)
    return {MARK: _kept(data, blobs)}


def _item(item: Any, blobs: dict[str, bytes], measure: bool) -> Any:
    content = item.get("content") if measure and type(item) is dict else None
    if type(content) is not list or _surely_small(item):
        return _part(item, blobs, measure)
    large = {i: data for i, part in enumerate(content) if len(data := orjson.dumps(part)) > LARGE}
    if not large:
        return _part(item, blobs, measure)
    rest = {**item, "content": [None if i in large else part for i, part in enumerate(content)]}
    within = {str(i): _kept(data, blobs) for i, data in large.items()}
    return {MARK: _kept(orjson.dumps(rest), blobs), WITHIN: within}


def _kept(data: bytes, blobs: dict[str, bytes]) -> str:
    digest = hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return digest


def _surely_small(value: Any) -> bool:
    """Whether a part is small at a glance: a scalar, a short text, or an object of only such (a usual message)."""
    kind = type(value)
    if kind is str:
        return len(value) * WORST + 2 <= LARGE
    if kind is dict:
        room = LARGE - 2
        for name, item in value.items():
            if type(item) is not str:
                return False
            room -= (len(name) + len(item)) * WORST + 6
        return room >= 0
    return kind is not list


def _whole(value: Any, fetch: Callable[[bytes], bytes]) -> Any:
    if type(value) is dict and MARK in value:
        whole = orjson.loads(fetch(bytes.fromhex(value[MARK])))
        for index, digest in value.get(WITHIN, {}).items():
            whole["content"][int(index)] = orjson.loads(fetch(bytes.fromhex(digest)))
        return whole
    return value
