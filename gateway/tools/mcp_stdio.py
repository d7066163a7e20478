"""An MCP server that is a command, over its standard streams: messages are lines of JSON.

Protocol: https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#stdio

This stands in for the library's own transport, which takes a time that grows with the square of a line's length, is
deaf for good after one byte that is no UTF-8, writes a traceback for each line that is no message, and lets the command
write to our standard error, secrets and all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCMessage, jsonrpc_message_adapter

from gateway.redaction import Redactor
from gateway.tools.mcp_config import McpServer

LONGEST_MESSAGE = 16 * 1024 * 1024
"""Bytes of one; a server that says more at once is lost."""
CHUNK = 64 * 1024
LONGEST_REMARK, MOST_REMARKS = 500, 200
"""Characters of a line on standard error that are logged, and how many lines of one connection."""
SEEN = 8 * 1024
"""Bytes of such a line that are searched for secrets before it is cut: half of one would not be known."""
GRACE_S = 2.0
"""How long a command may take to end, once nobody speaks to it, and again once it is told to."""
LOOK_S = 0.01

logger = logging.getLogger(__name__)

Heard = MemoryObjectSendStream[SessionMessage | Exception]
Said = MemoryObjectReceiveStream[SessionMessage]
Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


@asynccontextmanager
async def stdio(server: McpServer) -> AsyncIterator[Streams]:
    """The command, started, for as long as the block lasts. Raises `OSError` where it cannot be."""
    process = await asyncio.create_subprocess_exec(
        server.command or "",
        *server.args,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=get_default_environment() | server.env,
        start_new_session=True,
    )
    heard, hears = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    says, said = anyio.create_memory_object_stream[SessionMessage](0)
    with heard, said:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_hear, server.name, process, heard)
            tasks.start_soon(_say, process, said, heard)
            tasks.start_soon(_log, server, process)
            try:
                yield hears, says
            finally:
                hears.close()
                says.close()
                with anyio.CancelScope(shield=True):
                    await _end(process)
                tasks.cancel_scope.cancel()


def message_of(line: bytes) -> JSONRPCMessage | None:
    """The message that a line is. What is no character in it is replaced."""
    text = line.decode("utf-8", "replace")
    try:
        return jsonrpc_message_adapter.validate_json(text, by_name=False)
    except ValueError:
        pass
    try:  # half a surrogate pair, which JavaScript writes
        text = json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace").decode()
        return jsonrpc_message_adapter.validate_json(text, by_name=False)
    except (ValueError, RecursionError):
        return None


async def _hear(name: str, process: Process, heard: Heard) -> None:
    """Pass on what the server says, until it says no more, or too much at once."""
    assert process.stdout is not None
    parts: list[bytes] = []
    length, strange = 0, False
    async with heard:
        while chunk := await process.stdout.read(CHUNK):
            *ends, rest = chunk.split(b"\n")
            for end in ends:
                message = message_of(b"".join([*parts, end]))
                parts, length = [], 0
                if message is not None:
                    with suppress(anyio.BrokenResourceError):  # nobody listens any more: read on, so that it can end
                        await heard.send(SessionMessage(message))
                elif not strange:
                    strange = True
                    logger.warning("the MCP server %s says what is no message; that is left out", name)
            parts.append(rest)
            length += len(rest)
            if length > LONGEST_MESSAGE:
                logger.warning("the MCP server %s says more than %d bytes at once", name, LONGEST_MESSAGE)
                return


async def _say(process: Process, said: Said, heard: Heard) -> None:
    """Tell the server what we have to say; where it does not listen any more, the connection is over."""
    assert process.stdin is not None
    async with said:
        async for each in said:
            try:
                process.stdin.write(each.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                await process.stdin.drain()
            except (OSError, RuntimeError):  # uvloop raises this for a stream that is closed
                await heard.aclose()
                return


async def _log(server: McpServer, process: Process) -> None:
    """Write to our own log what the server says on its standard error: its first lines, and each line's beginning."""
    assert process.stderr is not None
    line, left = b"", MOST_REMARKS
    scrubber = Redactor(b"standard error").scrubber(server.secrets)
    while chunk := await process.stderr.read(CHUNK):
        if left < 0:
            continue
        *lines, line = (line + chunk).split(b"\n")
        line = line[:SEEN]
        for each in filter(None, lines):
            left -= 1
            if left >= 0:
                text = scrubber.text(each[:SEEN].decode("utf-8", "backslashreplace"))
                logger.info("the MCP server %s: %s", server.name, text[:LONGEST_REMARK])
            else:
                logger.info("the MCP server %s says more than %d lines; those are left out", server.name, MOST_REMARKS)
                break


async def _end(process: Process) -> None:
    """See the command off: hang up, then tell it and its children to end, then end them; at once where this is
    cancelled, as it is when the gateway itself ends meanwhile."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        for each in (signal.SIGTERM, signal.SIGKILL):
            if await _ended(process):
                break
            _signal(process, each)
        await _ended(process)
    finally:
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
        transport = getattr(process, "_transport", None)
        if transport is not None:  # a child that outlives it can hold its streams open
            transport.close()


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def _ended(process: Process) -> bool:
    """Whether it ends soon. Not `wait`, which waits for whoever holds its streams open too."""
    with anyio.move_on_after(GRACE_S):
        while process.returncode is None:  # noqa: ASYNC110  nothing else says so
            await asyncio.sleep(LOOK_S)
    return process.returncode is not None
