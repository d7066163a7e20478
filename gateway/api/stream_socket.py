"""GET /v1/stream: a WebSocket with several generations at once; see `gateway/wire/socket_messages.py` for what a client
says, `gateway/api/lanes.py` for what it is told.

Nothing is queued for a client: what it has not taken, the log has. A message that is wrong is answered with an error,
and the socket stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from gateway.api.answers import services
from gateway.api.channels import Channel, SocketChannel
from gateway.api.events import CLOSING, Listener, check_types, start_at
from gateway.api.events import Pace as FeedPace
from gateway.api.exchange import DESK
from gateway.api.lanes import Lane, leave, run_lane
from gateway.api.stored_responses import streamed_form
from gateway.auth import ANONYMOUS
from gateway.edge import KEY_ID, check_origin, mark, new_id
from gateway.errors import Conflict, GatewayError, InvalidRequest, NotFound
from gateway.exchange.ids import stream_of
from gateway.exchange.proven import for_a_caller
from gateway.exchange.resume import follow_answer
from gateway.exchange.submit import RETENTION_HEADER, Caller, retained
from gateway.json_guard import LARGE, LARGEST_BODY, parse
from gateway.wire.dialects import CHAT
from gateway.wire.socket_messages import check
from projections.feed import Filter

ENDPOINT = "/v1/stream"
MOST_LANES = 64
"""Generations, resumptions and subscriptions of one socket at a time."""
SOCKETS = web.AppKey("sockets", set[web.WebSocketResponse])
"""The open ones. See `close_sockets`."""
HEARTBEAT_S = 30.0
GOODBYE_S = 1.0
"""How long a client's answer to our closing is waited for."""
_TASKS: set[asyncio.Task[None]] = set()
"""The loop holds tasks weakly, and a detached generation outlives its socket."""

logger = logging.getLogger(__name__)


async def stream(request: web.Request) -> web.StreamResponse:
    """A WebSocket: several generations at once, tokens and events; cancelled and resumed by their ids"""
    check_origin("POST", request.headers)
    if not retained(request.headers):
        raise InvalidRequest("What is said here is read from the log: it must be retained.", param=RETENTION_HEADER)
    if "upgrade" not in request.headers.get("Connection", "").lower():
        raise InvalidRequest("This is a WebSocket: it takes no plain GET.", code="upgrade_required")
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, timeout=GOODBYE_S, max_msg_size=LARGEST_BODY, compress=False)
    await mark(request, socket)
    await socket.prepare(request)
    open_sockets = request.app[SOCKETS]
    open_sockets.add(socket)
    try:
        await Conversation(request, socket, SocketChannel(request, socket, request.app[DESK].shared)).serve()
    finally:
        open_sockets.discard(socket)
    return socket


async def close_sockets(app: web.Application) -> None:
    """For `app.on_shutdown`: tell every client that the server goes away."""
    sockets = app[SOCKETS]
    await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in tuple(sockets)))


class Conversation:
    """One socket: reads its client's messages, one after the other, and keeps what they started, by id."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, channel: Channel) -> None:
        self._request, self._socket, self._channel = request, socket, channel
        self._given, self._desk = services(request), request.app[DESK]
        self._lanes: dict[str, Lane] = {}
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._kinds: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
            "generate": self._generate,
            "cancel": self._cancel,
            "resume": self._resume,
            "subscribe": self._subscribe,
        }

    async def serve(self) -> None:
        """Until the client leaves. What it started ends with it, but for what it detached."""
        try:
            async for message in self._socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self._take(message.data)
        except ConnectionError:
            pass  # it left before it heard
        finally:
            for reader in self._readers.values():
                reader.cancel()

    async def _take(self, data: str | bytes) -> None:
        named: Any = None
        try:
            raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
            message = parse(raw) if len(raw) <= LARGE else await asyncio.to_thread(parse, raw)
            named = message.get("id")
            await self._kinds[check(message)](message)
        except GatewayError as error:
            await self._refuse(named if isinstance(named, str) else None, error)

    async def _generate(self, message: dict[str, Any]) -> None:
        name = self._free(message["id"])
        body = {"stream": True, **message["request"]}
        request_id = new_id(self._given.now_us())
        caller = self._caller(request_id)
        follow = partial(follow_answer, self._given.log, request_id, form=streamed_form)
        detached = message.get("detach", False)
        lane = Lane(self._channel, {"id": name}, request_id, follow, detached=detached)
        self._lanes[name] = lane
        task = self._start(run_lane(self._desk, caller, body, lane))
        task.add_done_callback(lambda _: self._lanes.pop(name, None))

    async def _cancel(self, message: dict[str, Any]) -> None:
        name = message["id"]
        if name in self._lanes:
            self._start(leave(self._desk, self._lanes[name], "cancelled"))
        elif name in self._readers:
            self._readers[name].cancel()
            await self._channel.send("done", orjson.dumps({"type": "done", "id": name}))
        else:
            raise NotFound(f"Nothing with the id {name!r} is running here.", code="unknown_id")

    async def _resume(self, message: dict[str, Any]) -> None:
        request_id = message["request_id"]
        name = self._free(message.get("id", request_id))
        with for_a_caller():
            recorded = await self._given.log.read_stream(stream_of(request_id))
        if not recorded:
            raise NotFound(f"There is no request {request_id!r}.", code="request_not_found")
        if recorded[0].body["wire"] != CHAT.wire:
            raise InvalidRequest("Only chat completions can be resumed here.", param="request_id")
        follow = partial(follow_answer, self._given.log, request_id, form=streamed_form)
        lane = Lane(self._channel, {"id": name}, request_id, follow)
        self._read(name, lane.read(message.get("after", 0)))

    async def _subscribe(self, message: dict[str, Any]) -> None:
        name = self._free(message.get("id", "events"))
        types = frozenset(message["types"]) if "types" in message else None
        check_types(types)
        wanted = Filter(types, message.get("request_id"), message.get("session_id"), message.get("content", False))
        cursor = await start_at(message.get("after"), self._given)
        feed = Listener(_Feed(self._channel, name, self._request), self._given, wanted, cursor, FeedPace())
        self._read(name, feed.serve())

    def _free(self, name: str) -> str:
        """The name, where the client may start something by it. Raises `Conflict`."""
        if name in self._lanes or name in self._readers:
            raise Conflict(f"Something with the id {name!r} is running here.", param="id", code="duplicate_id")
        if len(self._lanes) + len(self._readers) >= MOST_LANES:
            raise Conflict(f"A socket can do {MOST_LANES} things at a time.", code="too_many_generations")
        return name

    def _caller(self, request_id: str) -> Caller:
        request = self._request
        return Caller(request_id, ENDPOINT, request.get(KEY_ID, ANONYMOUS), request.remote, request.headers)

    def _read(self, name: str, reading: Coroutine[Any, Any, None]) -> None:
        self._readers[name] = task = self._start(reading)
        task.add_done_callback(lambda _: self._readers.pop(name, None))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        _TASKS.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        _TASKS.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a socket's work failed", exc_info=error)
            self._channel.drop()

    async def _refuse(self, name: str | None, error: GatewayError) -> None:
        told = {**error.error(), "message": self._given.redactor.text(error.message)}
        await self._channel.send("error", orjson.dumps({"type": "error", "id": name, "error": told}))


class _Feed:
    """A subscription's events as messages of the socket."""

    def __init__(self, channel: Channel, name: str, request: web.Request) -> None:
        self._channel, self._name, self._closing = channel, orjson.dumps(name), request.app.get(CLOSING)

    async def write(self, data: bytes) -> None:
        for event in data.split(b"\n\n")[:-1]:
            if event.startswith(b"id: "):
                cursor, _, body = (line.partition(b": ")[2] for line in event.split(b"\n"))
                await self._channel.send(
                    "event", b'{"type":"event","id":%b,"cursor":"%b","event":%b}' % (self._name, cursor, body)
                )
                await self._channel.taken()

    def over(self) -> bool:
        return self._channel.gone() or (self._closing is not None and self._closing.is_set())

    def drop(self) -> None:
        self._channel.drop()
