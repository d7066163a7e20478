"""The fast lane of decoding: what stands between a known prefix and suffix is a text, already escaped for JSON.

A whole read of such frames is checked and decoded by one JSON parse; nothing is parsed or dumped frame by frame. Frames
of other texts (reasoning, a call's arguments) have templates too: those are stored short, and read one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from eventstore.frames import GS, SEP, Middles, Template
from gateway.wire.nesting import deeper_than
from gateway.wire.values import Decoder, TextRun, WireError

LOOKS = 1_000
"""Frames of one answer that are parsed to find a template in them: some servers begin a new one each second."""
TAIL = 4
"""Frames that end an answer, and one before them."""
DEEPEST = 100
"""Levels of nesting in what an upstream says. What is deeper could be read, but not written again."""


BEFORE = re.compile(rb'(?<![^\x1f])[^"\\\x00-\x1f]*\x1d')
"""Of middles that are two, the first of each, whole: a text that JSON writes as it is, such as a time."""
BEHIND = re.compile(rb'\x1d[^"\\\x00-\x1f]*(?=\x1e|\Z)')
"""The second."""


def read_run(middles: Middles, beside: re.Pattern[bytes] | None = None) -> TextRun | None:
    """The run, if each middle is exactly the inside of one JSON string; None where any is not (then go frame by frame).
    `beside`: where middles are two, the one that is no text.

    Joined to an array of strings they must parse to as many strings as there are middles, and to nothing else: brackets
    could hide some of them. A middle could only make that count wrong in both directions if one ended in a backslash,
    so such a run is never fast.
    """
    joined = middles.joined if beside is None else beside.sub(b"", middles.joined)
    if beside is not None and GS in joined:
        return None
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
    return [template.around(middle) for middle in middles.each()]


def first_frame(middles: Middles, template: Template) -> bytes:
    """The first of them with the template around it again."""
    return template.around(middles.joined.partition(SEP)[0])


Opening = tuple[int, Template]
"""Which of some frames gives a template, and that template."""


class Templates:
    """Looks for the templates of one answer. `of` makes one of a frame that adds to nothing but one text; a frame in
    which `text` is nowhere adds to none."""

    __slots__ = ("_left", "_of", "_text")

    def __init__(self, of: Callable[[bytes], Template | None], text: re.Pattern[bytes]) -> None:
        self._of, self._text, self._left = of, text, LOOKS

    def next(self, frames: Sequence[bytes], known: Template | None) -> Opening | None:
        """As `Decoder.template`."""
        for index, frame in enumerate(frames):
            if (known is not None and known.middle(frame) is not None) or self._text.search(frame) is None:
                continue
            self._left -= 1
            if self._left < 0:
                return None
            if (template := self._of(frame)) is not None:
                return index, template
        return None


def batches(
    frames: Sequence[bytes], decoder: Decoder, known: Template | None
) -> list[tuple[Sequence[bytes], Opening | None]]:
    """These frames, parted where another template begins, each part with the one that it opens. `known` is the run's
    until now."""
    found: list[tuple[Sequence[bytes], Opening | None]] = []
    while frames:
        opens = None if _goes_on(known, frames) else decoder.template(frames, known)
        if opens is None:
            return [*found, (frames, None)]
        index, template = opens
        if index and known is not None:
            found.append((frames[:index], None))
            frames, index = frames[index:], 0
        following = None if _goes_on(template, frames) else decoder.template(frames[index + 1 :], template)
        end = len(frames) if following is None else index + 1 + following[0]
        found.append((frames[:end], (index, template)))
        known, frames = template, frames[end:]
    return found


def _goes_on(template: Template | None, frames: Sequence[bytes]) -> bool:
    """Whether frames are of a template to their end, as nearly all are."""
    return template is not None and any(template.middle(frame) is not None for frame in frames[-TAIL:])


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


def differs_before(template: Template, key: bytes, value: str) -> Template | None:
    """The template, where before the text another differs: `"<key>":"<value>"`. None where its place is not certain."""
    cut = _cut(template.prefix, key, value)
    return cut and Template(cut[0], template.suffix, cut[1])


def differs_behind(template: Template, key: bytes, value: str) -> Template | None:
    """The same behind the text."""
    cut = _cut(template.suffix, key, value)
    return cut and Template(template.prefix, cut[1], cut[0])


def _cut(part: bytes, key: bytes, value: str) -> tuple[bytes, bytes] | None:
    """What stands before and behind a text that JSON writes as it is, and that stands there once."""
    said = value.encode()
    for opening in (b'"' + key + b'":"', b'"' + key + b'": "'):
        head, _, rest = part.partition(opening)
        if part.count(opening) == 1 and rest.startswith(said + b'"') and b"\\" not in said:
            return head + opening, rest[len(said) :]
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
