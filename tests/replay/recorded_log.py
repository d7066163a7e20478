"""A data directory with real exchanges in a real log, made without a server: what the replay commands are tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import orjson

from eventstore.catalogue.control import NodeStarted
from eventstore.catalogue.event import Event
from eventstore.catalogue.generation import GenerationCompleted, GenerationStarted
from eventstore.catalogue.request import RequestCompleted, RequestReceived, RouteSelected
from eventstore.catalogue.values import Usd
from eventstore.envelope import ANY_VERSION, RecordedEvent, RecordedFrames, StreamWrite
from eventstore.frames import FrameRun
from eventstore.parts import split
from eventstore.sqlite import SQLiteLog
from gateway.exchange.ids import request_id, stream_of
from gateway.exchange.render import render_again
from gateway.wire.openai_chat import ChatStreamDecoder

MODEL = {"provider": "demo", "model": "echo"}
BODY = {"model": "demo/echo", "stream": True, "messages": [{"role": "user", "content": "tell me " * 300}]}


def frame(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + orjson.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [choice]})


class Recorder:
    """Writes exchanges; `async with Recorder(directory) as recorder`. Ids are `recorder.ids`, oldest first."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.ids: list[str] = []

    async def __aenter__(self) -> Self:
        self.log = await SQLiteLog.open(self.data_dir)
        node = self.log.origin
        await self._append(f"node-{node}", NodeStarted(node=node, release="test", previous=self.log.previous))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.log.close()

    async def exchange(self, *words: str, **changes: Any) -> str:
        """A streamed answer of these words, whole. `changes` are other values for the terminal event, or for what was
        asked (`retention`)."""
        retention = changes.pop("retention", None)
        request = await self.asked(retention)
        if retention is not None:
            changes = {"payload_digest": "00" * 32, "payload_length": 1} | changes
        await self.answered(request, words, changes)
        return request

    async def asked(self, retention: str | None = None) -> str:
        """A request that was received and routed, and has no answer yet."""
        request = request_id(1_795_000_000_000 + len(self.ids), len(self.ids).to_bytes(16, "big"))
        self.ids.append(request)
        body, blobs = split(BODY)
        received = RequestReceived(
            request_id=request, endpoint="/v1/chat/completions", wire="openai_chat", renderer=1, stream_answer=True,
            model="demo/echo", subject="anonymous", key="anonymous", body_length=2500, body_digest="00",
            body=body if retention is None else None, retention=retention,
        )  # fmt: skip
        route = RouteSelected(request_id=request, family="demo", reason="named", **MODEL)
        await self._append(stream_of(request), received, route, blobs=blobs)
        return request

    async def answered(self, request: str, words: tuple[str, ...], changes: dict[str, Any]) -> None:
        """The generation, its frames, and the end."""
        stream = stream_of(request)
        decoder = ChatStreamDecoder.name
        started = GenerationStarted(
            request_id=request, attempt=1, decoder=decoder, streamed=True, url="demo:", call_digest="00", call_length=1,
            **MODEL,
        )  # fmt: skip
        run = FrameRun((await self._append(stream, started)).last)
        await self._frames(run, [frame({"role": "assistant", "content": ""}), *(frame({"content": w}) for w in words)])
        await self._frames(run, [frame({}, "stop"), b"data: [DONE]"])
        completed = GenerationCompleted(
            request_id=request, attempt=1, finish_reason="stop", tokens_input=3, tokens_output=len(words), usage={},
            usage_source="provider", cost_usd=Usd(0), duration_ms=5.0, frames=run.count, frames_digest=run.digest,
            price_rule="local", choices=[{"index": 0, "message": {"role": "assistant", "content": "".join(words)}}],
            **MODEL,
        )  # fmt: skip
        await self._append(stream, completed)
        end = changes if "payload_digest" in changes else await self._payload(request) | changes
        await self._append(
            stream,
            RequestCompleted(
                request_id=request, status=200, attempts=1, duration_ms=6.0, overhead_ms=1.0,
                **{"cost_usd": Usd(0), **MODEL, **end},
            ),
        )  # fmt: skip

    async def add(self, request: str, event: Event) -> None:
        """Any further event on a request's stream."""
        await self._append(stream_of(request), event)

    async def _append(self, stream: str, *events: Event, blobs: list[bytes] | None = None) -> Any:
        write = StreamWrite(stream, ANY_VERSION, tuple(event.new() for event in events))
        return await self.log.append(write, blobs=blobs or [])

    async def _frames(self, run: FrameRun, frames: list[bytes]) -> None:
        rows, _ = run.pack(frames, 1000 * (run.count + 1))
        await self.log.append(frames=rows)

    async def _payload(self, request: str) -> dict[str, Any]:
        """Digest and length of what its client will have got: rendered with an end that says nothing of it."""
        events = await self.log.read_stream(stream_of(request))
        started = next(event for event in events if event.type == "generation_started")
        rows: list[RecordedFrames] = await self.log.read_frames(started.position, await self.log.head())
        end = RecordedEvent(0, "", 0, "", 0, "request_completed", 0, 0, b"{}", b"")
        rendered = render_again([*events, end], {started.position: rows})
        return {"payload_digest": rendered.digest, "payload_length": len(rendered.body)}
