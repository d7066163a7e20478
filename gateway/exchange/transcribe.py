"""Sound in a chat, made text by a model that hears, for one that need not: an exchange of its own, before the chat's
call. So it is recorded, priced, replayed and left like any other, and the chat's log says what was heard."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import orjson

from eventstore.catalogue.audio import AudioTranscribed
from eventstore.catalogue.values import Usd
from eventstore.log import Log
from gateway.errors import GatewayError, InvalidRequest, TooLarge
from gateway.exchange.ids import ENTROPY_BYTES, request_id, stream_of
from gateway.exchange.inputs import Submission
from gateway.exchange.outlet import Outlet
from gateway.exchange.running import Leave, Running, running_of
from gateway.exchange.submit import RETENTION_HEADER, Caller, Rules, submit
from gateway.media.parts import Found, data_of, find, inline_size, replaced
from gateway.media.prepare import LARGEST_FILE
from gateway.redaction import Redactor
from gateway.wire.dialects import TRANSCRIPTIONS

ENDPOINT = "/v1/audio/transcriptions"
_FORMAT = re.compile(r"[a-z0-9]{1,8}")
_TYPES: Mapping[str, str] = {"mp3": "audio/mpeg"}
_CALLERS_FAULT = frozenset({400, 413, 415, 422})


class NotHeard(GatewayError):
    """The provider that makes text of sound refused or failed."""

    status, type, code, fault_domain = 502, "server_error", "audio_not_transcribed", "provider"


class Kept:
    """An outlet that keeps the answer."""

    began = False

    def __init__(self) -> None:
        self.status, self.body = 0, b""

    def prepare(self, headers: Mapping[str, str]) -> None:
        """Nobody reads them."""

    async def release(self, data: bytes) -> None:
        """Transcripts come whole."""

    def ending(self) -> None:
        """Nobody is kept waiting."""

    async def finish(self, data: bytes) -> None:
        """Transcripts come whole."""

    async def abort(self) -> None:
        """There is no answer: the status stays 0."""

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.body = status, body

    def gone(self) -> bool:
        """Whoever asked ends it by itself."""
        return False

    def tick(self, now: float) -> None:
        """No connection to keep alive."""


class Transcriber:
    """Asks `model` (`provider/model`) what sound says. `run` runs an exchange, `open_` are those that have no end."""

    def __init__(
        self,
        model: str,
        redactor: Redactor,
        log: Log,
        run: Callable[[Submission, Outlet], Awaitable[None]],
        open_: Collection[Running],
        now_us: Callable[[], int],
    ) -> None:
        self._model, self._log, self._run, self._open, self._now_us = model, log, run, open_, now_us
        self._rules = Rules(redactor, None, (), bound_to_loopback=False)
        self._heard: dict[str, dict[str, tuple[str, AudioTranscribed]]] = {}

    async def heard(
        self, submission: Submission, body: dict[str, Any]
    ) -> tuple[dict[str, Any], tuple[AudioTranscribed, ...]]:
        """The chat body with text in place of sound, and what is recorded of it. Each sound is heard once, however
        many models the request is prepared for, until it is forgotten. Raises `GatewayError`."""
        found = [file for file in find(body) if file.source == "audio"]
        if not found:
            return body, ()
        heard = self._heard.setdefault(submission.request_id, {})
        for file in found:
            if file.where not in heard:
                heard[file.where] = await self._one(submission, body, file)
        said = [heard[file.where] for file in found]
        parts = [(file, _part(text)) for file, (text, _) in zip(found, said, strict=True)]
        return replaced(body, parts), tuple(event for _, event in said)

    def forget(self, request_id: str) -> None:
        """What this request's sounds say is not asked for any more."""
        self._heard.pop(request_id, None)

    async def _one(self, submission: Submission, body: dict[str, Any], file: Found) -> tuple[str, AudioTranscribed]:
        if inline_size(file) > LARGEST_FILE:
            raise TooLarge(f"The audio at {file.where} is over {LARGEST_FILE} bytes.", param=file.where)
        data, _ = await asyncio.to_thread(data_of, file)
        asked = self._asked(submission, file.ref, _format(body["messages"][file.message]["content"][file.part]))
        text = _text(file, await self._answered(asked))
        end = (await self._log.read_stream(stream_of(asked.request_id)))[-1].body
        return text, AudioTranscribed(
            request_id=submission.request_id,
            part=file.where,
            size=len(data),
            digest=sha256(data).hexdigest(),
            transcription=asked.request_id,
            provider=end.get("provider"),
            model=end.get("model"),
            text=text if submission.retained else None,
            cost_usd=None if end.get("cost_usd") is None else Usd.parse(str(end["cost_usd"])),
        )

    def _asked(self, submission: Submission, data: str, kind: str) -> Submission:
        """The request for it, in the name of who asked for the chat."""
        file = {"filename": f"audio.{kind}", "content_type": _TYPES.get(kind, f"audio/{kind}"), "data": data}
        sent = {"model": self._model, "file": file, "response_format": "json"}
        headers = {} if submission.retained else {RETENTION_HEADER: "none"}
        name = request_id(self._now_us() // 1000, os.urandom(ENTROPY_BYTES))
        caller = Caller(name, ENDPOINT, submission.key, submission.client, headers)
        asked = submit(caller, sent, orjson.dumps(sent), self._rules, TRANSCRIPTIONS, sent)
        return replace(asked, subject=submission.subject, tags=submission.tags)

    async def _answered(self, asked: Submission) -> Kept:
        """Its whole answer. Whoever is cancelled here ends it first."""
        kept = Kept()
        task = asyncio.ensure_future(self._run(asked, kept))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if (running := running_of(asked.request_id, self._open)) is not None:
                running.end(Leave("client_left"))
            await asyncio.wait([task])
            raise
        return kept


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "text": f"<audio>\n{text}\n</audio>"}


def _format(part: Mapping[str, Any]) -> str:
    given = part["input_audio"].get("format")
    return given if isinstance(given, str) and _FORMAT.fullmatch(given) else "wav"


def _text(file: Found, kept: Kept) -> str:
    """What was heard. Raises `GatewayError`."""
    said = orjson.loads(kept.body) if kept.body else {}
    if kept.status == 200 and isinstance(said.get("text"), str):
        text: str = said["text"]
        return text.strip()
    message = f"The audio could not be transcribed: {(said.get('error') or {}).get('message', 'there was no text')}"
    if kept.status in _CALLERS_FAULT:
        raise InvalidRequest(message, param=file.where, code=NotHeard.code)
    raise NotHeard(message, param=file.where)
