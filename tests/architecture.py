"""Reads the code as a tree and says where it breaks the rules of the architecture. Used by test_architecture.py.

    eventstore  <-  projections  <-  gateway  <-  replay

Storage knows no catalogue, pure files know no world, one file reads the environment, and what distinguishes providers
lies in `gateway/upstreams/`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LAYERS = ("eventstore", "projections", "gateway", "replay")
"""Each may import itself and those before it."""

TOP_LEVEL = frozenset(
    {"pyproject.toml", "README.md", "gateway", "projections", "eventstore", "tests", "replay", "logs"}
)
GENERATED = frozenset({"build", "dist", "node_modules", "__pycache__"})

PURE = (
    "eventstore/archive_block.py",
    "eventstore/archive_events.py",
    "eventstore/archive_format.py",
    "eventstore/archive_format_1.py",
    "eventstore/archive_frames.py",
    "eventstore/columns.py",
    "eventstore/envelope.py",
    "eventstore/errors.py",
    "eventstore/frames.py",
    "eventstore/log.py",
    "eventstore/parts.py",
    "eventstore/repair.py",
    "eventstore/verify.py",
    "eventstore/catalogue/",
    "projections/feed.py",
    "gateway/errors.py",
    "gateway/wire/",
    "gateway/routing/",
    "gateway/exchange/alike.py",
    "gateway/exchange/capped.py",
    "gateway/exchange/copied.py",
    "gateway/exchange/claims.py",
    "gateway/exchange/shared.py",
    "gateway/exchange/inputs.py",
    "gateway/exchange/state.py",
    "gateway/exchange/decide.py",
    "gateway/exchange/decide_attempt.py",
    "gateway/exchange/decide_hedge.py",
    "gateway/exchange/estimate.py",
    "gateway/exchange/continuation.py",
    "gateway/exchange/plan.py",
    "gateway/exchange/policy.py",
    "gateway/exchange/resilience.py",
    "gateway/exchange/failures.py",
    "gateway/exchange/ids.py",
    "gateway/exchange/tokens.py",
    "gateway/exchange/render.py",
    "gateway/exchange/runs.py",
    "gateway/exchange/submit.py",
    "gateway/follower/stuck.py",
    "gateway/multi/",
    "gateway/sessions/errors.py",
    "gateway/sessions/fitting.py",
    "gateway/sessions/said.py",
    "gateway/sessions/state.py",
    "gateway/sessions/turn.py",
    "gateway/tools/loop.py",
    "gateway/tools/mcp_config.py",
    "gateway/tools/values.py",
    "gateway/upstreams/http1_request.py",
    "gateway/upstreams/local/request.py",
    "gateway/upstreams/local/text.py",
    "gateway/media/addresses.py",
    "gateway/media/kinds.py",
    "gateway/media/parts.py",
    "gateway/prices/cost.py",
    "gateway/prices/rules.py",
    "gateway/prices/table.py",
)
WORLD = frozenset(
    {
        "aiohttp", "aiosqlite", "asyncio", "httpx", "io", "logging", "nats", "os", "pathlib", "random", "secrets",
        "select", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "uuid",
    }
)  # fmt: skip
"""Modules that reach the disk, the network, the clock, chance, threads or the process."""
WORLD_CALLS = frozenset({"open", "print", "input", "now", "utcnow", "today"})

ENVIRONMENT = frozenset({"environ", "getenv", "environb"})
ENTRY_POINTS = frozenset({"gateway/command_line.py", "gateway/__main__.py", "replay/__main__.py"})
"""command_line.py reads the environment; an entry point hands it over as an argument."""

PROVIDERS = frozenset(
    {
        "openai",
        "anthropic",
        "openrouter",
        "ollama",
        "lmstudio",
        "vllm",
        "openai-compatible",
        "mlx",
        "huggingface",
        "demo",
    }
)
PROVIDER_FILES = "gateway/upstreams/"


@dataclass(frozen=True)
class Source:
    """One module: its path from the root with `/`, and its tree."""

    path: str
    tree: ast.Module

    @property
    def layer(self) -> str:
        return self.path.split("/", 1)[0]

    def imports(self) -> Iterator[tuple[int, str]]:
        """(line, module) of every import anywhere in the file, relative ones made absolute."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                module = self._absolute(node)
                yield node.lineno, module
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.path.split("/")[: -node.level]
        return ".".join([*package, *([node.module] if node.module else [])])


def sources(root: Path) -> list[Source]:
    """Every module of the four packages under `root`."""
    return [
        Source(path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for layer in LAYERS
        for path in sorted((root / layer).rglob("*.py"))
    ]


def against_the_arrow(source: Source) -> Iterator[str]:
    """Imports of a later layer, or of the tests."""
    later = {*LAYERS[LAYERS.index(source.layer) + 1 :], "tests"}
    for line, module in source.imports():
        if module.split(".")[0] in later:
            yield f"{source.path}:{line} imports {module}, which lies behind it"


def storage_knows_the_catalogue(source: Source) -> Iterator[str]:
    """Storage files that import the catalogue."""
    if source.layer == "eventstore" and not source.path.startswith("eventstore/catalogue/"):
        for line, module in source.imports():
            if module.startswith("eventstore.catalogue"):
                yield f"{source.path}:{line} is storage and imports {module}"


def impure(source: Source) -> Iterator[str]:
    """Pure files that reach the world: by an import, or by a call that needs none."""
    if not source.path.startswith(PURE):
        return
    for line, module in source.imports():
        if module.split(".")[0] in WORLD or module.split(".")[0] == "projections" != source.layer:
            yield f"{source.path}:{line} is pure and imports {module}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", None))
            if name in WORLD_CALLS:
                yield f"{source.path}:{node.lineno} is pure and calls {name}"


def pure_by_word_alone(source: Source) -> Iterator[str]:
    """Files that call themselves pure, and are not held to it."""
    if "Pure." in (ast.get_docstring(source.tree) or "") and not source.path.startswith(PURE):
        yield f"{source.path}:1 says that it is pure, and is not on the list"


def environment_reads(source: Source) -> Iterator[str]:
    """Uses of the environment outside the one file for it and the entry points."""
    if source.path in ENTRY_POINTS:
        return
    for line, module in source.imports():
        if module.startswith("os.") and module.removeprefix("os.") in ENVIRONMENT:
            yield f"{source.path}:{line} reads the environment"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT and getattr(node.value, "id", "") == "os":
            yield f"{source.path}:{node.lineno} reads the environment"


def provider_names_as_control_flow(source: Source) -> Iterator[str]:
    """Comparisons with a provider's name outside the providers' own files."""
    if source.path.startswith(PROVIDER_FILES):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Compare | ast.MatchValue):
            named = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            for name in sorted(named & PROVIDERS):
                yield f"{source.path}:{node.lineno} compares with the provider {name}"


RULES = (
    against_the_arrow,
    storage_knows_the_catalogue,
    impure,
    pure_by_word_alone,
    environment_reads,
    provider_names_as_control_flow,
)


def findings(root: Path) -> list[str]:
    """Everything that breaks a rule, as `file:line what`."""
    return [finding for source in sources(root) for rule in RULES for finding in rule(source)]


def strangers(root: Path) -> set[str]:
    """Names at the top that should not be there, and those that should be and are not."""
    there = {
        path.name
        for path in root.iterdir()
        if not path.name.startswith(".") and path.name not in GENERATED and not path.name.endswith(".egg-info")
    }
    return there ^ TOP_LEVEL
