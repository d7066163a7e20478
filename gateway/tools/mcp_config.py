"""The file that names MCP servers, in the form that MCP's clients share. Pure.

    {"mcpServers": {
        "files":  {"command": "mcp-server-files", "args": ["/srv"], "env": {"TOKEN": "${FILES_TOKEN}"}},
        "search": {"url": "https://search.example/mcp", "headers": {"Authorization": "Bearer ${SEARCH_TOKEN}"}}}}

A secret is named as `${VARIABLE}` and never written down: the value of a header must name one, or be plainly none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from eventstore.value import value
from gateway.tools.values import NAME

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
CREDENTIALS = re.compile(r"auth|cookie|key|secret|token", re.IGNORECASE)
"""In the name of a header whose value is one."""
LONGEST_SERVER_NAME = 32


@value(kw_only=True)
class McpServer:
    """Where an MCP server is: a `command` to start, or a `url`. `secrets` are the values that came from variables."""

    name: str
    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict, repr=False)
    url: str | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@with_config(ConfigDict(extra="forbid", strict=True))
class _Entry(TypedDict, total=False):
    command: str
    args: list[str]
    env: dict[str, str]
    url: Annotated[str, Field(pattern=r"^https?://")]
    headers: dict[str, str]


@with_config(ConfigDict(extra="forbid", strict=True))
class _File(TypedDict):
    mcpServers: dict[str, _Entry]


_FILE: TypeAdapter[_File] = TypeAdapter(_File)


def parse(text: bytes, environ: Mapping[str, str]) -> tuple[McpServer, ...]:
    """The servers of a file. Raises `ValueError` that says what is wrong, without any value."""
    try:
        found = _FILE.validate_python(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return tuple(_server(name, entry, environ) for name, entry in found["mcpServers"].items())


def _server(name: str, entry: _Entry, environ: Mapping[str, str]) -> McpServer:
    if not NAME.fullmatch(name) or len(name) > LONGEST_SERVER_NAME or "__" in name:
        raise ValueError(f"{name!r} is no name of a server: a-z, 0-9, - and _, at most {LONGEST_SERVER_NAME}")
    if ("command" in entry) == ("url" in entry):
        raise ValueError(f"{name} needs either a command or a url")
    for header, said in entry.get("headers", {}).items():
        if CREDENTIALS.search(header) and not _VARIABLE.search(said):
            raise ValueError(f"{name}: the header {header} must name its secret as ${{VARIABLE}}")
    secrets: list[str] = []
    return McpServer(
        name=name,
        command=entry.get("command"),
        args=tuple(entry.get("args", ())),
        env=_filled(entry.get("env", {}), environ, secrets, name),
        url=entry.get("url"),
        headers=_filled(entry.get("headers", {}), environ, secrets, name),
        secrets=tuple(secrets),
    )


def _filled(said: Mapping[str, str], environ: Mapping[str, str], secrets: list[str], name: str) -> dict[str, str]:
    """The values with their variables filled in; what came from variables is added to `secrets`."""

    def put(found: re.Match[str]) -> str:
        held = environ.get(found[1], "")
        if not held:
            raise ValueError(f"{name} names the variable {found[1]}, which is not set")
        secrets.append(held)
        return held

    return {key: _VARIABLE.sub(put, value) for key, value in said.items()}
