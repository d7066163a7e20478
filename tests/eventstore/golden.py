"""Golden events: one JSON file for each type and schema, as a log of that day holds it. Added to, never edited.

`python -m tests.eventstore.golden` writes the files that are missing, every field filled.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from eventstore.catalogue import REGISTRY, Event
from eventstore.catalogue.values import Usd
from eventstore.chain import Chain
from eventstore.envelope import RecordedEvent

FOLDER = Path(__file__).parent.parent / "golden"
AT = 1_795_224_373_123_456
SAMPLES: dict[Any, Any] = {
    str: "text",
    int: 7,
    float: 1.5,
    bool: True,
    Usd: Usd.parse("0.00116"),
    Any: "anything",
}


def path_of(cls: type[Event]) -> Path:
    return FOLDER / f"{cls.type}.{cls.schema}.json"


def recorded(event: Event) -> RecordedEvent:
    """The event as the first of a log."""
    chain = Chain("n0123456789abcdef")
    data = chain.link(event.new(), "stream-1", 1, AT)
    return RecordedEvent(1, chain.origin, 1, "stream-1", 1, event.type, AT, 0, data, chain.digest)


def sample(cls: type[Event]) -> Event:
    """One with every field filled."""
    hints = get_type_hints(cls)
    return cls(**{name: _value(hints[name]) for name in cls.NAMES})


def _value(hint: Any) -> Any:
    if get_origin(hint) in (types.UnionType, Union):
        return _value(next(kind for kind in get_args(hint) if kind is not type(None)))
    if get_origin(hint) is Literal:
        return get_args(hint)[0]
    if get_origin(hint) is dict:
        return {"key": _value(get_args(hint)[1])}
    if get_origin(hint) is list:
        return [_value(get_args(hint)[0])]
    return SAMPLES[hint]


def exact(text: str | bytes) -> Any:
    """JSON with every number as it is written."""
    return json.loads(text, parse_float=Decimal)


def goldens() -> Iterator[tuple[str, int, bytes]]:
    """(type, schema, content) of every file."""
    for path in sorted(FOLDER.glob("*.json")):
        type_, schema, _ = path.name.split(".")
        yield type_, int(schema), path.read_bytes()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for cls in REGISTRY.values():
        if not path_of(cls).exists():
            path_of(cls).write_bytes(recorded(sample(cls)).data.replace(b',"', b',\n"') + b"\n")
            print("wrote", path_of(cls).name)


if __name__ == "__main__":
    main()
