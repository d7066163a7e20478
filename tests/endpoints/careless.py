"""Bugs put in on purpose (see `tests/spoilt.py`): in how sound is heard, in what a structured object is, in how stored
responses are given again, and in how much a request may bring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson

from eventstore.catalogue.audio import AudioTranscribed
from gateway.api import responses, stored_responses
from gateway.exchange.inputs import Submission
from gateway.exchange.resume import Cut
from gateway.exchange.transcribe import Kept, Transcriber
from gateway.media import prepare
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


def polite() -> None:
    """The stream of a response that was cut has the end of a whole one."""
    follow = responses.follow_answer

    async def followed(*given: Any, **more: Any) -> AsyncIterator[bytes]:
        with suppress(Cut):
            async for data in follow(*given, **more):
                yield data

    setattr(responses, "follow_answer", followed)  # noqa: B010


def boundless() -> None:
    """Nobody counts what references, earlier responses and the texts of files come to."""
    for room in (stored_responses._Room, prepare._Room):
        setattr(room, "take", lambda *_: None)  # noqa: B010


BUGS = {
    bug.__name__: bug
    for bug in (
        keeps_words, keeps_sound, leaves_it_running, hears_again, believing, rewording, polite, boundless,
    )
}  # fmt: skip
