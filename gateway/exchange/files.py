"""The files of a submission: made ready for its provider before its call is planned, and recorded with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from eventstore.catalogue.audio import AudioTranscribed
from eventstore.catalogue.request import FileAttached
from gateway.errors import RequestTimeout
from gateway.exchange.inputs import Submission
from gateway.exchange.plan import Planner
from gateway.exchange.transcribe import Transcriber
from gateway.media.prepare import Attached, Media
from gateway.redaction import Redactor

PATIENCE_S = 60.0
"""How long the files of one request may take, all together."""


class Files:
    """Prepares submissions. `media` None leaves every body as it is; without `transcriber` sound goes to providers."""

    patience_s = PATIENCE_S
    """Tests have less."""

    def __init__(
        self, planner: Planner, media: Media | None, redactor: Redactor, transcriber: Transcriber | None = None
    ) -> None:
        self._planner, self._media, self._redactor, self._transcriber = planner, media, redactor, transcriber

    def asked(self, submission: Submission) -> bool:
        """Whether there can be files to prepare, at a glance."""
        media = self._media
        return media is not None and (media.local.on or _may_hold_files(submission.body))

    async def prepared(self, submission: Submission) -> Submission:
        """The submission with the chat body that its provider can carry. Raises `GatewayError`."""
        media = self._media
        if media is None or not self.asked(submission):
            return submission
        chat = self._planner.as_chat(submission)
        if chat is None:
            return submission
        route, body = chat
        heard: tuple[AudioTranscribed, ...] = ()
        if self._transcriber is not None:
            body, heard = await self._transcriber.heard(submission, body)
        try:
            async with asyncio.timeout(self.patience_s):
                prepared = await media.prepare(body, route.provider, route.model)
        except TimeoutError:
            raise RequestTimeout("The files of the request could not be had and read in time.") from None
        blobs = [b for file in prepared.files for b in (file.data, file.text) if b is not None]
        return replace(
            submission,
            chat=prepared.body,
            files=(*heard, *(self._event(submission, file) for file in prepared.files)),
            blobs=(*submission.blobs, *dict.fromkeys(blobs)),
        )

    def forget(self, request_id: str) -> None:
        """Nothing is prepared for this request any more."""
        if self._transcriber is not None:
            self._transcriber.forget(request_id)

    def _event(self, submission: Submission, file: Attached) -> FileAttached:
        kept = submission.retained
        return FileAttached(
            request_id=submission.request_id,
            part=file.where,
            source=file.source,
            media_type=file.media_type,
            size=file.size,
            digest=file.digest,
            given_as=file.given_as,
            name=file.name if kept else None,
            url=self._redactor.text(file.url) if kept and file.url else None,
            text_digest=sha256(file.text).hexdigest() if kept and file.text is not None else None,
        )


def _may_hold_files(body: Mapping[str, Any]) -> bool:
    """Whether any message has parts at all, at a glance."""
    for name in ("messages", "input"):
        items = body.get(name)
        if type(items) is list:
            for item in items:
                if type(item) is dict and type(item.get("content")) is list:
                    return True
    return False
