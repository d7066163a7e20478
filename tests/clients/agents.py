"""Agents of the command line: the configuration that points each at the server, as the README gives it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROMPT = "Read word.txt and write what it says to copy.txt."


@dataclass(frozen=True)
class Agent:
    """How one is started (`command` after its name) and told of the server's URL and a model; its tools for files.

    `files`: name -> value, to be written as JSON where it works, or at home (`~/`). `reads` and `writes`: a call of its
    tool, name and arguments. `says`: its last words, from what it printed."""

    name: str
    command: Sequence[str]
    env: Callable[[str, str], Mapping[str, str]]
    files: Callable[[str, str], Mapping[str, Any]]
    reads: Callable[[Path], tuple[str, Any]]
    writes: Callable[[Path, str], tuple[str, Any]]
    says: Callable[[str], str]


def said_by_claude(stdout: str) -> str:
    """Its last line is the result."""
    result: str = json.loads(stdout.splitlines()[-1])["result"]
    return result


def said_by_opencode(stdout: str) -> str:
    return "".join(event["part"]["text"] for event in map(json.loads, stdout.splitlines()) if event["type"] == "text")


CLAUDE_CODE = Agent(
    "claude",
    ["-p", PROMPT, "--output-format", "stream-json", "--verbose", "--allowedTools", "Read,Write"],
    env=lambda url, model: {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": "not-needed",
        "ANTHROPIC_MODEL": model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    },
    files=lambda _url, _model: {},
    reads=lambda path: ("Read", {"file_path": str(path)}),
    writes=lambda path, text: ("Write", {"file_path": str(path), "content": text}),
    says=said_by_claude,
)
OPENCODE = Agent(
    "opencode",
    ["run", "--format", "json", PROMPT],
    env=lambda _url, _model: {
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
        "NPM_CONFIG_OFFLINE": "true",
    },
    files=lambda url, model: {
        "opencode.json": {
            "autoupdate": False,
            "share": "disabled",
            "model": f"gateway/{model}",
            "small_model": f"gateway/{model}",
            "provider": {
                "gateway": {
                    "npm": "@ai-sdk/openai-compatible",
                    "options": {"baseURL": f"{url}/v1", "apiKey": "not-needed"},
                    "models": {model: {"tool_call": True}},
                }
            },
        }
    },
    reads=lambda path: ("read", {"filePath": str(path)}),
    writes=lambda path, text: ("write", {"filePath": str(path), "content": text}),
    says=said_by_opencode,
)

GEMINI = Agent(
    "gemini",
    ["-p", PROMPT, "--approval-mode", "yolo", "--skip-trust", "--output-format", "json"],
    env=lambda url, model: {
        "GOOGLE_GEMINI_BASE_URL": url,
        "GEMINI_API_KEY": "not-needed",
        "GEMINI_MODEL": model,
    },
    files=lambda _url, _model: {
        "~/.gemini/settings.json": {
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "privacy": {"usageStatisticsEnabled": False},
            "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        }
    },
    reads=lambda path: ("read_file", {"file_path": str(path)}),
    writes=lambda path, text: ("write_file", {"file_path": str(path), "content": text}),
    says=lambda stdout: str(json.loads(stdout)["response"]),
)

AGENTS = (CLAUDE_CODE, OPENCODE, GEMINI)
