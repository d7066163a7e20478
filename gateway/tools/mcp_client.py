"""MCP servers: their tools are offered as `<server>__<tool>`, for as long as they can be reached.

Protocol: https://modelcontextprotocol.io/specification, spoken by the official library: over the standard streams of a
command that the operator names (`mcp_stdio`), or over streamable HTTP. A server that cannot be reached is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.types import (
    CONNECTION_CLOSED,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    ContentBlock,
    TextResourceContents,
)
from mcp.types import Tool as McpToolSaid
from pydantic import ValidationError
from pydantic_core import to_json

from gateway.errors import InvalidRequest
from gateway.tools.mcp_config import McpServer
from gateway.tools.mcp_http import bounded, hurried
from gateway.tools.mcp_listing import Sieve
from gateway.tools.mcp_stdio import stdio
from gateway.tools.values import NAME, Offered, Progress, Tool, ToolTrouble, check_parameters

CONNECT_S = 20.0
LOOK_S = 15.0
"""How often a server is asked for its tools, which also shows that it is still there."""
SOONEST_S, LATEST_S = 0.5, 60.0
"""How long until a server is tried again: doubled each time."""
MOST_PAGES = 100

logger = logging.getLogger(__name__)

Status = Literal["connecting", "connected", "unreachable"]


class McpConnection:
    """One server. `run` keeps it connected; `offered` are its tools now, by the name that models call."""

    def __init__(self, server: McpServer) -> None:
        self.server = server
        self.status: Status = "connecting"
        self.offered: Mapping[str, Offered] = {}
        self.tried = asyncio.Event()
        """Set once the first try has ended, one way or the other."""
        self._client: Client | None = None
        self._reached = False
        """Whether it was connected in the try under way."""
        self._calls = 0
        self._silent = False
        """Whether a call was given up since it last answered anything."""
        self._known: dict[str, tuple[McpToolSaid, Offered | None]] = {}
        """What was made of each tool as it was last listed."""
        self._sieve = Sieve()
        self._left_out: dict[str, str] = {}
        """What was no tool of what was last listed, and why."""
        self._lost = asyncio.Event()

    async def run(self) -> None:
        """Connect, stay connected, connect again; until cancelled. An outage is said once, not at every try."""
        wait, said = SOONEST_S, None
        while True:
            why = await self._ended()
            if self._reached:
                wait, said, self._reached = SOONEST_S, None, False
            if why != said:
                logger.warning("the MCP server %s cannot be reached: %s", self.server.name, why)
            self.status, said = "unreachable", why
            self.tried.set()
            await asyncio.sleep(wait)
            wait = min(wait * 2, LATEST_S)

    async def call(self, tool: str, arguments: dict[str, Any], progress: Progress) -> str:
        """What a tool gives. Raises `ToolTrouble`."""
        if self._client is None:
            raise ToolTrouble("unreachable", "The tool's server cannot be reached now.")
        self._calls += 1
        asked = CallToolRequest(params=CallToolRequestParams(name=tool, arguments=arguments))
        try:  # not `call_tool`, which tries the server's own regular expressions on its result, however long that takes
            result = await self._client.session.send_request(asked, CallToolResult, progress_callback=progress)
        except asyncio.CancelledError:
            self._silent = True
            raise
        except MCPError as error:
            self._lost.set()
            if error.code == CONNECTION_CLOSED:
                raise ToolTrouble("unreachable", "The connection to the tool's server was lost.") from error
            raise ToolTrouble("tool_error", f"The tool's server refused the call: {error}") from error
        except ValidationError as error:
            raise ToolTrouble("tool_error", "The tool's server answered with what is no result of a tool.") from error
        except Exception as error:
            self._lost.set()
            raise ToolTrouble("unreachable", "The tool's server could not be reached.") from error
        finally:
            self._calls -= 1
        self._silent = False
        if result.is_error:
            raise ToolTrouble("tool_error", text_of(result))
        return text_of(result)

    async def _ended(self) -> str:
        """One connection; the name of what ended it. Never its words, which may quote a command line or a URL."""
        try:
            await self._connected()
        except Exception as error:  # noqa: BLE001  the library and its transports raise of all kinds, in groups
            return type(first_cause(error)).__name__
        return "closed"

    async def _connected(self) -> None:
        """One connection, until it is lost."""
        async with _transport(self.server) as transport:
            self._sieve.version = None
            client = Client(self._sieve.over(transport), cache=None)
            async with asyncio.timeout(CONNECT_S) as limit, client:
                self._sieve.version = client.protocol_version
                await self._list(client)
                limit.reschedule(None)
                self._client, self.status, self._reached = client, "connected", True
                self.tried.set()
                try:
                    while True:
                        await self._pause()
                        await self._look(client)
                finally:  # before the leave is taken, which takes its time
                    self._client, self.offered, self.status = None, {}, "unreachable"

    async def _look(self, client: Client) -> None:
        """List its tools again. One that works on a call may do one thing at a time: its silence is no loss, until a
        call is given up."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._list(client)
        except TimeoutError:
            if self._silent or not self._calls:
                raise

    async def _pause(self) -> None:
        """Until it is time to look, or a call went wrong."""
        self._lost.clear()
        try:
            async with asyncio.timeout(LOOK_S):
                await self._lost.wait()
        except TimeoutError:
            pass

    async def _list(self, client: Client) -> None:
        found: list[McpToolSaid] = []
        cursor, self._sieve.left_out = None, {}
        for _ in range(MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        self._silent = False
        for name, why in self._sieve.left_out.items():
            if self._left_out.get(name) != why:
                logger.warning("the tool %.200r is left out: %.200s", f"{self.server.name}__{name}", why)
        self._left_out = self._sieve.left_out
        self._known = await asyncio.to_thread(self._looked_at, found)
        offered = [made for _, made in self._known.values() if made is not None]
        self.offered = {each.tool.name: each for each in offered}

    def _looked_at(self, found: list[McpToolSaid]) -> dict[str, tuple[McpToolSaid, Offered | None]]:
        """What is made of each tool, by name; what is new is checked. In a thread: a long schema takes a second."""
        looked_at = {}
        for said in found:
            before = self._known.get(said.name)
            made = before[1] if before is not None and before[0] == said else self._offer(said)
            looked_at[said.name] = (said, made)
        return looked_at

    def _offer(self, said: McpToolSaid) -> Offered | None:
        """A tool of the server under our name; None for one that no model could be told of."""
        name = f"{self.server.name}__{said.name}"
        try:
            check_parameters(said.input_schema)
        except InvalidRequest as error:
            logger.warning("the tool %.200r is left out: %s", name, error.message)
            return None
        if not NAME.fullmatch(name):
            logger.warning("the tool %.200r is left out: models cannot call that name", name)
            return None
        tool = Tool(
            name=name,
            description=said.description or said.title or "",
            parameters=said.input_schema,
            kind="mcp",
            source=self.server.name,
        )
        return Offered(tool, McpTool(self, said.name))


def first_cause(error: BaseException) -> BaseException:
    """What a group of errors is about: the first error in it that is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class McpTool:
    """Runs one tool of a server."""

    def __init__(self, connection: McpConnection, name: str) -> None:
        self._connection, self._name = connection, name

    async def __call__(self, arguments: dict[str, Any], progress: Progress) -> str:
        return await self._connection.call(self._name, arguments, progress)


def text_of(result: CallToolResult) -> str:
    """The text of a result; where it has structured content alone, that as JSON."""
    if not result.content and result.structured_content is not None:
        return to_json(result.structured_content).decode()
    return "\n".join(map(_text, result.content))


def _text(part: ContentBlock) -> str:
    """The text of a part, where a link leads; of what is neither, its kind."""
    if part.type == "text":
        return part.text
    if part.type == "resource" and isinstance(part.resource, TextResourceContents):
        return part.resource.text
    return f"[{part.type}: {part.uri}]" if part.type == "resource_link" else f"[{part.type}]"


@asynccontextmanager
async def _transport(server: McpServer) -> AsyncIterator[Any]:
    """What the client library connects to: a command to start, or an open HTTP client."""
    if server.url is None:
        yield stdio(server)
        return
    async with create_mcp_http_client(headers={**server.headers, "accept-encoding": "identity"}) as client:
        client.event_hooks = {"request": [hurried], "response": [bounded]}
        yield streamable_http_client(server.url, http_client=client)
