"""What became of sound in a request, on the request's own stream."""

from __future__ import annotations

from typing import ClassVar

from eventstore.catalogue.event import Event, event
from eventstore.catalogue.values import Usd
from eventstore.value import value


@event
@value(kw_only=True)
class AudioTranscribed(Event):
    """Sound in a chat was made text, which the model is given in its place. `part` is its JSON path, `digest` sha256 of
    its bytes, `transcription` the id of the request that did it: its cost is booked there, and only repeated here."""

    type: ClassVar[str] = "audio_transcribed"
    CONTENT: ClassVar[frozenset[str]] = frozenset({"text"})
    MONEY: ClassVar[frozenset[str]] = frozenset({"cost_usd"})

    request_id: str
    part: str
    size: int
    digest: str
    transcription: str
    provider: str | None = None
    model: str | None = None
    text: str | None = None
    cost_usd: Usd | None = None
