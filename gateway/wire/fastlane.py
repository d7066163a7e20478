"""The fast lane of decoding: what stands between a known prefix and suffix is a text, already escaped for JSON.

A whole read of such frames is checked and decoded by one JSON parse; nothing is parsed or dumped frame by frame.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from eventstore.frames import SEP, Middles, Template
from gateway.wire.nesting import deeper_than
from gateway.wire.values import TextRun, WireError

DEEPEST = 100
"""Levels of nesting in what an upstream says. What is deeper could be read, but not written again."""


def read_run(middles: Middles) -> TextRun | None:
    """The run, if each middle is exactly the inside of one JSON string; None where any is not (then go frame by frame).

    Joined to an array of strings they must parse to as many strings as there are middles, and to nothing else: brackets
    could hide some of them. A middle could only make that count wrong in both directions if one ended in a backslash,
    so such a run is never fast.
    """
    joined = middles.joined
    quoted = b'["' + joined.replace(SEP, b'","') + b'"]'
    if b'\\","' in quoted or quoted.endswith(b'\\"]'):
        return None
    try:
        texts = orjson.loads(quoted)
    except orjson.JSONDecodeError:
        return None
    if len(texts) != joined.count(SEP) + 1:
        return None
    try:
        return TextRun(joined, "".join(texts))
    except TypeError:
        return None


def whole_frames(middles: Middles, template: Template | None) -> list[bytes]:
    """The frames with the template around them again."""
    if template is None:
        raise WireError("elided frames without a template")
    return [template.prefix + middle + template.suffix for middle in middles.each()]


def find_template(frame: bytes, text: str, key: bytes) -> Template | None:
    """The ends of a frame around its text, where `"<key>":"<text>"` stands in it once, escaped as we would escape it.

    The caller has checked that nothing else in the frame depends on the text. None where the place is not certain.
    """
    escaped = orjson.dumps(text)[1:-1]
    for opening in (b'"' + key + b'":"', b'"' + key + b'": "'):
        if frame.count(opening) == 1:
            start = frame.index(opening) + len(opening)
            end = start + len(escaped)
            if frame.startswith(escaped, start) and frame.startswith(b'"', end):
                return Template(frame[:start], frame[end:])
    return None


def loads_lenient(data: bytes) -> Any:
    """JSON from an upstream that may break the rules a little: bad UTF-8 and lone surrogates become U+FFFD.

    Raises `WireError` where it is no JSON at all, or nested deeper than `DEEPEST`.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _mended(data)
    if deeper_than(value, DEEPEST, data):
        raise WireError(f"the upstream sent a message nested deeper than {DEEPEST} levels")
    return value


def loads_unmended(data: bytes) -> Any:
    """The same with the lone surrogates in it, whatever its depth. Raises `WireError`."""
    try:
        return json.loads(data.decode("utf-8", "replace"), parse_int=_integer)
    except (ValueError, RecursionError) as e:
        raise WireError("the upstream sent a message that is not JSON") from e


def mended(text: str) -> str:
    """The text with U+FFFD for each lone surrogate."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _mended(data: bytes) -> Any:
    try:
        return _mend(loads_unmended(data))
    except RecursionError as e:
        raise WireError("the upstream sent a message that is not JSON") from e


def _integer(digits: str) -> int | float:
    """As orjson reads them: what does not fit into 64 bits becomes a float."""
    fits = len(digits) <= 20 and -(2**63) <= int(digits) < 2**64
    return int(digits) if fits else float(digits)


def _mend(value: Any) -> Any:
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, list):
        return [_mend(item) for item in value]
    if isinstance(value, dict):
        return {_mend(key): _mend(item) for key, item in value.items()}
    return value
