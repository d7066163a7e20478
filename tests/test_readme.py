"""The READMEs are held to the code: what exists is documented, and what is documented exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore.catalogue import REGISTRY
from gateway.app import ROUTES
from gateway.config import SETTINGS
from gateway.exchange.run import Exchanges
from replay.cli import COMMANDS
from tests.readme import PAGES, README, ROOT, TABLES, block

FLAGS = {setting.flag for setting in SETTINGS if setting.flag} | {"--help"}
VARIABLES = {name for setting in SETTINGS for name in setting.env}
CLIENTS = {"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"}
"""What clients read, and the server does not."""
PROMISES = ROOT / "tests" / "README.md"
OURS = r"ABSTRACTCORE_[A-Z_]+|(?:OPENAI|ANTHROPIC|OPENROUTER|OLLAMA|LMSTUDIO|VLLM)_[A-Z_]+"
PREDECESSOR = "## Coming from the original AbstractCore server"
FOLLOW = "## Follow one request"


@pytest.fixture(scope="module")
def readme() -> str:
    return README.read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """A section with its title, up to the next one of its rank."""
    start = text.index(title)
    end = text.find("\n## ", start + 1)
    return text[start:] if end < 0 else text[start:end]


def without(text: str, title: str) -> str:
    return text.replace(section(text, title), "")


def route_exists(path: str) -> bool:
    """Whether a path of the README, its variable parts named or filled in, is one of the routes."""
    return any(re.fullmatch(pattern(route.path), path.split("?")[0]) for route in ROUTES)


def pattern(path: str) -> str:
    """The paths that a route takes: a variable part is one segment, or any number where its own pattern says so."""
    parts = re.split(r"(\{[^}]*\})", path)
    return "".join((".+" if ":" in p else "[^/]+") if p.startswith("{") else re.escape(p) for p in parts)


def unknown(text: str, folder: Path = ROOT) -> Iterator[str]:
    """What a text mentions that the code does not have. Its paths are the project's, or those of its folder."""
    for name in sorted(set(re.findall(rf"\b(?:{OURS})\b", text)) - VARIABLES - CLIENTS):
        yield f"variable {name}"
    for line in re.findall(r"abstractcore-server ([^`\n|]*)", text):
        for flag in sorted(set(re.findall(r"(?<!\S)--[a-z-]+", line)) - FLAGS):
            yield f"flag {flag}"
    for name in re.findall(r"(?:abstractcore-replay|python -m replay) +([a-z]+)", text):
        if name not in COMMANDS:
            yield f"subcommand {name}"
    for path in re.findall(r"(?:localhost:\d+|`(?:GET |POST |DELETE )?)(/v1(?:/[\w{}.:+-]*)*)", text):
        if path != "/v1" and not route_exists(path):
            yield f"route {path}"
    for name in re.findall(r"`([a-z]+_[a-z_]+ed)`", text):
        if name not in REGISTRY:
            yield f"event {name}"
    for name in re.findall(r"abstractcore\.events\.([a-z_]+ed)\b", text):
        if name not in REGISTRY:
            yield f"event {name}"
    for path in re.findall(r"`((?:eventstore|projections|gateway|replay|tests)/[\w/.-]*)`", text):
        if not (ROOT / path).exists() and not (folder / path).exists():
            yield f"file {path}"


def broken_links(page: Path) -> Iterator[str]:
    """Links of a page to files, and to headings of pages, that are not there."""
    for file, heading in links(page):
        target = page.parent / file if file else page
        if not target.exists() or (heading and heading not in headings(target)):
            yield f"{file}#{heading}"


def links(page: Path) -> list[tuple[str, str]]:
    """The files that a page links to, empty for itself, and the headings there."""
    return re.findall(r"\]\(([\w/.-]*)(?:#([\w-]+))?\)", page.read_text(encoding="utf-8"))


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def missing_symbols(text: str) -> Iterator[str]:
    """Rows of "Follow one request" whose file or symbol does not exist: `| … | `file` | `symbol`, `symbol` | …`."""
    rows = re.findall(r"^\|[^|]*\| `([\w/.]+)` \| ([^|]*)\|", text, re.MULTILINE)
    if len(rows) < 6:
        yield f"{len(rows)} files instead of at least six"
    for path, symbols in rows:
        file = ROOT / path
        if not file.exists():
            yield path
            continue
        defined = names_in(file)
        yield from (f"{path} {symbol}" for symbol in re.findall(r"`(\w+)`", symbols) if symbol not in defined)


def names_in(file: Path) -> set[str]:
    """What a Python file defines, or the words of another file."""
    source = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return set(re.findall(r"\w+", source))
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def untwinned(text: str) -> Iterator[str]:
    """Promises without a bug that their test must notice: it stands behind the word `twin`, or has a third column."""
    for row in re.findall(r"^\|(.*)\|$", text, re.MULTILINE):
        promise, *rest = (cell.strip() for cell in row.split("|"))
        noticed = rest[1] if len(rest) > 1 else re.search(r"\btwins?\b", row)
        if not noticed and rest[0] not in ("---", "where it is shown"):
            yield promise


def strange_twins(text: str, known: str) -> Iterator[str]:
    """Twins that are named, and stand nowhere in the tests."""
    for row in re.findall(r"\btwins?\b(.*)", text):
        for name in re.findall(r"`(\w+)(?:\.py)?`", row):
            if not re.search(rf"\b{name}\b", known):
                yield name


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_what_the_code_says(name: str) -> None:
    page, made = TABLES[name]
    assert block(page.read_text(encoding="utf-8"), name) == made(), "run: python -m tests.readme"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.parent.relative_to(ROOT)))
def test_what_a_page_mentions_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert list(unknown(without(text, PREDECESSOR) if page == README else text, page.parent)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.parent.relative_to(ROOT)))
def test_where_a_page_links_to_exists(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_every_page_can_be_reached_from_the_first() -> None:
    reached, ahead = set[Path](), [README]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        ahead += {(page.parent / file).resolve() for file, _ in links(page) if file.endswith("README.md")} - reached
    assert set(PAGES) - reached == set()


def test_each_promise_has_a_twin_and_each_twin_is_there() -> None:
    text = PROMISES.read_text(encoding="utf-8")
    assert list(untwinned(text)) == []
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    known = "\n".join(f"{path.stem} {path.read_text(encoding='utf-8')}" for path in tests)
    assert list(strange_twins(text, known)) == []


def test_a_promise_without_a_twin_is_found() -> None:
    head = "| promise | where it is shown |\n| --- | --- |\n"
    assert list(untwinned(head + "| a | `x.py`; twin `B` |\n| c d | `tests/` |\n")) == ["c d"]
    assert list(untwinned("| fault | test | bug | figures |\n| a | x | y | |\n| b | x | | 3 |\n")) == ["b"]
    assert list(strange_twins("| a | `x`; twins `Gone`, `Here` (why), `gone.py` |", "class Here:")) == ["Gone", "gone"]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("# A\n## It's here, and there\n[a](#its-here-and-there) [b](#gone) [c](gone.md) [d](README.md#a)\n")
    assert list(broken_links(page)) == ["#gone", "gone.md#"]


def test_one_request_can_be_followed(readme: str) -> None:
    assert list(missing_symbols(section(readme, FOLLOW))) == []


def test_every_part_of_the_shell_is_named(readme: str) -> None:
    parts = [f"`{cls.__module__.rpartition('.')[2]}.py`" for cls in Exchanges.__mro__[:-1]]
    assert [part for part in parts if part not in section(readme, "### The way of a request")] == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("set `ABSTRACTCORE_TURBO`", "variable ABSTRACTCORE_TURBO"),
        ("run `abstractcore-server --turbo`", "flag --turbo"),
        ("run `abstractcore-replay dance`", "subcommand dance"),
        ("curl localhost:8000/v1/turbo", "route /v1/turbo"),
        ("`GET /v1/requests/{id}/turbo`", "route /v1/requests/{id}/turbo"),
        ("the event `turbo_engaged`", "event turbo_engaged"),
        ("nats sub 'abstractcore.events.turbo_engaged.>'", "event turbo_engaged"),
        ("in `gateway/turbo.py`", "file gateway/turbo.py"),
    ],
)
def test_what_does_not_exist_is_found(text: str, finding: str) -> None:
    assert finding in list(unknown(text))


@pytest.mark.parametrize(
    ("row", "finding"),
    [
        ("| 1 | `gateway/turbo.py` | `main` | x |", "gateway/turbo.py"),
        ("| 1 | `gateway/config.py` | `turbo` | x |", "gateway/config.py turbo"),
    ],
)
def test_a_file_or_symbol_that_does_not_exist_is_found(row: str, finding: str) -> None:
    assert finding in list(missing_symbols(row))


def test_a_setting_that_the_table_lacks_is_found(readme: str) -> None:
    less = "\n".join(line for line in readme.splitlines() if "`--durability`" not in line)
    assert block(less, "settings") != TABLES["settings"][1]()
