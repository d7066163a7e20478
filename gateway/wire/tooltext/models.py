"""Which models have tools of their own, and which words reach those that have none. Data, and how it is read.

What is known is asked in this order: the request (`tool_mode`), the server's setting, what the provider says of the
model, the tables here. Nobody says otherwise: the model has tools.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from eventstore.value import value
from gateway.errors import InvalidRequest
from gateway.wire.tooltext.formats import FORMATS, Format

NATIVE, PROMPTED, AUTO = "native", "prompted", "auto"

FAMILIES: Sequence[tuple[str, str]] = (
    ("hermes", "hermes"),
    ("qwen", "qwen3"),
    ("qwq", "qwen3"),
    ("gemma", "gemma"),
    ("mistral", "mistral"),
    ("mixtral", "mistral"),
    ("ministral", "mistral"),
    ("magistral", "mistral"),
    ("devstral", "mistral"),
    ("codestral", "mistral"),
    ("llama", "llama3"),
)
"""A word in a model's name, and the format that such models were taught. The first that fits counts."""
OTHERS = "xml"

WITHOUT_TOOLS = (
    "codellama*", "gemma:*", "gemma-2-*", "gemma-3-*", "gemma2:*", "gemma3:*", "gemma3n:*", "llama-2-*", "llama2:*",
    "llama3:*", "phi:*", "phi3:*", "tinyllama*", "vicuna*",
)  # fmt: skip
"""Models, as local servers name them, whose chat templates know no tools."""

Capabilities = Callable[[str, str], Collection[str]]
"""(provider, model) -> what the provider says the model can, empty where it says nothing."""


@value
class Rule:
    """A row of the setting: `pattern` over provider/model, and `native`, `prompted`, or a format's name."""

    pattern: str
    mode: str


def _unsaid(provider: str, model: str) -> Collection[str]:
    return ()


@value
class Choice:
    """How a model is told of tools. `format` None: natively. `by` says what decided: request, setting, provider, table,
    default, or a field of the request that its API cannot carry."""

    format: Format | None
    by: str

    def said(self) -> Mapping[str, str]:
        """For the record."""
        if self.format is None:
            return {"tools": NATIVE, "tools_by": self.by}
        return {"tools": PROMPTED, "tool_format": self.format.name, "tools_by": self.by}

    def instead(self, param: str, model: str) -> Choice | None:
        """How it is told where its API cannot carry this field; None where it must be told natively all the same."""
        return None if self.by in ("request", "setting") else Choice(format_of(model), param)


def rules_of(said: str) -> tuple[Rule, ...]:
    """The rules of a setting such as `lmstudio/*=prompted, ollama/gemma3*=gemma`. Raises `ValueError`."""
    rules = []
    for row in filter(None, (row.strip() for row in said.split(","))):
        pattern, equals, mode = (part.strip() for part in row.rpartition("="))
        if not equals or "/" not in pattern or mode not in {NATIVE, PROMPTED, *FORMATS}:
            raise ValueError(f"{row!r} is not provider/model=mode")
        rules.append(Rule(pattern.lower(), mode))
    return tuple(rules)


@value
class ToolModes:
    """What this server knows of models' tools."""

    rules: tuple[Rule, ...] = ()
    capabilities: Capabilities = _unsaid

    def choose(self, asked: Any, provider: str, model: str, local: bool) -> Choice:
        """How this model is told of tools. `asked` is the request's `tool_mode`; `local` models are looked up by name.

        Raises `InvalidRequest` where `asked` is no mode.
        """
        if asked not in (None, AUTO):
            if asked not in (NATIVE, PROMPTED):
                raise InvalidRequest("tool_mode must be native, prompted or auto.", param="tool_mode")
            return _choice(asked, model, "request")
        name = f"{provider}/{model}".lower()
        for rule in self.rules:
            if fnmatchcase(name, rule.pattern):
                return _choice(rule.mode, model, "setting")
        if said := self.capabilities(provider, model):
            return _choice(NATIVE if "tools" in said else PROMPTED, model, "provider")
        if local and any(fnmatchcase(_short(model), pattern) for pattern in WITHOUT_TOOLS):
            return _choice(PROMPTED, model, "table")
        return Choice(None, "default")


def _choice(mode: str, model: str, by: str) -> Choice:
    if mode == NATIVE:
        return Choice(None, by)
    return Choice(FORMATS.get(mode) or format_of(model), by)


def format_of(model: str) -> Format:
    """The words that a model was taught, as far as its name tells."""
    name = model.lower()
    return FORMATS[next((format for word, format in FAMILIES if word in name), OTHERS)]


def _short(model: str) -> str:
    """A model's name without its owner, as in `google/gemma-3-4b`."""
    return model.lower().rpartition("/")[2]
