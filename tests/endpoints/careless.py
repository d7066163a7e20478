"""Bugs put in on purpose (see `tests/spoilt.py`): in how sound is heard, and in what a structured object is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson

from eventstore.catalogue.audio import AudioTranscribed
from gateway.exchange.inputs import Submission
from gateway.exchange.transcribe import Kept, Transcriber
from gateway.media.parts import Found
from gateway.wire.structured import BareObject, StructuredDialect
from gateway.wire.values import Fold


def keeps_words() -> None:
    """What was said in a request that may not be kept is kept."""
    one = Transcriber._one

    async def keeping(
        self: Transcriber, submission: Submission, body: dict[str, Any], file: Found
    ) -> tuple[str, AudioTranscribed]:
        text, event = await one(self, submission, body, file)
        return text, replace(event, text=text)

    setattr(Transcriber, "_one", keeping)  # noqa: B010


def keeps_sound() -> None:
    """The request that hears keeps the sound of one that may not be kept."""
    asked = Transcriber._asked

    def keeping(self: Transcriber, submission: Submission, data: str, kind: str) -> Submission:
        return asked(self, replace(submission, retained=True), data, kind)

    setattr(Transcriber, "_asked", keeping)  # noqa: B010


def leaves_it_running() -> None:
    """Who leaves the chat does not end what hears for it."""

    async def answered(self: Transcriber, asked: Submission) -> Kept:
        kept = Kept()
        await asyncio.shield(asyncio.ensure_future(self._run(asked, kept)))
        return kept

    setattr(Transcriber, "_answered", answered)  # noqa: B010


def hears_again() -> None:
    """What was heard for one model is forgotten before the next is asked."""
    heard = Transcriber.heard

    async def forgetting(
        self: Transcriber, submission: Submission, body: dict[str, Any]
    ) -> tuple[dict[str, Any], tuple[AudioTranscribed, ...]]:
        self.forget(submission.request_id)
        return await heard(self, submission, body)

    setattr(Transcriber, "heard", forgetting)  # noqa: B010


def believing() -> None:
    """A provider that has formats is believed."""
    StructuredDialect.checked = False


def rewording() -> None:
    """The object is written anew, as another would write it."""
    completed = BareObject.completed

    def anew(self: BareObject, fold: Fold) -> bytes:
        return orjson.dumps(orjson.loads(completed(self, fold)))

    setattr(BareObject, "completed", anew)  # noqa: B010


BUGS = {bug.__name__: bug for bug in (keeps_words, keeps_sound, leaves_it_running, hears_again, believing, rewording)}
