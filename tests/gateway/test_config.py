"""Every setting: its default, its flag, its variables; and no secret shown."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gateway.command_line import load, parser
from gateway.config import SETTINGS, ConfigError, LentKey, Setting, Settings
from gateway.tools.mcp_config import McpServer

MCP = str(Path(__file__).parent.parent / "tools" / "servers.json")
GOOD: dict[str, str] = {
    "host": "0.0.0.0", "port": "8123", "nats": "nats://127.0.0.1:4222", "durability": "process", "log_level": "debug",
    "backends": "one.example, TWO.example", "base_url_allowlist": "one.example, TWO.example",
    "api_key": "a-key-long-enough",
    "tool_call_tags": "<CALL>,</CALL>", "tool_modes": "lmstudio/*=prompted, vllm/x=hermes",
    "file_url_allowlist": "one.example, TWO.example", "audio": "refuse", "workers": "1",
    "provider_keys": "GROQ_API_KEY@api.groq.com", "tool_keys": "GROQ_API_KEY@api.groq.com",
    "tools": "one, two.three", "fallback": "one, two.three", "retries": "2",
    "continuation": "resume", "circuit": "refuse", "semantic_cache": "0.95", "redis_url": "redis://:pass@127.0.0.1:6379/0",
    "embedding_backend": "onnx", "endpoint_models": "audio/speech=openai/tts-1, moderations=a/b",
    "files_root": str(Path(__file__).parent),
    "mcp": MCP, "tool_url_allowlist": "one.example, TWO.example", "tool_rounds": "3",
}  # fmt: skip


MADE = {
    "data_dir", "backends", "base_url_allowlist", "file_url_allowlist", "tool_url_allowlist", "provider_keys",
    "tool_keys", "tools", "fallback", "mcp",
}  # fmt: skip
"""Settings whose values are made of what is written."""


def given(setting: Setting) -> str:
    """A value for this setting, as a user would write it."""
    if setting.kind in (bool, float) and setting.name not in GOOD:
        return {bool: "true", float: "12.5"}[setting.kind]
    return GOOD.get(setting.name, f"value-of-{setting.name}")


def meant(setting: Setting, written: str) -> Any:
    match setting.name:
        case "data_dir" | "files_root":
            return Path(written)
        case "tools" | "fallback":
            return ("one", "two.three")
        case "mcp":
            return (McpServer(name="search", url="http://127.0.0.1:9/mcp"),)
        case "backends" | "base_url_allowlist" | "file_url_allowlist" | "tool_url_allowlist":
            return frozenset({"one.example", "two.example"})
        case "provider_keys" | "tool_keys":
            return {"GROQ_API_KEY": LentKey("api.groq.com", None)}
    return True if setting.kind is bool else setting.kind(written)


def by_name(setting: Setting) -> str:
    return setting.name


BY_ENV = [(setting, name) for setting in SETTINGS for name in setting.env]


def test_the_table_and_the_settings_have_the_same_names() -> None:
    assert [setting.name for setting in SETTINGS] == [field.name for field in fields(Settings)]


def test_without_anything_the_defaults_hold() -> None:
    assert load([], {}) == Settings()
    for setting in SETTINGS:
        if setting.name not in MADE:
            assert getattr(load([], {}), setting.name) == setting.default


@pytest.mark.parametrize(("setting", "variable"), BY_ENV, ids=lambda value: getattr(value, "name", value))
def test_a_variable_sets_it(setting: Setting, variable: str) -> None:
    written = given(setting)
    assert getattr(load([], {variable: f" {written} "}), setting.name) == meant(setting, written)
    assert load([], {variable: "  "}) == Settings()


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.flag], ids=by_name)
def test_a_flag_sets_it(setting: Setting) -> None:
    assert setting.flag is not None
    argv = [setting.flag] if setting.kind is bool else [setting.flag, given(setting)]
    assert getattr(load(argv, {}), setting.name) == meant(setting, given(setting))


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.flag and s.env and s.kind is str], ids=by_name)
def test_a_flag_beats_the_environment(setting: Setting) -> None:
    assert setting.flag is not None
    environment = dict.fromkeys(setting.env, "nats://from-the-environment")
    found = getattr(load([setting.flag, given(setting)], environment), setting.name)
    assert found == meant(setting, given(setting))


def test_the_first_variable_that_is_set_counts() -> None:
    assert load([], {"OLLAMA_HOST": "one", "OLLAMA_BASE_URL": "two"}).ollama_base_url == "two"
    assert load([], {"OLLAMA_HOST": "one", "OLLAMA_BASE_URL": ""}).ollama_base_url == "one"


@pytest.mark.parametrize("written", ["1", "true", "TRUE", "yes", "on"])
def test_truth_is_written_in_many_ways(written: str) -> None:
    assert load([], {"ABSTRACTCORE_DEBUG": written}).debug
    assert not load([], {"ABSTRACTCORE_DEBUG": "off"}).debug


def test_debug_logs_all_unless_a_level_is_said() -> None:
    assert load(["--debug"], {}).log_level == "debug"
    assert load([], {"ABSTRACTCORE_DEBUG": "1"}).log_level == "debug"
    assert load(["--debug", "--log-level", "warning"], {}).log_level == "warning"
    assert load([], {}).log_level == "info"


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.env and isinstance(s.default, bool)], ids=by_name)
def test_every_switch_can_be_written_as_off(setting: Setting) -> None:
    assert getattr(load([], {setting.env[0]: "false"}), setting.name) is False


WRONG: list[tuple[list[str], dict[str, str]]] = [
    (["--port", "65536"], {}), (["--port", "-1"], {}), (["--durability", "hope"], {}), (["--log-level", "loud"], {}),
    (["--nats", "maybe"], {}), ([], {"ABSTRACTCORE_DEBUG": "perhaps"}), ([], {"ABSTRACTCORE_API_KEY": "short"}),
    (["--nats", "http://127.0.0.1:4222"], {}), (["--nats", "nats://127.0.0.1:none"], {}), (["--nats", "nats://"], {}),
    (["--nats", "nats://127.0.0.1:4222,http://127.0.0.1:4222"], {}), (["--nats", "nats://[::1"], {}),
    (["--files-root", "/no/such/folder"], {}),
    ([], {"ABSTRACTCORE_AUDIO": "transcribe"}), (["--provider-keys", "GROQ_API_KEY"], {}),
    (["--mcp", "/no/such/file"], {}), ([], {"ABSTRACTCORE_TOOL_ROUNDS": "0"}),
    ([], {"ABSTRACTCORE_TOOL_TIMEOUT": "0"}), (["--workers", "4"], {}),
    (["--provider-keys", "GROQ_API_KEY@https://api.groq.com"], {}),
    (["--provider-keys", "GROQ_API_KEY@one.example,GROQ_API_KEY@two.example"], {}),
    ([], {"ABSTRACTCORE_TOOL_KEYS": "TOKEN@one.example, TOKEN@two.example"}),
    ([], {"ABSTRACTCORE_ENDPOINT_MODELS": "chat/completions=a/b"}), ([], {"ABSTRACTCORE_ENDPOINT_MODELS": "rerank="}),
    ([], {"ABSTRACTCORE_ENDPOINT_MODELS": "rerank=a/b, rerank=a/c"}),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "environment"), WRONG, ids=str)
def test_what_cannot_be_used_is_refused_with_its_name(argv: list[str], environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        load(argv, environment)
    assert next(iter([*argv, *environment])) in str(refused.value)


def test_a_secret_has_no_flag_and_is_never_shown() -> None:
    secret = {name: f"canary-{name}" for setting in SETTINGS if setting.secret for name in setting.env}
    secret["ABSTRACTCORE_REDIS_URL"] = "redis://canary-host"
    settings = load([], secret)
    assert set(settings.secrets()) == set(secret.values())
    assert "canary" not in repr(settings)
    assert "canary" not in str(settings.redacted())
    assert all(settings.redacted()[setting.name] == "set" for setting in SETTINGS if setting.secret)
    assert not [setting.name for setting in SETTINGS if setting.secret and setting.flag]


def test_the_password_of_a_redis_is_a_secret_by_itself() -> None:
    url = "redis://user:canary%21@127.0.0.1:6379/0"
    settings = load([], {"ABSTRACTCORE_REDIS_URL": url})
    assert set(settings.secrets()) == {url, "canary%21", "canary!"}
    assert "canary" not in repr(settings) + str(settings.redacted())
    with pytest.raises(ConfigError) as refused:
        load([], {"ABSTRACTCORE_REDIS_URL": url.replace("redis:", "http:")})
    assert "canary" not in str(refused.value)


def test_a_lent_key_is_a_secret_and_its_host_is_not() -> None:
    settings = load(["--provider-keys", "GROQ_API_KEY@API.groq.com:443"], {"GROQ_API_KEY": " canary-lent "})
    assert settings.secrets() == ("canary-lent",)
    assert "canary" not in repr(settings) + str(settings.redacted())
    assert settings.redacted()["provider_keys"] == ["GROQ_API_KEY@api.groq.com:443"]


def test_every_key_is_marked_as_a_secret() -> None:
    """A key that somebody adds without the mark would be shown; so would the password in the URL of a Redis."""
    assert {setting.name for setting in SETTINGS if setting.name.endswith(("key", "redis_url"))} == {
        setting.name for setting in SETTINGS if setting.secret
    }


def test_help_names_every_flag_and_variable_that_has_one() -> None:
    text = " ".join(parser().format_help().split())
    for setting in SETTINGS:
        if setting.flag:
            assert setting.flag in text
