"""The rounds of one request: which tools the server runs for it, and what its model is told of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from eventstore.value import value
from gateway.errors import InvalidRequest
from gateway.tools.values import Offered, Tool
from gateway.wire.responses.sealed import BLOCKS
from gateway.wire.tool_turn import calls_told_again
from gateway.wire.values import Fold

FIELD = "execute_tools"
ALLOWED = "allowed_tools"
_WHOLE = frozenset({None, "stop", "tool_calls"})
"""How a round ends whose calls are whole."""


class Toolbox(Protocol):
    """The tools that there are."""

    def find(self, name: str) -> Offered | None:
        """The tool of this name, if it can be run now."""

    def all(self) -> list[Tool]:
        """Every tool that can be run now."""


@value
class Loop:
    """The server runs the tools of these `names`, in at most so many rounds, of which `done` are over."""

    names: frozenset[str]
    most: int
    done: int = 0

    def calls(self, answer: Fold) -> list[dict[str, Any]]:
        """The calls of an answer that the server is to run: all of them, or, where one is its client's, none: a model
        goes on only when it has the results of all."""
        choice = (answer.choices() or [{"message": {}}])[0]
        calls: list[dict[str, Any]] = choice["message"].get("tool_calls") or []
        if self.done >= self.most or choice.get("finish_reason") not in _WHOLE:
            return []
        return calls if all(_name(call) in self.names for call in calls) else []

    def next(self) -> Loop:
        """One round later."""
        return replace(self, done=self.done + 1)


@value
class Looping:
    """What rounds hang on beside the request: the tools, and the most rounds."""

    toolbox: Toolbox
    most: int

    def begin(self, body: dict[str, Any]) -> tuple[dict[str, Any], Loop | None]:
        """The body with its tools, and the rounds ahead; None where the server runs none of them.

        A request that itself asks for this and names no tools is offered all; of those that it names, one without
        parameters is given the server's. Raises `InvalidRequest`."""
        asked = body.get(FIELD)
        tools = body.get("tools") or []
        if body.get("n") not in (None, 1):
            if asked:
                raise InvalidRequest("With execute_tools there is one answer: 'n' must be 1.", param="n")
            return body, None
        if not tools and asked:
            tools = [tool.function() for tool in self.toolbox.all()]
        said = [self._filled(tool) for tool in tools]
        among = _among(body.get("tool_choice"))
        may = said if among is None else [tool for tool in among["tools"] if isinstance(tool, dict)]
        told = {_name(tool) for tool in said}
        names = frozenset(n for tool in may if (n := _name(tool)) in told and self.toolbox.find(n) is not None)
        return ({**body, "tools": said}, Loop(names, self.most)) if names else (body, None)

    def _filled(self, said: dict[str, Any]) -> dict[str, Any]:
        offered = self.toolbox.find(_name(said))
        if offered is None or "parameters" in said["function"]:
            return said
        return offered.tool.function()


def continued(
    body: Mapping[str, Any], message: Mapping[str, Any], results: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """The body of the next round: with the calls of this one, the signed thinking that led to them, which its provider
    wants back, and their results by the ids of the calls. A tool that the model was made to call is not forced on it
    twice; those that it may call stay the same."""
    asked = calls_told_again(
        {"role": "assistant", "content": message.get("content"), "tool_calls": message["tool_calls"]}
    )
    if message.get(BLOCKS):
        asked[BLOCKS] = message[BLOCKS]
    told = [{"role": "tool", "tool_call_id": call_id, "content": text} for call_id, text in results]
    following = {**body, "messages": [*body["messages"], asked, *told]}
    if (choice := body.get("tool_choice")) not in (None, "none", "auto"):
        following["tool_choice"] = (
            "auto" if (among := _among(choice)) is None else {**choice, ALLOWED: {**among, "mode": "auto"}}
        )
    return following


def _among(choice: Any) -> dict[str, Any] | None:
    """What a `tool_choice` says of those that may be called of all that are told; None where it says nothing."""
    among = choice.get(ALLOWED) if isinstance(choice, dict) else None
    return among if isinstance(among, dict) and isinstance(among.get("tools"), list) else None


def _name(call: Mapping[str, Any]) -> str:
    """Of a call, or of a tool."""
    function = call.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else ""
