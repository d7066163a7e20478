"""What people are told to configure is what the tests of agents use."""

from __future__ import annotations

import json
import re
import tomllib

from tests.clients.agents import CLAUDE_CODE, OPENCODE
from tests.clients.test_codex import CONFIG
from tests.readme import CLIENTS

URL, MODEL = "http://localhost:8000", "ollama/qwen3:4b"
ALONE = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", *OPENCODE.env(URL, MODEL)}
"""What only keeps a test's traffic on this machine."""


def block(language: str, containing: str) -> str:
    """The code block that contains this."""
    blocks = re.findall(rf"```{language}\n(.*?)```", CLIENTS.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (text for text in blocks if containing in text)
    return str(found)


def test_claude_codes_environment() -> None:
    told = dict(re.findall(r"(\w+)=(\S+)", block("sh", "ANTHROPIC_BASE_URL")))
    assert told == {name: value for name, value in CLAUDE_CODE.env(URL, MODEL).items() if name not in ALONE}


def test_opencodes_file() -> None:
    told = json.loads(block("json", '"baseURL"'))
    used = OPENCODE.files(URL, MODEL)["opencode.json"]
    assert told == {name: value for name, value in used.items() if name not in ("autoupdate", "share")}


def test_what_keeps_them_on_this_machine_is_told() -> None:
    text = CLIENTS.read_text(encoding="utf-8")
    assert {name for name in ALONE if name not in text} == set()


def test_codexs_file() -> None:
    told, used = tomllib.loads(block("toml", "wire_api")), tomllib.loads(CONFIG.format(url=f"{URL}/v1"))
    assert (told["model"], told["model_provider"]) == (MODEL, used["model_provider"])
    assert told["model_providers"] == used["model_providers"]
