"""The tools that the server runs: what there are, registering one by its schema and endpoint, running one."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from eventstore.catalogue.tool import ToolRegistered
from gateway.api.answers import json_response, page, services
from gateway.edge import KEY_ID, request_id
from gateway.exchange.submit import retained
from gateway.json_guard import read_json
from gateway.tools.runner import Job, Outcome
from gateway.tools.service import ToolService
from gateway.tools.values import Tool
from gateway.wire.openai_chat_request import Text, validate

TOOLS = web.AppKey("tools", ToolService)
LARGEST = 256 * 1024
"""Bytes of a registration."""


@with_config(ConfigDict(extra="forbid", strict=True))
class ToolRegistration(TypedDict, total=False):
    """An HTTP tool: the JSON Schema of its arguments, and the endpoint that they are posted to. `header_env` names, for
    each header of the call, the variable of a value that the operator lends to that host."""

    name: Text
    description: Annotated[Text, Field(max_length=8_000)]
    parameters: dict[str, Any]
    endpoint: Annotated[Text, Field(max_length=2_000)]
    timeout_s: float | None
    header_env: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")], str], Field(max_length=16)]


@with_config(ConfigDict(extra="forbid", strict=True))
class ToolExecution(TypedDict, total=False):
    """A tool to run now; `arguments` are an object, or the text of one."""

    name: Text
    arguments: dict[str, Any] | str


_REGISTRATION: TypeAdapter[ToolRegistration] = TypeAdapter(ToolRegistration)
_EXECUTION: TypeAdapter[ToolExecution] = TypeAdapter(ToolExecution)
REQUIRED = ("name", "parameters", "endpoint")


async def list_all(request: web.Request) -> web.Response:
    """GET /v1/tools: the tools that the server runs, each as a request's `tools` has it, and the MCP servers"""
    asked, given, tools = page(request), services(request), request.app[TOOLS]
    shown = asked.cut([tool_object(tool) for tool in tools.registry.all()])
    servers = [{"name": each.server.name, "status": each.status} for each in tools.registry.servers]
    return json_response({**shown, "mcp_servers": servers, "position": await given.log.head()})


async def register(request: web.Request) -> web.Response:
    """POST /v1/tools/register: offer an HTTP tool, for now and for later starts: a schema and an allowed endpoint"""
    body, _ = await read_json(request, LARGEST)
    validate(_REGISTRATION, body, *REQUIRED)
    asked = ToolRegistered(
        tool_name=body["name"],
        key=request[KEY_ID],
        endpoint=body["endpoint"],
        description=body.get("description", ""),
        parameters=body["parameters"],
        timeout_s=body.get("timeout_s"),
        header_env=body.get("header_env") or None,
    )
    return json_response(tool_object(await request.app[TOOLS].registry.register(asked)))


async def remove(request: web.Request) -> web.Response:
    """DELETE /v1/tools/{name}: offer a registered tool no longer"""
    name = request.match_info["name"]
    await request.app[TOOLS].registry.remove(name, request[KEY_ID])
    return json_response({"name": name, "object": "tool", "deleted": True})


async def execute(request: web.Request) -> web.Response:
    """POST /v1/tools/execute: run a tool; what it gave, or what went wrong (`is_error`), is an answer that is 200"""
    body, _ = await read_json(request)
    validate(_EXECUTION, body, "name")
    arguments = body.get("arguments", {})
    job = Job(
        id=f"call_{request_id(request)}",
        name=body["name"],
        arguments=arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode(),
        retained=retained(request.headers),
    )
    transport = request.transport
    outcome = await request.app[TOOLS].direct.run(
        job, request[KEY_ID], lambda: transport is None or transport.is_closing()
    )
    return json_response(outcome_object(job, outcome))


def tool_object(tool: Tool) -> dict[str, Any]:
    """A tool, as OpenAI's `tools` have it, and beside that where it comes from."""
    return {**tool.function(), "name": tool.name, "kind": tool.kind, "source": tool.source, "timeout_s": tool.timeout_s}


def outcome_object(job: Job, outcome: Outcome) -> dict[str, Any]:
    """What a run came to."""
    return {
        "call_id": job.id,
        "tool_name": job.name,
        "output": outcome.text,
        "is_error": outcome.kind is not None,
        "error": outcome.kind,
        "cut": outcome.cut,
        "duration_ms": outcome.duration_ms,
    }
