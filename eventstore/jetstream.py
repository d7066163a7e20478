"""JetStream, as much of it as the relay needs: streams, the newest message of a subject, and atomic batches.

nats-py has no call for an atomic batch, so it is written here on headers, after
https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md, and the management calls are the
plain JSON requests of https://docs.nats.io/reference/reference-protocols/nats_api_reference. Every wait has a
timeout of its own, since the client's futures never resolve once the server is gone.

    JetStreamError
    ├── NoAnswer           the connection is gone or nothing came back in time: what was sent may be stored or not
    ├── WrongLastSequence  the fence did not hold: the subject's newest message is another one
    ├── StreamFull         the stream or the server's disk has no room
    └── Refused            any other error answer
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, ClassVar, Self, TypeVar

import nats
import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from eventstore.value import value

T = TypeVar("T")

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
HEADROOM_BYTES = 2048
"""Kept free under the limit on a message, for the batch headers: a message over the limit ends the connection."""
PAGE_BYTES = 4 << 20
CROWDED = 0.75
"""The part of a stream's `max_bytes` above which it may have dropped messages."""

_WRONG_LAST_SEQUENCE = {10071, 10164}
_FULL = {10023, 10047, 10077}
_NOT_FOUND = 404
_PAGE_ENDS = {"204", "404"}


class JetStreamError(Exception):
    """Anything that the server refuses, or does not answer."""


class NoAnswer(JetStreamError):
    """The connection is gone or nothing came back in time. What was sent may be stored or not."""


class WrongLastSequence(JetStreamError):
    """The fence did not hold: the subject's newest message is another one than the sender thought."""


class StreamFull(JetStreamError):
    """The stream's limits or the server's disk leave no room; nothing was stored."""


class Refused(JetStreamError):
    """Any other error answer; `code` is the server's own error code, `status` its HTTP-like class."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.code, self.status = int(error.get("err_code", 0)), int(error.get("code", 0))
        super().__init__(f"{error.get('description', 'refused')} ({self.code})")


@value
class Message:
    """One message to publish."""

    subject: str
    payload: bytes
    headers: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes that count against the server's `max_payload`: payload and headers."""
        size = len(self.payload)
        for name, said in self.headers.items():  # for every token: a generator takes twice as long
            size += len(name) + len(said) + 4
        return size


@dataclass(frozen=True, slots=True)
class Stored:
    """One message as a stream holds it: its sequence there, its subject, its headers, its bytes."""

    sequence: int
    subject: str
    headers: dict[str, str]
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class StreamState:
    """What identifies a stream's contents: when it was created (the server's words), its oldest and newest sequence;
    and what may have left it: what is older than `max_age_s` (0: nothing), and if `crowded`, the oldest for want of
    room."""

    created: str
    first_sequence: int
    last_sequence: int
    max_age_s: float
    crowded: bool


class JetStream:
    """One connection, never repaired: once `closed` it stays so, and its owner makes a new one."""

    answer_timeout_s: ClassVar[float] = ANSWER_TIMEOUT_S

    def __init__(self, client: Client, closed: asyncio.Event) -> None:
        self._client = client
        self._closed = closed

    @classmethod
    async def connect(cls, servers: Sequence[str]) -> Self:
        """Connect to the first of these URLs that answers. Raises `NoAnswer`; its text never holds a credential."""
        client, closed = Client(), asyncio.Event()

        async def on_closed() -> None:
            closed.set()

        async def on_error(error: Exception) -> None:
            logger.debug("nats client: %s", type(error).__name__)

        connecting = client.connect(
            list(servers),
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=int(CONNECT_TIMEOUT_S),
            closed_cb=on_closed,
            error_cb=on_error,
        )
        try:
            await within(CONNECT_TIMEOUT_S, connecting)
        except (TimeoutError, OSError, nats.errors.Error) as e:
            await _hang_up(client)
            raise NoAnswer(f"cannot connect: {type(client.last_error or e).__name__}") from None
        return cls(client, closed)

    @property
    def max_message_bytes(self) -> int:
        """The most that payload and own headers of one message may take together."""
        return int(self._client.max_payload) - HEADROOM_BYTES

    async def closed(self) -> None:
        """Return once the connection is gone."""
        await self._closed.wait()

    async def close(self) -> None:
        """Leave, without waiting for anything outstanding."""
        await _hang_up(self._client)

    async def ensure_stream(self, config: Mapping[str, Any], initial: Mapping[str, Any]) -> None:
        """Make the stream `config["name"]`, with `initial` settings too; or where it exists, add to it what it lacks:
        the union of the subjects, and the settings of `config`."""
        name = config["name"]
        try:
            current = (await self._api(f"STREAM.INFO.{name}", {}))["config"]
        except Refused as e:
            if e.status != _NOT_FOUND:
                raise
            await self._api(f"STREAM.CREATE.{name}", {**initial, **config})
            return
        current["subjects"] = sorted(current.get("subjects") or ())
        wanted = {**current, **config, "subjects": sorted({*current["subjects"], *config["subjects"]})}
        if wanted != current:
            await self._api(f"STREAM.UPDATE.{name}", wanted)

    async def state(self, stream: str) -> StreamState:
        """The stream's identity and newest sequence. Raises `Refused` (status 404) where there is none."""
        info = await self._api(f"STREAM.INFO.{stream}", {})
        config, state = info["config"], info["state"]
        crowded = config["max_msgs"] > 0 or state["bytes"] > CROWDED * config["max_bytes"] > 0
        return StreamState(info["created"], state["first_seq"], state["last_seq"], config["max_age"] / 1e9, crowded)

    async def subjects(self, stream: str, subject: str) -> dict[str, int]:
        """The subjects of the stream's messages under this one (wildcards allowed), and how many each has."""
        found: dict[str, int] = {}
        while True:
            info = await self._api(f"STREAM.INFO.{stream}", {"subjects_filter": subject, "offset": len(found)})
            page = info["state"].get("subjects") or {}
            found |= page
            if not page or len(found) >= info.get("total", 0):
                return found

    async def purge(self, stream: str, subject: str | None) -> None:
        """Drop every message under this subject (wildcards allowed), or every message."""
        await self._api(f"STREAM.PURGE.{stream}", {"filter": subject} if subject else {})

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The newest message under this subject (wildcards allowed), asked of the stream's leader."""
        return await self._get(stream, {"last_by_subj": subject})

    async def next(self, stream: str, subject: str, sequence: int) -> Stored | None:
        """The first message under this subject (wildcards allowed) from this sequence on, asked of the leader."""
        return await self._get(stream, {"next_by_subj": subject, "seq": sequence})

    async def read(self, stream: str, sequence: int, limit: int) -> list[Stored]:
        """The messages from this sequence on, in order, at most `limit` (up to 1,000) and about `PAGE_BYTES` of them;
        none where it has no more. What the server cannot read any more it leaves out. Any replica may answer. After
        https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-31.md."""
        request = orjson.dumps({"seq": sequence, "batch": limit, "max_bytes": PAGE_BYTES})
        return await self._in_time(self._collect(f"$JS.API.DIRECT.GET.{stream}", request))

    async def _collect(self, subject: str, request: bytes) -> list[Stored]:
        """The messages of the answer, which a status ends. Where it fails, what is subscribed ends with us."""
        inbox = self._client.new_inbox()
        replies = await self._client.subscribe(inbox)
        await self._client.publish(subject, request, reply=inbox)
        found: list[Stored] = []
        while "Status" not in (headers := (reply := await replies.next_msg(timeout=None)).headers or {}):
            found.append(Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], headers, reply.data))
        if headers["Status"] not in _PAGE_ENDS:
            raise NoAnswer(f"the stream cannot be read: {headers['Status']}")
        await replies.unsubscribe()
        return found

    async def _get(self, stream: str, which: Mapping[str, Any]) -> Stored | None:
        try:
            found = (await self._api(f"STREAM.MSG.GET.{stream}", which))["message"]
        except Refused as e:
            if e.status != _NOT_FOUND:
                raise
            return None
        headers, payload = (base64.b64decode(found.get(part, "")) for part in ("hdrs", "data"))
        return Stored(found["seq"], found["subject"], _headers(headers), payload)

    async def publish_batch(self, messages: Sequence[Message], fence: str, last_sequence: int) -> int:
        """Store all of these, or none, if the newest message under `fence` has this sequence (0: there is none).

        At most 1,000 messages, each no larger than `max_message_bytes`. Returns the sequence of the last one.
        Raises `WrongLastSequence`, `StreamFull`, `Refused`, `NoAnswer`.
        """
        batch, commit = token_hex(8), len(messages)
        fenced = {
            "Nats-Expected-Last-Subject-Sequence": str(last_sequence),
            "Nats-Expected-Last-Subject-Sequence-Subject": fence,
        }

        async def send() -> Msg:
            for number, message in enumerate(messages, 1):
                headers = {**message.headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                if number == 1:
                    headers |= fenced
                if number < commit:
                    await self._client.publish(message.subject, message.payload, headers=headers)
            return await self._request(message.subject, message.payload, {**headers, "Nats-Batch-Commit": "1"})

        answer = await self._answer(send())
        if answer.get("count") != commit:
            raise NoAnswer("the answer is not that of this batch")
        return int(answer["seq"])

    async def _api(self, call: str, request: Mapping[str, Any]) -> dict[str, Any]:
        return await self._answer(self._request(f"$JS.API.{call}", orjson.dumps(request), None))

    async def _request(self, subject: str, payload: bytes, headers: dict[str, str] | None) -> Msg:
        return await self._client.request(subject, payload, timeout=self.answer_timeout_s, headers=headers)

    async def _answer(self, asking: Coroutine[Any, Any, Msg]) -> dict[str, Any]:
        """The JSON object that comes back. Raises what the server says is wrong, or `NoAnswer`."""
        answer: dict[str, Any] = orjson.loads((await self._in_time(asking)).data)
        if error := answer.get("error"):
            raise _translated(error)
        return answer

    async def _in_time(self, asking: Coroutine[Any, Any, T]) -> T:
        """What comes of it. Raises `NoAnswer`, after `answer_timeout_s` at the latest."""
        try:
            return await within(self.answer_timeout_s, asking)
        except (TimeoutError, OSError, nats.errors.Error) as e:
            raise NoAnswer(f"no answer: {type(e).__name__}") from e


async def within(timeout_s: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Raises `TimeoutError` after `timeout_s`, and leaves `work` to itself then.

    It runs as a task of its own because the client swallows cancellation while it flushes: neither a timeout nor the
    cancelling of our own task would otherwise get through.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(_ignore)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        task.cancel()
    if not task.done():
        raise TimeoutError
    return task.result()


def _ignore(task: asyncio.Task[Any]) -> None:
    """Look at the outcome, so that nobody complains that nobody did."""
    if not task.cancelled():
        task.exception()


async def _hang_up(client: Client) -> None:
    """Close; a server that hangs must not hold us, since the client tries to send what it still has."""
    try:
        await within(CLOSE_TIMEOUT_S, client.close())
    except (TimeoutError, OSError, nats.errors.Error) as e:
        logger.debug("nats client: closing ended with %s", type(e).__name__)


def _translated(error: Mapping[str, Any]) -> JetStreamError:
    code, text = error.get("err_code"), str(error.get("description", ""))
    if code in _WRONG_LAST_SEQUENCE:
        return WrongLastSequence(text)
    if code in _FULL:
        return StreamFull(text)
    return Refused(error)


def _headers(raw: bytes) -> dict[str, str]:
    """`NATS/1.0` and lines of `Name: value`, as the server stores them."""
    lines = raw.decode("utf-8", "replace").split("\r\n")[1:]
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
