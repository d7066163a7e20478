"""The tools of a server, put together: started after the log, stopped before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from eventstore.log import Log
from gateway.config import Settings
from gateway.redaction import Redactor
from gateway.tools.execute import DirectRuns
from gateway.tools.functions import load_functions
from gateway.tools.http import HttpTools
from gateway.tools.registry import ToolRegistry
from gateway.tools.runner import ToolRunner

if TYPE_CHECKING:
    from gateway.tools.mcp_client import McpConnection

FIRST_TRY_S = 5.0
"""How long a start waits for the first try at each MCP server."""


class ToolService:
    """`registry` knows them, `runner` runs them, `direct` runs them for clients. Raises `ConfigError` for a module that
    cannot be loaded. `monotonic`: seconds."""

    def __init__(self, log: Log, settings: Settings, redactor: Redactor, monotonic: Callable[[], float]) -> None:
        self._http = HttpTools()
        self._servers = _connections(settings)
        self._tasks: list[asyncio.Task[None]] = []
        self.registry = ToolRegistry(log, settings, load_functions(settings.tools), self._servers, self._http)
        self.runner = ToolRunner(self.registry, redactor, settings.tool_timeout_s, monotonic)
        self.direct = DirectRuns(log, self.runner)

    async def start(self, sealed: int) -> None:
        """Offer what is registered (see `ToolRegistry.restore`), and connect to the MCP servers: those that do not
        answer soon are waited for in the background."""
        await self.registry.restore(sealed)
        self._tasks = [asyncio.create_task(server.run()) for server in self._servers]
        if self._servers:
            tries = [asyncio.create_task(server.tried.wait()) for server in self._servers]
            await asyncio.wait(tries, timeout=FIRST_TRY_S)
            for each in tries:
                each.cancel()

    async def close(self) -> None:
        """Let the MCP servers go, and their processes end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()


def _connections(settings: Settings) -> list[McpConnection]:
    """One for each MCP server; without any, the library is not even loaded: it takes half a second."""
    if not settings.mcp:
        return []
    from gateway.tools.mcp_client import McpConnection

    return [McpConnection(server) for server in settings.mcp]
