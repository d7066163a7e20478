"""The tables of the READMEs, made from the code. `python -m tests.readme` writes them there.

Each stands between `<!-- NAME -->` and `<!-- /NAME -->`; test_readme.py says where one is out of date.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from eventstore.catalogue import REGISTRY
from gateway.app import ROUTES
from gateway.config import SETTINGS
from replay.cli import COMMANDS
from tests.architecture import PURE
from tests.endpoints.matrix import FAMILIES, rows

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CLIENTS = ROOT / "gateway" / "wire" / "README.md"
DOOR = ROOT / "gateway" / "README.md"
EXCHANGE = ROOT / "gateway" / "exchange" / "README.md"
PACKAGES = ("eventstore", "projections", "gateway", "replay", "tests")
PAGES = [README, *sorted(path for package in PACKAGES for path in (ROOT / package).rglob("README.md"))]
"""The README, and the deeper documents: one for each package that has one."""


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def first_sentence(docstring: str | None) -> str:
    """Of a docstring, on one line."""
    text = " ".join((docstring or "").split())
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0].rstrip(".")


def docstring(handler: object) -> str | None:
    """The handler's own, or its file's where the handler is made by a function."""
    return handler.__doc__ or sys.modules[handler.__module__].__doc__


def settings() -> str:
    """One row a setting."""
    return table(
        ("flag", "environment", "default", "meaning"),
        (
            (
                f"`{setting.flag}`" if setting.flag else "",
                " ".join(f"`{name}`" for name in setting.env),
                f"`{setting.default}`" if setting.default not in (None, "", False) else "",
                setting.help,
            )
            for setting in SETTINGS
        ),
    )


def routes() -> str:
    """One row a route."""
    names = [(f"{route.method} {plain(route.path)}", first_sentence(docstring(route.handler))) for route in ROUTES]
    return table(("route", "what it does"), ((f"`{name}`", said.removeprefix(f"{name}: ")) for name, said in names))


def plain(path: str) -> str:
    """A route's path without the patterns of its variable parts."""
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", path)


def events() -> str:
    """One row an event type."""
    return table(
        ("event", "when"),
        ((f"`{name}`", first_sentence(cls.__doc__)) for name, cls in sorted(REGISTRY.items())),
    )


def commands() -> str:
    """One row a replay subcommand."""
    return table(
        ("command", "what it shows or does"),
        ((f"`abstractcore-replay {name}`", command.HELP) for name, command in COMMANDS.items()),
    )


def files(page: Path, pure: bool) -> str:
    """One row a file of the page's folder: those that reach the world, or those that do not."""
    folder = page.parent.relative_to(ROOT).as_posix()
    paths = sorted(path for path in page.parent.glob("*.py") if not path.name.startswith("__"))
    return table(
        ("file", "what it is"),
        (
            (f"`{path.name}`", first_sentence(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))))
            for path in paths
            if f"{folder}/{path.name}".startswith(PURE) == pure
        ),
    )


def endpoints() -> str:
    """One row an endpoint, one column a provider."""
    return table(("endpoint", *FAMILIES), rows())


TABLES: Mapping[str, tuple[Path, Callable[[], str]]] = {
    "settings": (README, settings),
    "routes": (README, routes),
    "events": (README, events),
    "commands": (README, commands),
    "endpoints": (CLIENTS, endpoints),
    "files": (DOOR, lambda: files(DOOR, pure=False)),
    "shell": (EXCHANGE, lambda: files(EXCHANGE, pure=False)),
    "pure": (EXCHANGE, lambda: files(EXCHANGE, pure=True)),
}
"""Where each stands, and what it says."""


def block(text: str, name: str) -> str:
    """What stands between the marks. Raises `ValueError` where they are missing."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"no block {name}")
    return found[1]


def written(text: str, name: str, content: str) -> str:
    """The text with this table."""
    block(text, name)
    marked = f"<!-- {name} -->\n{content}\n<!-- /{name} -->"
    return re.sub(rf"<!-- {name} -->\n.*?<!-- /{name} -->", lambda _: marked, text, flags=re.DOTALL)


if __name__ == "__main__":
    for name, (path, made) in TABLES.items():
        path.write_text(written(path.read_text(encoding="utf-8"), name, made()), encoding="utf-8")
