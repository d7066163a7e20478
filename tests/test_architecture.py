"""The rules of the architecture hold, and the check of each rule sees a module that breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture import PURE, TOP_LEVEL, findings, strangers

ROOT = Path(__file__).parent.parent

PLANTED = [
    ("eventstore/sqlite.py", "import projections.usage", "lies behind"),
    ("eventstore/sqlite.py", "def f():\n    from gateway.config import SETTINGS", "lies behind"),
    ("projections/usage.py", "from gateway import config", "lies behind"),
    ("gateway/app.py", "from replay.show import run", "lies behind"),
    ("gateway/app.py", "import tests.gateway", "lies behind"),
    ("eventstore/sqlite.py", "from eventstore.catalogue import decode", "is storage"),
    ("eventstore/sqlite.py", "from eventstore import catalogue", "is storage"),
    ("eventstore/sqlite.py", "from .catalogue.request import TERMINAL", "is storage"),
    ("gateway/wire/sse.py", "import aiohttp", "is pure and imports aiohttp"),
    ("gateway/wire/sse.py", "from time import monotonic", "is pure and imports time"),
    ("gateway/exchange/decide.py", "import random", "is pure and imports random"),
    ("gateway/exchange/decide.py", "from projections.usage import rows", "is pure and imports projections"),
    ("gateway/exchange/render.py", "from datetime import datetime\nx = datetime.now()", "is pure and calls now"),
    ("gateway/routing/choose.py", "x = open('a')", "is pure and calls open"),
    ("eventstore/catalogue/request.py", "import sqlite3", "is pure and imports sqlite3"),
    ("gateway/auth.py", '"""Who is calling. Pure."""', "is not on the list"),
    ("gateway/auth.py", "import os\nkey = os.environ['KEY']", "reads the environment"),
    ("gateway/auth.py", "from os import getenv\nkey = getenv('KEY')", "reads the environment"),
    ("gateway/app.py", "def f(p):\n    if p == 'ollama':\n        return 1", "compares with the provider ollama"),
    ("gateway/app.py", "def f(p):\n    return p.name in {'vllm', 'x'}", "compares with the provider vllm"),
    ("gateway/app.py", "def f(p):\n    match p:\n        case 'openai':\n            return 1", "provider openai"),
]


def test_the_code_keeps_the_rules() -> None:
    assert findings(ROOT) == []


def test_nothing_else_lies_at_the_top() -> None:
    assert strangers(ROOT) == set()


def test_every_pure_path_is_there() -> None:
    """A renamed file must not fall out of the check."""
    assert [path for path in PURE if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("path", "code", "finding"), PLANTED)
def test_a_module_that_breaks_a_rule_is_found(tmp_path: Path, path: str, code: str, finding: str) -> None:
    planted = tmp_path / path
    planted.parent.mkdir(parents=True)
    planted.write_text(code)
    assert any(found.startswith(f"{path}:") and finding in found for found in findings(tmp_path))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("gateway/command_line.py", "import os\nx = os.environ"),
        ("gateway/upstreams/registry.py", "def f(p):\n    return p == 'ollama'"),
        ("gateway/exchange/run.py", "import asyncio"),
        ("gateway/wire/sse.py", "from datetime import time\nfrom collections.abc import AsyncIterator"),
        ("replay/show.py", "from gateway.config import load\nfrom eventstore.catalogue import decode"),
    ],
)
def test_what_is_allowed_is_not_found(tmp_path: Path, path: str, code: str) -> None:
    planted = tmp_path / path
    planted.parent.mkdir(parents=True)
    planted.write_text(code)
    assert findings(tmp_path) == []


def test_a_stranger_and_a_missing_name_at_the_top_are_found(tmp_path: Path) -> None:
    for name in TOP_LEVEL - {"README.md"}:
        (tmp_path / name).mkdir()
    (tmp_path / "utils").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "build").mkdir()
    assert strangers(tmp_path) == {"utils", "README.md"}
