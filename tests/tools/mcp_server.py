"""A real MCP server, by the official package: `python -m tests.tools.mcp_server stdio`, or `http PORT`."""

from __future__ import annotations

import asyncio
import os
import sys

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("almanac")


@server.tool()
def moon(day: str) -> str:
    """The moon's phase on a day."""
    return f"{day}: waxing"


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Counts, and says how far it is."""
    for step in range(to):
        await ctx.report_progress(step + 1, to, f"step {step + 1}")
    return f"counted to {to}"


@server.tool()
def refuse() -> str:
    """Says that it cannot."""
    raise ToolError("no such day")


@server.tool()
def environment(name: str) -> str:
    """A variable of the server's own environment."""
    return os.environ.get(name, "")


@server.tool()
async def mutter(name: str, ctx: Context) -> str:
    """Says a variable of its environment on the way, and then raises it."""
    await ctx.report_progress(1, 2, os.environ.get(name, ""))
    raise ToolError(os.environ.get(name, ""))


@server.tool()
def die() -> str:
    """Ends the server."""
    os._exit(1)


@server.tool()
async def wait() -> str:
    """Never ends by itself."""
    await asyncio.sleep(60)
    return "late"


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        asyncio.run(server.run_stdio_async())
    else:
        asyncio.run(server.run_streamable_http_async(port=int(sys.argv[2])))
