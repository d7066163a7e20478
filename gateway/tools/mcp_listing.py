"""What an MCP server lists, tool by tool: what is no tool is taken out before the library reads the list.

It refuses the whole list for one such tool, as for one whose `inputSchema` is not of type object, and so loses the
server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

from mcp.client._transport import ReadStream, TransportStreams
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCResponse
from mcp.types.methods import validate_server_result
from pydantic import ValidationError

Heard = SessionMessage | Exception


class Sieve:
    """Takes out of lists what is no tool in the protocol's `version`, and nothing before that is known. `left_out`: the
    names of those tools, and what is wrong with each."""

    def __init__(self) -> None:
        self.version: str | None = None
        self.left_out: dict[str, str] = {}

    @asynccontextmanager
    async def over(self, transport: AbstractAsyncContextManager[TransportStreams]) -> AsyncIterator[TransportStreams]:
        """The same transport, sieved."""
        async with transport as (heard, says):
            yield _Sieved(heard, self), says

    def sieved(self, heard: Heard) -> Heard:
        """What was heard, a list without what is left out of it."""
        if self.version is not None and isinstance(heard, SessionMessage):
            message = heard.message
            if isinstance(message, JSONRPCResponse) and isinstance(message.result.get("tools"), list):
                self._sieve(self.version, message.result)
        return heard

    def _sieve(self, version: str, listed: dict[str, Any]) -> None:
        try:
            validate_server_result("tools/list", version, listed)
        except ValidationError as error:
            wrong: dict[int | str, str] = {}
            for each in error.errors(include_input=False, include_url=False, include_context=False):
                if each["loc"][:1] == ("tools",) and each["loc"][1:]:
                    _, place, *where = each["loc"]
                    wrong.setdefault(place, f"{each['msg']}, at {'.'.join(map(str, where))!r}")
            self.left_out |= {_name(listed["tools"][place]): why for place, why in wrong.items()}
            listed["tools"] = [tool for place, tool in enumerate(listed["tools"]) if place not in wrong]


def _name(tool: Any) -> str:
    name = tool.get("name") if isinstance(tool, dict) else None
    return name if isinstance(name, str) else ""


class _Sieved:
    """What the library reads."""

    def __init__(self, heard: ReadStream[Heard], sieve: Sieve) -> None:
        self._heard, self._sieve = heard, sieve

    def __getattr__(self, name: str) -> Any:
        """`last_context`, which the library looks for."""
        return getattr(self._heard, name)

    async def receive(self) -> Heard:
        return self._sieve.sieved(await self._heard.receive())

    async def aclose(self) -> None:
        await self._heard.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Heard:
        return self._sieve.sieved(await self._heard.__anext__())

    async def __aenter__(self) -> Self:
        await self._heard.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._heard.__aexit__(kind, error, trace)
