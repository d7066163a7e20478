"""The events of an archived block as columns. Pure.

What can be told from the rows before is not written: numbers that grow by one, an event's envelope (its columns say
it), the digests of a chain but the first. What is left of its data is a *template*, which many events share, and the
values in it: strings and numbers of its JSON, those of one place side by side, digests as bytes instead of hex. Where
the data is no JSON, or not what the columns say, more of it stands in the template: whatever it is, it comes back byte
for byte.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, islice, pairwise, repeat
from typing import TypeVar

from eventstore.chain import chained, envelope, quoted, schema_of
from eventstore.columns import ColumnReader, folded, numbers, texts, unfolded
from eventstore.envelope import RecordedEvent
from eventstore.errors import LogCorrupt
from eventstore.value import value

WHOLE, ENVELOPED, NAMED = 0, 1, 2
"""What stands before a template: nothing; the event's envelope; that and the field that repeats the stream's name,
`"request_id":"01k…"` in the stream `request-01k…`."""
_TOKENS = re.compile(rb'("(?:[^"\\]|\\.)*":?|-?\d[\d.eE+-]*)')
_HEX = re.compile(rb'"(?:[0-9a-f]{2}){16,}"')
TEXT, HEX = 0, 1
"""A value as it is, or as the bytes that its hex digits and quotes stand for."""

T = TypeVar("T", bound=Hashable)


@value
class Template:
    """Data with `%b` for each value, of which `kinds` says how it is written; see `WHOLE` for `before`."""

    type: str
    schema: int
    before: int
    kinds: bytes
    text: bytes


def packed(events: Sequence[RecordedEvent]) -> bytes:
    """The columns. Raises `LogCorrupt` where an event's digest does not go on from the one before."""
    origins, origin = _interned([event.origin for event in events])
    streams, stream = _interned([event.stream for event in events])
    return b"".join(
        (
            texts([name.encode() for name in origins]),
            numbers(origin),
            texts(_first_digests(events)),
            numbers(folded(_steps(origin, [event.oseq for event in events]))),
            texts([name.encode() for name in streams]),
            numbers(_distances(stream)),
            numbers(folded(_steps(stream, [event.version for event in events]))),
            numbers(folded(new - old for old, new in pairwise([0, *(event.at for event in events)]))),
            numbers([event.codec for event in events]),
            _contents(events),
        )
    )


def unpacked(columns: ColumnReader, positions: Sequence[int]) -> list[RecordedEvent]:
    """The events again, at these positions."""
    origins = [name.decode() for name in columns.texts()]
    origin = columns.numbers()
    digests = dict(enumerate(columns.texts()))
    oseq = _stepped(origin, unfolded(columns.numbers()))
    streams = [name.decode() for name in columns.texts()]
    stream = _indexes(columns.numbers())
    version = _stepped(stream, unfolded(columns.numbers()))
    at = list(accumulate(unfolded(columns.numbers())))
    codec = columns.numbers()
    found, begun = [], set()
    for row, (template, rest) in enumerate(_templated(columns)):
        who, number, name, of_it, when = origins[origin[row]], oseq[row], streams[stream[row]], version[row], at[row]
        data = _before(template, name, of_it, who, number, when) + rest
        if origin[row] in begun:
            digests[origin[row]] = chained(digests[origin[row]], data)
        begun.add(origin[row])
        digest = digests[origin[row]]
        found.append(
            RecordedEvent(positions[row], who, number, name, of_it, template.type, when, codec[row], data, digest)
        )
    return found


def _first_digests(events: Iterable[RecordedEvent]) -> list[bytes]:
    """Of each origin's first event here, after a look at the others': they are made again from it."""
    first, last = [], dict[str, bytes]()
    for event in events:
        if event.origin not in last:
            first.append(event.digest)
        elif chained(last[event.origin], event.data) != event.digest:
            raise LogCorrupt(event.position, "the digest does not match the data and the digest before it")
        last[event.origin] = event.digest
    return first


def _contents(events: Sequence[RecordedEvent]) -> bytes:
    parts = [_parted(event) for event in events]
    templates, template = _interned([(kind.type, kind.schema, kind.before, kind.kinds, kind.text) for kind, _ in parts])
    values: list[list[list[bytes]]] = [[] for _ in templates]
    for number, (_, taken) in zip(template, parts, strict=True):
        values[number].append(taken)
    written: tuple[list[bytes], list[bytes]] = [], []
    for (*_, kinds, _), rows in zip(templates, values, strict=True):
        for kind, column in zip(kinds, zip(*rows, strict=True), strict=True):
            written[kind].extend(column)
    return b"".join(
        (
            texts([type_.encode() for type_, *_ in templates]),
            numbers([schema for _, schema, *_ in templates]),
            numbers([before for _, _, before, *_ in templates]),
            texts([kinds for *_, kinds, _ in templates]),
            texts([text for *_, text in templates]),
            numbers(template),
            texts(written[HEX]),
            texts(written[TEXT]),
        )
    )


def _templated(columns: ColumnReader) -> Iterator[tuple[Template, bytes]]:
    """Of each event its template, and that with its values in it."""
    types = [type_.decode() for type_ in columns.texts()]
    schemas, before, kinds = columns.numbers(), columns.numbers(), columns.texts()
    templates = [Template(*row) for row in zip(types, schemas, before, kinds, columns.texts(), strict=True)]
    numbered = columns.numbers()
    hexes, plain = (b'"%b"' % digest.hex().encode() for digest in columns.texts()), iter(columns.texts())
    count = Counter(numbered)
    rows: list[Iterator[tuple[bytes, ...]]] = []
    for number, template in enumerate(templates):
        taken = [list(islice(hexes if kind == HEX else plain, count[number])) for kind in template.kinds]
        rows.append(zip(*taken, strict=True) if taken else repeat(()))
    for number in numbered:
        yield templates[number], templates[number].text % next(rows[number])


def _parted(event: RecordedEvent) -> tuple[Template, list[bytes]]:
    schema, before, rest = _without_envelope(event)
    text, kinds, values = [], bytearray(), []
    for number, part in enumerate(_TOKENS.split(rest)):
        if number % 2 == 0 or part.endswith(b":"):  # between the tokens, or the name of a field
            text.append(part.replace(b"%", b"%%"))
            continue
        is_hex = _HEX.fullmatch(part) is not None
        text.append(b"%b")
        kinds.append(HEX if is_hex else TEXT)
        values.append(bytes.fromhex(part[1:-1].decode()) if is_hex else part)
    return Template(event.type, schema, before, bytes(kinds), b"".join(text)), values


def _without_envelope(event: RecordedEvent) -> tuple[int, int, bytes]:
    """The schema, what stands before the rest (see `WHOLE`), and the rest."""
    schema = schema_of(event)
    if schema is None:
        return 0, WHOLE, event.data
    head = envelope(event.type, schema, event.stream, event.version, event.origin, event.oseq, event.at)
    if not event.data.startswith(head):
        return 0, WHOLE, event.data
    rest, name = event.data[len(head) :], named(event.stream)
    return (schema, NAMED, rest[len(name) :]) if rest.startswith(name) else (schema, ENVELOPED, rest)


def _before(template: Template, stream: str, version: int, origin: str, oseq: int, at: int) -> bytes:
    if template.before == WHOLE:
        return b""
    head = envelope(template.type, template.schema, stream, version, origin, oseq, at)
    return head + named(stream) if template.before == NAMED else head


@lru_cache(maxsize=4096)
def named(stream: str) -> bytes:
    """The field in which an event repeats the name of its stream."""
    noun, _, name = stream.partition("-")
    return f",{quoted(noun + '_id')}:{quoted(name)}".encode()


def _interned(values: Iterable[T]) -> tuple[list[T], list[int]]:
    """Those that differ, in order of appearance, and for each which of them it is."""
    known: dict[T, int] = {}
    found = [known.setdefault(item, len(known)) for item in values]
    return list(known), found


def _distances(indexes: Iterable[int]) -> list[int]:
    """Of indexes in order of appearance: 0 for a new one, else how many came up since, itself included."""
    known, found = 0, []
    for index in indexes:
        found.append(known - index)
        known = max(known, index + 1)
    return found


def _indexes(distances: Iterable[int]) -> list[int]:
    known, found = 0, []
    for distance in distances:
        found.append(known - distance)
        known = max(known, known - distance + 1)
    return found


def _steps(keys: Iterable[int], values: Iterable[int]) -> list[int]:
    """How much each number differs from one more than its key's last."""
    last: dict[int, int] = {}
    found = []
    for key, number in zip(keys, values, strict=True):
        found.append(number - last.get(key, 0) - 1)
        last[key] = number
    return found


def _stepped(keys: Iterable[int], steps: Iterable[int]) -> list[int]:
    last: dict[int, int] = {}
    found = []
    for key, step in zip(keys, steps, strict=True):
        last[key] = last.get(key, 0) + 1 + step
        found.append(last[key])
    return found
