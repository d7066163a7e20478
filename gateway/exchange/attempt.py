"""One upstream attempt as the shell sees it: bytes in; rows for the log, meaning, and bytes for the client out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from eventstore.catalogue.values import milliseconds
from eventstore.envelope import NewFrames
from eventstore.frames import FrameRun, Part, Template
from gateway.exchange.inputs import Payload, Seen
from gateway.wire.dialect import Renderer
from gateway.wire.fastlane import batches
from gateway.wire.values import Decoder, Fold, Framer, Meta, Piece, UpstreamError, WireError
from gateway.wire.whole_body import BODY_LIMIT, TOO_LARGE

FORGOTTEN = Fold()
"""In the place of one that nobody adds to any more."""


class Attempt:
    """Holds what an answer has given so far. No I/O: `run` moves the bytes and the time.

    `released` digests and counts the bytes meant for the client. A batch of frames becomes rows and pieces at once;
    `take` keeps both until the shell has committed the rows. `called_at`: when the call was made, in monotonic seconds;
    `based_at`: when its start was recorded, from which the frames' times count.
    """

    __slots__ = (
        "_digest",
        "_length",
        "_taken",
        "based_at",
        "called_at",
        "decoder",
        "ended",
        "first_at",
        "fold",
        "framer",
        "renderer",
        "rows",
        "run",
        "scrub",
        "text",
    )

    def __init__(
        self, run: FrameRun, framer: Framer, decoder: Decoder, renderer: Renderer, scrub: Callable[[bytes], bytes]
    ) -> None:
        self.run, self.framer, self.decoder, self.renderer, self.scrub = run, framer, decoder, renderer, scrub
        self.fold = Fold()
        self.rows: list[NewFrames] = []
        self.text = b""
        self.called_at = self.based_at = 0.0
        self.first_at: float | None = None
        self.ended = False
        self._digest = sha256()
        self._length = 0
        self._taken = 0

    def take(self, frames: list[bytes], now: float) -> None:
        """The next whole frames, arrived `now` (monotonic seconds): packs, decodes, folds and renders them into `rows`
        and `text`. Raises `WireError`, the rows then being kept all the same: too, once an answer goes on beyond
        `BODY_LIMIT`."""
        run, raw = self.run, b"\n".join(frames)
        if self.scrub(raw) is not raw:
            frames = [self.scrub(frame) for frame in frames]
        offset_us = int((now - self.based_at) * 1e6)
        if len(frames) == 1 and (alone := run.alone(frames[0], offset_us)) is not None:
            rows, parts = alone
            self.rows += rows
            self.add(self.decoder.decode(parts, run.template), now)
        else:
            self._take_batches(frames, offset_us, now)
        self._taken += len(raw)
        if self._taken > BODY_LIMIT and not self.ended:
            raise WireError(TOO_LARGE)

    def _take_batches(self, frames: Sequence[bytes], offset_us: int, now: float) -> None:
        packed: list[tuple[list[Part], Template | None]] = []
        for batch, opens in batches(frames, self.decoder, self.run.template):
            rows, parts = self.run.pack(batch, offset_us, opens)
            self.rows += rows
            of_rows = [parts] if len(rows) == 1 else [[part] for part in parts]
            packed += [(of_row, self.run.template) for of_row in of_rows]
        pieces: list[Piece] = []
        try:
            for parts, template in packed:  # row by row, as they are read again: one that means nothing ends the answer
                pieces += self.decoder.decode(parts, template)
        finally:
            self.add(pieces, now)

    def add(self, pieces: list[Piece], now: float) -> None:
        """Fold and render what frames meant."""
        fold = self.fold
        fold.add(pieces)
        if fold.began and self.first_at is None:
            self.first_at = now
        self.ended = fold.meta.ended or fold.meta.error is not None
        self.text += self.renderer.pieces(pieces)

    def forget(self) -> None:
        """All is recorded that was held here, and nobody asks for it any more."""
        self.fold, self.rows, self.text = FORGOTTEN, [], b""

    @property
    def shown(self) -> bool:
        """Whether anything of the answer is on its way to the client, or about to be."""
        return bool(self._length or self.text)

    def follow(self, before: Attempt) -> None:
        """Go on with the answer of which the attempt before gave the beginning."""
        self._digest, self._length = before._digest.copy(), before._length

    @property
    def error(self) -> UpstreamError | None:
        """An error that the upstream reported in its stream."""
        return self.fold.meta.error

    def settle(self, data: bytes) -> bytes:
        """Count bytes as part of the answer; gives them back."""
        self._digest.update(data)
        self._length += len(data)
        return data

    def payload(self, began: bool, rest: bytes) -> Payload:
        """What the client was meant to get: what was released, and `rest`."""
        digest = self._digest.copy()
        digest.update(rest)
        return Payload(digest.hexdigest(), self._length + len(rest), began)

    def least(self, now: float) -> Seen:
        """What can be said of the attempt without asking what its frames meant."""
        return Seen(
            frames=self.run.count,
            frames_digest=self.run.digest,
            began=self.fold.began,
            text_length=0,
            duration_ms=milliseconds(now - self.called_at),
        )

    def seen(self, now: float) -> Seen:
        """What the attempt gave."""
        fold, meta = self.fold, self.fold.meta
        return Seen(
            frames=self.run.count,
            frames_digest=self.run.digest,
            began=fold.began,
            text_length=fold.text_length() if meta.usage is None or meta.usage_estimated else 0,
            duration_ms=milliseconds(now - self.called_at),
            finish_reason=fold.finish_reason,
            choices=fold.choices(),
            usage=meta.usage,
            usage_raw=meta.usage_raw,
            usage_estimated=meta.usage_estimated,
            cost_reported=meta.cost_reported,
            service_tier=service_tier(meta),
            ttft_ms=None if self.first_at is None else milliseconds(self.first_at - self.called_at),
            provider_model=meta.model,
            provider_request_id=meta.id,
        )


def service_tier(meta: Meta) -> str | None:
    """The tier that the provider says it served, which prices hang on."""
    tier = (meta.top or {}).get("service_tier")
    return tier if isinstance(tier, str) else None
