"""The file that names MCP servers, in the form that MCP's clients share. Pure.

    {"mcpServers": {
        "files":  {"command": "mcp-server-files", "args": ["/srv"], "env": {"TOKEN": "${FILES_TOKEN}"}},
        "search": {"url": "https://search.example/mcp", "headers": {"Authorization": "Bearer ${SEARCH_TOKEN}"}}}}

A secret is named as `${VARIABLE}`, in any value; a header that holds one must name it. What stands in the file all the
same, in a variable or an argument whose name says that it is secret or in a URL's credentials, is scrubbed like one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Annotated, Literal

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from eventstore.value import value
from gateway.tools.values import NAME

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
CREDENTIALS = re.compile(r"auth|cookie|key|secret|token|passw", re.IGNORECASE)
"""In the name of a header whose value is one."""
SECRET_NAME = re.compile(
    r"(auth|authorization|cookie|credentials?|key|pass|passphrase|passwd|password|pat|pwd|secret|token)([_-]?\d+)?$",
    re.IGNORECASE,
)
"""How the name of a variable or an argument ends whose value is one: `KEYBOARD` and `AUTHOR` are none."""
_IN_URL = re.compile(r"(?:://[^/?#\s]*?:|https?://(?=[^/?#\s:@]+@))([^/?#\s]+)@|[?&]([^=&#\s]+)=([^&#\s]+)")
"""A password, or for the web a user without one, which is a token; or a parameter and its value."""
_HEADER = re.compile(r"(?:\A|=)([A-Za-z0-9-]+):\s*(?:(?:basic|bearer|token)\s+)?(\S.*)\Z", re.IGNORECASE)
"""A header and its value, as `Authorization: Bearer …` stands behind `--header`."""
LONGEST_SERVER_NAME = 32


@value(kw_only=True)
class McpServer:
    """Where an MCP server is: a `command` to start, or a `url`. `secrets` are the values that came from variables, and
    those that are plainly secret."""

    name: str
    command: str | None = None
    args: tuple[str, ...] = field(default=(), repr=False)
    env: dict[str, str] = field(default_factory=dict, repr=False)
    url: str | None = field(default=None, repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@with_config(ConfigDict(extra="forbid", strict=True))
class _Entry(TypedDict, total=False):
    type: Literal["stdio", "http", "streamable-http"]  # as some clients write it; what else there is says the same
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
    if not NAME.fullmatch(name) or len(name) > LONGEST_SERVER_NAME or "__" in f"{name}_":
        raise ValueError(
            f"{name!r} is no name of a server: a-z, 0-9, -, _ (not twice, not at its end), up to {LONGEST_SERVER_NAME}"
        )
    if ("command" in entry) == ("url" in entry):
        raise ValueError(f"{name} needs either a command or a url")
    for header, said in entry.get("headers", {}).items():
        if CREDENTIALS.search(header) and not _VARIABLE.search(said):
            raise ValueError(f"{name}: the header {header} must name its secret as ${{VARIABLE}}")
    filled = _Filled(name, environ)
    args, env = [filled.text(arg) for arg in entry.get("args", ())], filled.values(entry.get("env", {}))
    filled.arguments(args)
    return McpServer(
        name=name,
        command=entry.get("command"),
        args=tuple(args),
        env=env,
        url=filled.text(entry["url"]) if "url" in entry else None,
        headers=filled.values(entry.get("headers", {})),
        secrets=tuple(dict.fromkeys(filter(None, filled.secrets))),
    )


class _Filled:
    """Fills in the variables of a server's values, and gathers what is secret in them."""

    def __init__(self, server: str, environ: Mapping[str, str]) -> None:
        self._server, self._environ = server, environ
        self.secrets: list[str] = []

    def text(self, said: str) -> str:
        """One value. Raises `ValueError` for a variable that is not set."""
        filled = _VARIABLE.sub(self._put, said)
        for password, parameter, held in _IN_URL.findall(filled) if "://" in filled else ():
            if password or SECRET_NAME.search(parameter):
                self.secrets.append(password or held)
        return filled

    def values(self, said: Mapping[str, str]) -> dict[str, str]:
        """Values by their names."""
        filled = {name: self.text(text) for name, text in said.items()}
        self.secrets += [t for name, t in said.items() if SECRET_NAME.search(name) and not _VARIABLE.search(t)]
        return filled

    def arguments(self, args: Sequence[str]) -> None:
        """Gather what stands behind `--token`, or in `--token=…`, in `TOKEN=…` and in `Authorization: …`."""
        for arg, following in zip(args, [*args[1:], "-"], strict=False):  # without any, the second is longer
            name, equals, held = arg.partition("=")
            behind = name.startswith("-") and not following.startswith("-")
            if SECRET_NAME.search(name) and (equals or behind):
                self.secrets.append(held if equals else following)
            if (header := _HEADER.search(arg)) is not None and SECRET_NAME.search(header[1]):
                self.secrets.append(header[2])

    def _put(self, found: re.Match[str]) -> str:
        held = self._environ.get(found[1], "")
        if not held:
            raise ValueError(f"{self._server} names the variable {found[1]}, which is not set")
        self.secrets.append(held)
        return held
