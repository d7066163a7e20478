"""The shell of the cache: it finds an answer that is kept, and gives it; else it lets an exchange run, and keeps its
answer. Those who ask the same at once wait for the first of them: one upstream call serves them all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256

from eventstore.envelope import NEW_STREAM, RecordedFrames, StreamWrite
from eventstore.errors import LogBusy
from eventstore.log import Log
from gateway.cache.asked import Asked, asked, cacheable, key_of, stream_of_key
from gateway.cache.kept import Found, Keeping, found, hit
from gateway.errors import GatewayError, not_now
from gateway.exchange.ids import stream_of
from gateway.exchange.inputs import Payload, Submission
from gateway.exchange.outlet import Outlet
from gateway.exchange.render import JSON_HEADERS, FrameReplay, NotRenderable, dialect, form
from gateway.exchange.run import Exchanges
from gateway.wire.held import Held
from gateway.wire.values import WireError

logger = logging.getLogger(__name__)

TOLD_HEADER = "x-abstractcore-cache"
LOOK_S = 0.25
"""How often a request that waits for another looks whether its client is still there."""


class Gone(Exception):
    """The client left while it waited for another's answer. Nothing was called for it, and nothing recorded."""


class AnswerCache:
    """In front of `exchanges`. `usual` is how requests use the cache that do not say; `now_us` is microseconds since
    1970, `monotonic` seconds."""

    def __init__(
        self,
        log: Log,
        exchanges: Exchanges,
        usual: Asked,
        now_us: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        self._log, self._exchanges, self._usual = log, exchanges, usual
        self._now_us, self._monotonic = now_us, monotonic
        self._asking: dict[str, asyncio.Event] = {}

    async def run(self, submission: Submission, outlet: Outlet, headers: Mapping[str, str]) -> None:
        """Serve a request, as `Exchanges.run` does."""
        try:
            wanted = asked(headers, self._usual)
            if wanted.mode == "off" or not cacheable(submission):
                await self._exchanges.run(submission, outlet)
            else:
                await self._serve(submission, outlet, wanted)
        except GatewayError as error:
            await self._exchanges.refuse(submission, outlet, error)
        except Gone:
            logger.info("request %s left before it began", submission.request_id)

    async def _serve(self, submission: Submission, outlet: Outlet, wanted: Asked) -> None:
        began, key = self._monotonic(), key_of(submission)
        outlet.prepare({"x-request-id": submission.request_id})
        over = await self._claimed(key, outlet)
        try:
            kept = None if wanted.mode == "refresh" else await self._kept(key, wanted.max_age_s)
            answer = None if kept is None else await self._answer(submission, kept)
            if kept is None or answer is None:
                outlet.prepare({TOLD_HEADER: "miss"})
                await self._exchanges.run(replace(submission, turn=Keeping(key)), outlet)
                return
        finally:
            self._over(key, over)
        await self._give(submission, outlet, key, kept, answer, began)

    async def _claimed(self, key: str, outlet: Outlet) -> asyncio.Event:
        """Wait until nobody else asks this, then be the one who does. Raises `Gone`."""
        while (other := self._asking.get(key)) is not None:
            outlet.tick(self._monotonic())
            if outlet.gone():
                raise Gone
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await other.wait()
        over = self._asking[key] = asyncio.Event()
        return over

    def _over(self, key: str, over: asyncio.Event) -> None:
        """Let the next one ask."""
        del self._asking[key]
        over.set()

    async def _kept(self, key: str, max_age_s: float) -> Found | None:
        """The newest answer of a key, if it is young enough and still in the log."""
        entries = await self._log.read_stream(stream_of_key(key))
        if not entries:
            return None
        kept = found(await self._log.read_stream(stream_of(entries[-1].body["request_id"])))
        return kept if kept is not None and self._now_us() - kept.at_us <= max_age_s * 1e6 else None

    async def _answer(self, submission: Submission, kept: Found) -> bytes | None:
        """The bytes for this client; None where the frames are no more what they were."""
        rows = await self._log.read_frames(kept.begin, kept.end)
        try:
            return _rendered(submission, kept, rows)
        except (NotRenderable, WireError) as error:
            logger.warning("the answer of request %s is not given again: %s", kept.source, error)
            return None

    async def _give(
        self, submission: Submission, outlet: Outlet, key: str, kept: Found, answer: bytes, began: float
    ) -> None:
        """Commit, then release. Raises `GatewayError` where the log takes no new work."""
        payload = Payload(sha256(answer).hexdigest(), len(answer), submission.streamed)
        took_ms = round((self._monotonic() - began) * 1000, 3)
        events = hit(submission, key, kept, self._now_us(), payload, took_ms)
        write = StreamWrite(stream_of(submission.request_id), NEW_STREAM, tuple(event.new() for event in events))
        outlet.ending()
        try:
            appended = await self._log.append(write, blobs=submission.blobs, admit=True)
        except LogBusy as busy:
            raise not_now(busy) from busy
        outlet.prepare(
            {TOLD_HEADER: "hit", "x-abstractcore-position": str(appended.last), "x-abstractcore-cost-usd": "0"}
        )
        if submission.streamed:
            await outlet.release(answer)
            await outlet.finish(b"")
            return
        spoken = dialect(submission.wire, submission.renderer)
        outlet.answer(200, {**JSON_HEADERS, "content-type": spoken.content_type(form(submission))}, answer)


def _rendered(submission: Submission, kept: Found, rows: list[RecordedFrames]) -> bytes:
    """Raises `NotRenderable`, `WireError`."""
    replay = FrameReplay(kept.decoder, submission.request_id)
    renderer = dialect(submission.wire, submission.renderer).renderer(form(submission))
    renderer = renderer if kept.held is None else Held(renderer)
    body = b"".join([renderer.pieces(replay.pieces(row)) for row in rows])
    if (replay.reader.count, replay.reader.digest) != (kept.frames, kept.frames_digest):
        raise NotRenderable("its frames are not those that were recorded")
    return body + renderer.completed(replay.fold)
