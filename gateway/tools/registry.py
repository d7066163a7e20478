"""The tools that there are: loaded at the start, offered by MCP servers, and registered while the server runs.

What is registered is the last word on each name in the log's stream `tools`: a JSON Schema and an endpoint on the
operator's list, never code.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from eventstore.catalogue.event import Event
from eventstore.catalogue.tool import ToolRegistered, ToolRemoved
from eventstore.envelope import ANY_VERSION, StreamWrite
from eventstore.log import Log
from gateway.config import ConfigError, LentKey, Settings
from gateway.errors import Conflict, GatewayError, InvalidRequest, NotFound
from gateway.standing import TOOLS
from gateway.tools.http import HttpTool, HttpTools, check_endpoint, header_values
from gateway.tools.values import NAME, Offered, Tool, check_parameters

if TYPE_CHECKING:
    from gateway.tools.mcp_client import McpConnection

MOST_REGISTERED = 500
LONGEST_TIMEOUT_S = 3600.0
SEPARATOR = "__"
"""Between an MCP server's name and its tool's; no other tool has it in its name."""

logger = logging.getLogger(__name__)


class ToolRegistry:
    """`loaded` are the operator's functions, `servers` its MCP servers."""

    def __init__(
        self, log: Log, settings: Settings, loaded: Iterable[Offered], servers: Sequence[McpConnection], http: HttpTools
    ) -> None:
        self._log, self._http, self.servers = log, http, servers
        self._allowlist: frozenset[str] = settings.tool_url_allowlist
        self._lent: Mapping[str, LentKey] = settings.tool_keys
        self._loaded: dict[str, Offered] = {}
        self._registered: dict[str, Offered] = {}
        self._turn = asyncio.Lock()
        for offered in loaded:
            name = offered.tool.name
            if name in self._loaded or SEPARATOR in name:
                raise ConfigError(f"--tools: {name} is no free name of a tool")
            self._loaded[name] = offered

    async def restore(self, sealed: int) -> None:
        """Offer what the log says. What lies up to `sealed`, in an archive that may be dropped, is said again. What the
        settings no longer allow is left out, with a warning."""
        for name, (position, event) in (await self._latest()).items():
            try:
                self._registered[name] = self._made(event)
            except GatewayError as error:
                logger.warning("the tool %s is not offered as it was registered: %s", name, error.message)
            if position <= sealed:
                await self._record(event)

    async def repeats(self, sealed: int) -> bool:
        """Whether `restore` says something again."""
        return any(position <= sealed for position, _ in (await self._latest()).values())

    def find(self, name: str) -> Offered | None:
        """The tool of this name, if it can be run now."""
        offered = self._loaded.get(name) or self._registered.get(name)
        if offered is None and SEPARATOR in name:
            server = name.partition(SEPARATOR)[0]
            offered = next((s.offered.get(name) for s in self.servers if s.server.name == server), None)
        return offered

    def all(self) -> list[Tool]:
        """Every tool that can be run now, by name."""
        return sorted((offered.tool for offered in self._each()), key=lambda tool: tool.name)

    async def register(self, asked: ToolRegistered) -> Tool:
        """Offer a tool, for now and for later starts. Raises `InvalidRequest`, `Forbidden`, `Conflict`."""
        async with self._turn:
            made = self._made(asked)
            if asked.tool_name not in self._registered and len(self._registered) >= MOST_REGISTERED:
                raise Conflict(f"There are {MOST_REGISTERED} registered tools, which is the most.")
            await self._record(asked, admit=True)
            self._registered[asked.tool_name] = made
            return made.tool

    async def remove(self, name: str, key: str) -> None:
        """Offer a registered tool no longer. Raises `NotFound`, `Conflict` for one that the operator configured."""
        async with self._turn:
            if name not in self._registered:
                if self.find(name) is not None:
                    raise Conflict(f"{name} was not registered here: it is the operator's.")
                raise unknown(name)
            await self._record(ToolRemoved(tool_name=name, key=key), admit=True)
            del self._registered[name]

    async def _latest(self) -> dict[str, tuple[int, ToolRegistered]]:
        """By name, what is registered, and the position where the log says so."""
        return TOOLS.latest(await self._log.read_stream(TOOLS.stream))

    def _each(self) -> Iterator[Offered]:
        yield from self._loaded.values()
        yield from self._registered.values()
        for server in self.servers:
            yield from server.offered.values()

    def _made(self, asked: ToolRegistered) -> Offered:
        name = asked.tool_name
        if not NAME.fullmatch(name) or SEPARATOR in name:
            raise InvalidRequest("A tool's name is made of letters, digits, - and _, at most 64, no __.", param="name")
        if name in self._loaded:
            raise Conflict(f"{name} is one of the operator's tools.")
        check_endpoint(asked.endpoint, self._allowlist)
        check_parameters(asked.parameters)
        if asked.timeout_s is not None and not 0 < asked.timeout_s <= LONGEST_TIMEOUT_S:
            raise InvalidRequest(f"timeout_s must be more than 0, at most {LONGEST_TIMEOUT_S:g}.", param="timeout_s")
        headers = header_values(asked.header_env or {}, asked.endpoint, self._lent)
        tool = Tool(
            name=name,
            description=asked.description,
            parameters=asked.parameters,
            kind="http",
            source=asked.endpoint,
            timeout_s=asked.timeout_s,
        )
        return Offered(tool, HttpTool(self._http, asked.endpoint, headers))

    async def _record(self, event: Event, admit: bool = False) -> None:
        await self._log.append(StreamWrite(TOOLS.stream, ANY_VERSION, (event.new(),)), admit=admit)


def unknown(name: str) -> NotFound:
    """The error for a name that no tool has."""
    return NotFound(f"There is no tool {name[:80]!r}; GET /v1/tools lists them.", param="name", code="tool_not_found")
