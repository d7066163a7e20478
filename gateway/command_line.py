"""The settings that a command line and an environment give. No other file reads the environment.

A flag beats the environment, the environment beats the default.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.config import SETTINGS, ConfigError, LentKey, Setting, Settings
from gateway.errors import InvalidRequest
from gateway.nats_urls import are_nats_urls
from gateway.tools.mcp_config import McpServer, parse
from gateway.wire.dialects import models_of_endpoints
from gateway.wire.tooltext.models import rules_of
from gateway.wire.tooltext.rewrite import tags_of


def parser() -> argparse.ArgumentParser:
    """The command line, made from the table."""
    made = argparse.ArgumentParser(
        prog="abstractcore-server",
        description="One server in front of every LLM, with an append-only log at its centre.",
    )
    for setting in SETTINGS:
        if setting.flag is None:
            continue
        also = f" [{', '.join(setting.env)}]" if setting.env else ""
        if setting.kind is bool:
            made.add_argument(
                setting.flag, dest=setting.name, action="store_true", default=None, help=setting.help + also
            )
        else:
            made.add_argument(
                setting.flag, dest=setting.name, type=setting.kind, default=None, metavar=setting.name.upper(),
                help=f"{setting.help} (default: {setting.default}){also}",
            )  # fmt: skip
    return made


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings from a command line and an environment. Raises `ConfigError`."""
    flags = vars(parser().parse_args(argv))
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        value = flags.get(setting.name)
        if value is None:
            given = next((environ[name] for name in setting.env if environ.get(name, "").strip()), None)
            value = setting.default if given is None else _convert(setting, given.strip())
        values[setting.name] = value
    if values["debug"] and flags["log_level"] is None:
        values["log_level"] = "debug"
    values["data_dir"] = Path(values["data_dir"])
    values["files_root"] = Path(values["files_root"]) if values["files_root"] else None
    for names in ("backends", "base_url_allowlist", "file_url_allowlist", "tool_url_allowlist"):
        values[names] = frozenset(name.strip().lower() for name in values[names].split(",") if name.strip())
    values["provider_keys"] = _lent_keys("--provider-keys", values["provider_keys"], environ)
    values["tool_keys"] = _lent_keys("ABSTRACTCORE_TOOL_KEYS", values["tool_keys"], environ)
    for names in ("fallback", "tools"):
        values[names] = tuple(name.strip() for name in values[names].split(",") if name.strip())
    values["mcp"] = _mcp_servers(values["mcp"], environ)
    _check(values)
    assert {f.name for f in fields(Settings)} == set(values)
    return Settings(**values)


def _convert(setting: Setting, given: str) -> Any:
    if setting.kind is bool:
        if given.lower() in {"1", "true", "yes", "on"}:
            return True
        if given.lower() in {"0", "false", "no", "off"}:
            return False
        raise ConfigError(f"{setting.env[0]} must be true or false")
    try:
        return setting.kind(given)
    except ValueError as e:
        raise ConfigError(f"{setting.env[0]} must be a {setting.kind.__name__}") from e


def _mcp_servers(path: str | None, environ: Mapping[str, str]) -> tuple[McpServer, ...]:
    if not path:
        return ()
    try:
        return parse(Path(path).read_bytes(), environ)
    except (OSError, ValueError) as e:
        raise ConfigError(f"--mcp: {path} cannot be used: {e}") from e


def _lent_keys(setting: str, rows: str, environ: Mapping[str, str]) -> dict[str, LentKey]:
    lent: dict[str, LentKey] = {}
    for row in filter(None, (row.strip() for row in rows.split(","))):
        name, at, host = row.partition("@")
        if not at or not name or not host or "/" in host or name in lent:
            raise ConfigError(f"{setting} must be rows such as GROQ_API_KEY@api.groq.com, comma separated, none twice")
        lent[name] = LentKey(host.lower(), environ.get(name, "").strip() or None)
    return lent


def _check(values: dict[str, Any]) -> None:
    """What no row of the table says alone. Raises `ConfigError`."""
    for setting in SETTINGS:
        setting.check(values[setting.name])
    if values["workers"] != 1:
        raise ConfigError(
            "--workers must be 1: one process writes one log, and serves thousands of streams. For more, start another "
            "server with a --port and a --data-dir of its own"
        )
    if values["nats"] not in {"embedded", "off"} and not are_nats_urls(values["nats"]):
        raise ConfigError("--nats must be embedded, off or a URL such as nats://127.0.0.1:4222")
    if values["files_root"] is not None and not values["files_root"].is_dir():
        raise ConfigError(f"--files-root: there is no folder {values['files_root']}")
    if not values["cache_max_age_s"] >= 0:
        raise ConfigError("ABSTRACTCORE_CACHE_MAX_AGE must be a number of seconds")
    if values["audio"] == "transcribe" and not values["transcribe_model"]:
        raise ConfigError("ABSTRACTCORE_AUDIO=transcribe needs ABSTRACTCORE_TRANSCRIBE_MODEL, such as openai/whisper-1")
    if values["api_key"] is not None and len(values["api_key"]) < 8:
        raise ConfigError("ABSTRACTCORE_API_KEY must have at least 8 characters")
    try:
        models_of_endpoints(values["endpoint_models"] or "")
    except ValueError as e:
        raise ConfigError(f"ABSTRACTCORE_ENDPOINT_MODELS: {e}") from e
    _check_redis(values["redis_url"])
    _check_tools(values)


def _check_redis(url: str | None) -> None:
    """Its errors never quote the URL: it can hold a password."""
    if url is None:
        return
    try:
        split = urlsplit(url)
        good = split.scheme in {"redis", "rediss"} and bool(split.hostname) and split.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError("ABSTRACTCORE_REDIS_URL must be a URL such as redis://127.0.0.1:6379/0 (or rediss://)")
    if find_spec("redis") is None:
        raise ConfigError("ABSTRACTCORE_REDIS_URL needs the redis package: pip install 'abstractcore-server[redis]'")


def _check_tools(values: dict[str, Any]) -> None:
    if not 0 < values["tool_timeout_s"] <= 3600:
        raise ConfigError("ABSTRACTCORE_TOOL_TIMEOUT must lie between 0 and 3600 seconds")
    try:
        rules_of(values["tool_modes"] or "")
    except ValueError as e:
        raise ConfigError(f"ABSTRACTCORE_TOOL_MODES: {e}") from e
    try:
        tags_of(values["tool_call_tags"])
    except InvalidRequest as e:
        raise ConfigError(f"ABSTRACTCORE_DEFAULT_TOOL_CALL_TAGS: {e}") from e
