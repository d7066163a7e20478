"""Every setting there is: one table, and the one frozen object that `gateway.command_line` reads once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gateway.exchange.policy import CONTINUATIONS, MOST_RETRIES
from gateway.tools.mcp_config import McpServer

DAY_S = 86_400


class ConfigError(Exception):
    """A setting that cannot be used; the message names it and says what would do."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table. `secret` ones are never printed, recorded or put on a command line. `choices`: the words that
    it may be; `within`: the least and the most."""

    name: str
    default: Any
    help: str
    flag: str | None = None
    env: tuple[str, ...] = ()
    kind: type = str
    secret: bool = False
    choices: tuple[str, ...] = ()
    within: tuple[float, float] | None = None

    @property
    def shown(self) -> str:
        """How whoever sets it knows it."""
        return self.flag or self.env[0]

    def check(self, value: Any) -> None:
        """Raises `ConfigError`."""
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.shown} must be {', '.join(self.choices[:-1])} or {self.choices[-1]}")
        if self.within is not None and not self.within[0] <= value <= self.within[1]:
            unit = " seconds" if self.name.endswith("_s") else ""
            raise ConfigError(f"{self.shown} must lie between {self.within[0]} and {self.within[1]}{unit}")


SETTINGS: tuple[Setting, ...] = (
    Setting("host", "127.0.0.1", "address to listen on; any but loopback demands an API key", "--host"),
    Setting("port", 8000, "port to listen on; 0 takes a free one", "--port", kind=int, within=(0, 65535)),
    Setting("data_dir", "logs", "where the log and everything made from it lives", "--data-dir",
            ("ABSTRACTCORE_DATA_DIR",)),
    Setting("nats", "embedded", "embedded, off, or the URL of a NATS server with JetStream", "--nats",
            ("ABSTRACTCORE_NATS_URL",)),
    Setting("provider", None, "provider of a model named without one", "--provider",
            ("ABSTRACTCORE_DEFAULT_PROVIDER",)),
    Setting("model", None, "model of a request that names none", "--model", ("ABSTRACTCORE_DEFAULT_MODEL",)),
    Setting("endpoint_models", None, "models of requests that name none, at endpoints that are no chat: rows such as "
            "audio/speech=openai/tts-1, comma separated", env=("ABSTRACTCORE_ENDPOINT_MODELS",)),
    Setting("debug", False, "add field errors to error answers, and log each request (--log-level debug)", "--debug",
            ("ABSTRACTCORE_DEBUG",), bool),
    Setting("log_level", "info", "debug, info, warning or error, for standard error", "--log-level",
            choices=("debug", "info", "warning", "error")),
    Setting("workers", 1, "processes that serve; more than one is refused, as one process writes one log", "--workers",
            kind=int),
    Setting("reload", False, "start again whenever a source file changes, for work on the server itself", "--reload",
            kind=bool),
    Setting("config", None, "TOML file of virtual models, read again when it changes", "--config",
            ("ABSTRACTCORE_CONFIG",), Path),
    Setting("durability", "power", "power: an event survives a power cut; process: it survives a crash of the server",
            "--durability", choices=("power", "process")),
    Setting("first_byte_timeout_s", 120.0, "seconds a provider may take to begin a stream (a whole answer: five times)",
            "--first-byte-timeout", kind=float, within=(0, DAY_S)),
    Setting("idle_timeout_s", 60.0, "seconds a provider may be silent within an answer", "--idle-timeout", kind=float,
            within=(0, DAY_S)),
    Setting("total_timeout_s", 3600.0, "seconds an answer may take", "--total-timeout", kind=float, within=(0, DAY_S)),
    Setting("retries", 0, "how often a call that failed before its client saw anything is made again, unless a request "
            "says otherwise (retries)", "--retries", ("ABSTRACTCORE_RETRIES",), int,
            within=(0, MOST_RETRIES)),
    Setting("fallback", "", "models that take a request whose call failed so, comma separated, in order, unless it "
            "names its own (fallback)", "--fallback", ("ABSTRACTCORE_FALLBACK",)),
    Setting("continuation", "error", "what becomes of an answer that breaks off after its client saw some of it, if no "
            "request says otherwise (continuation): error, or resume (another attempt goes on with it)",
            "--continuation", ("ABSTRACTCORE_CONTINUATION",), choices=CONTINUATIONS),
    Setting("circuit", "fallback", "what becomes of requests to a provider that failed on and on: fallback (to their "
            "next model, where they have one), refuse (also those that have none), off", "--circuit",
            ("ABSTRACTCORE_CIRCUIT",), choices=("fallback", "refuse", "off")),
    Setting("circuit_cool_down_s", 10.0, "seconds until such a provider is tried again; twice as many each time",
            "--circuit-cool-down", kind=float, within=(0, DAY_S)),
    Setting("drain_timeout_s", 30.0, "seconds that running answers get to finish when the server ends",
            "--drain-timeout", kind=float, within=(0, DAY_S)),
    Setting("allow_unauthenticated", False, "serve a non-loopback address without an API key",
            "--allow-unauthenticated", kind=bool),
    Setting("api_key", None, "the key that clients must present", env=("ABSTRACTCORE_API_KEY",), secret=True),
    Setting("tool_call_tags", None, "how chat answers write tool calls into their text: qwen3, llama3, xml, gemma, or "
            "START,END (unless set, they do not; a request's agent_format wins)",
            env=("ABSTRACTCORE_DEFAULT_TOOL_CALL_TAGS",)),
    Setting("tool_modes", None, "models that are told of tools natively or in their prompt: rows such as "
            "lmstudio/*=prompted, comma separated (native, prompted, or a format's name)",
            env=("ABSTRACTCORE_TOOL_MODES",)),
    Setting("tools", "", "modules whose functions are tools, comma separated", "--tools", ("ABSTRACTCORE_TOOLS",)),
    Setting("mcp", None, "JSON file that names MCP servers, whose tools are offered: {\"mcpServers\": {...}}", "--mcp",
            ("ABSTRACTCORE_MCP",)),
    Setting("tool_url_allowlist", "", "hosts (host or host:port), comma separated, that tools may be registered for",
            env=("ABSTRACTCORE_TOOL_URL_ALLOWLIST",)),
    Setting("tool_keys", "", "secrets that registered tools may use in headers, comma separated: the name of an "
            "environment variable, and the host that its value may be sent to, as in WEATHER_TOKEN@tools.example",
            env=("ABSTRACTCORE_TOOL_KEYS",)),
    Setting("execute_tools", False, "run the tools that models call, where the server has them, unless a request says "
            "otherwise (execute_tools)", env=("ABSTRACTCORE_DEFAULT_EXECUTE_TOOLS",), kind=bool),
    Setting("tool_timeout_s", 60.0, "seconds a tool may take", env=("ABSTRACTCORE_TOOL_TIMEOUT",), kind=float),
    Setting("tool_rounds", 10, "how often one request's model may call tools that the server runs",
            env=("ABSTRACTCORE_TOOL_ROUNDS",), kind=int, within=(1, 100)),
    Setting("allow_unsafe_unload_after", False, "let requests unload models of an Ollama that others may use too",
            env=("ABSTRACTCORE_ALLOW_UNSAFE_UNLOAD_AFTER",), kind=bool),
    Setting("models_root", None, "directory whose subdirectories can be named as models of huggingface and mlx",
            env=("ABSTRACTCORE_MODELS_ROOT",), kind=Path),
    Setting("embedding_backend", "torch", "what makes the vectors of huggingface's embedding models: torch, or onnx "
            "where the extra onnx is installed", env=("ABSTRACTCORE_EMBEDDING_BACKEND",), choices=("torch", "onnx")),
    Setting("embedding_model", "sentence-transformers/all-MiniLM-L6-v2", "huggingface's model by which the server "
            "itself compares texts", env=("ABSTRACTCORE_EMBEDDING_MODEL",)),
    Setting("backends", "", "local backends to load, comma separated: entry points of installed packages",
            "--backends", ("ABSTRACTCORE_BACKENDS",)),
    Setting("base_url_allowlist", "", "hosts that a request's base_url may name, comma separated",
            env=("ABSTRACTCORE_BASE_URL_ALLOWLIST",)),
    Setting("provider_keys", "", "keys that providers configured at run time may use, comma separated: the name of an "
            "environment variable, and the host that its value may be sent to, as in GROQ_API_KEY@api.groq.com",
            "--provider-keys", ("ABSTRACTCORE_PROVIDER_KEYS",)),
    Setting("files_root", None, "folder whose files requests may name by path or @name (unless set, no local file)",
            "--files-root", ("ABSTRACTCORE_FILES_ROOT",)),
    Setting("file_url_allowlist", "", "hosts (host or host:port), comma separated, that files may be fetched from "
            "though they are not on the public internet", env=("ABSTRACTCORE_FILE_URL_ALLOWLIST",)),
    Setting("cache", False, "give requests the answers that the same requests got before, unless they say otherwise "
            "(x-abstractcore-cache)", "--cache", ("ABSTRACTCORE_CACHE",), kind=bool),
    Setting("cache_max_age_s", 86_400.0, "seconds for which an answer is given again",
            env=("ABSTRACTCORE_CACHE_MAX_AGE",), kind=float),
    Setting("semantic_cache", 0.0, "how alike a question must be to an earlier one to get its answer from the cache, "
            "as a cosine such as 0.95; 0: it must be the same", "--semantic-cache", ("ABSTRACTCORE_SEMANTIC_CACHE",),
            float, within=(0, 1)),
    Setting("redis_url", None, "a Redis, such as redis://:password@host:6379/0, by which gateways with the same API "
            "key and settings share answers (needs the extra redis)", env=("ABSTRACTCORE_REDIS_URL",), secret=True),
    Setting("audio", "native", "audio in chat: native (providers that hear get it), transcribe (they get its text) or "
            "refuse", env=("ABSTRACTCORE_AUDIO",), choices=("native", "transcribe", "refuse")),
    Setting("transcribe_model", None, "the model that audio in chat is transcribed by, such as openai/whisper-1",
            env=("ABSTRACTCORE_TRANSCRIBE_MODEL",)),
    Setting("openai_api_key", None, "key for openai", env=("OPENAI_API_KEY",), secret=True),
    Setting("openai_base_url", "https://api.openai.com/v1", "where openai is", env=("OPENAI_BASE_URL",)),
    Setting("anthropic_api_key", None, "key for anthropic", env=("ANTHROPIC_API_KEY",), secret=True),
    Setting("anthropic_base_url", "https://api.anthropic.com", "where anthropic is", env=("ANTHROPIC_BASE_URL",)),
    Setting("openrouter_api_key", None, "key for openrouter", env=("OPENROUTER_API_KEY",), secret=True),
    Setting("openrouter_base_url", "https://openrouter.ai/api/v1", "where openrouter is", env=("OPENROUTER_BASE_URL",)),
    Setting("ollama_base_url", None, "where ollama is (probed at http://127.0.0.1:11434 if unset)",
            env=("OLLAMA_BASE_URL", "OLLAMA_HOST")),
    Setting("lmstudio_base_url", None, "where LM Studio is (probed at http://127.0.0.1:1234/v1 if unset)",
            env=("LMSTUDIO_BASE_URL", "LMSTUDIO_HOST")),
    Setting("vllm_base_url", None, "where vLLM is (probed at http://127.0.0.1:8000/v1 if unset, never at our own port)",
            env=("VLLM_BASE_URL",)),
    Setting("compatible_base_url", None, "where the provider openai-compatible is; a request's base_url may say it too",
            env=("OPENAI_COMPATIBLE_BASE_URL",)),
    Setting("compatible_api_key", None, "key for openai-compatible", env=("OPENAI_COMPATIBLE_API_KEY",), secret=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LentKey:
    """A key that providers configured at run time may use, None where its variable is not set, and the host (or
    host:port) that it may be sent to."""

    host: str
    value: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the server runs with. See `SETTINGS` for the meaning of each."""

    host: str = "127.0.0.1"
    port: int = 8000
    data_dir: Path = Path("logs")
    nats: str = "embedded"
    provider: str | None = None
    model: str | None = None
    endpoint_models: str | None = None
    debug: bool = False
    log_level: str = "info"
    workers: int = 1
    reload: bool = False
    config: Path | None = None
    durability: str = "power"
    first_byte_timeout_s: float = 120.0
    idle_timeout_s: float = 60.0
    total_timeout_s: float = 3600.0
    retries: int = 0
    fallback: tuple[str, ...] = ()
    continuation: str = "error"
    circuit: str = "fallback"
    circuit_cool_down_s: float = 10.0
    drain_timeout_s: float = 30.0
    allow_unauthenticated: bool = False
    api_key: str | None = field(default=None, repr=False)
    tool_call_tags: str | None = None
    tool_modes: str | None = None
    tools: tuple[str, ...] = ()
    mcp: tuple[McpServer, ...] = ()
    tool_url_allowlist: frozenset[str] = frozenset()
    tool_keys: Mapping[str, LentKey] = field(default_factory=dict)
    execute_tools: bool = False
    tool_timeout_s: float = 60.0
    tool_rounds: int = 10
    allow_unsafe_unload_after: bool = False
    models_root: Path | None = None
    embedding_backend: str = "torch"
    embedding_model: str = "sentence-transformers/all-MiniLM-L6-v2"
    backends: frozenset[str] = frozenset()
    base_url_allowlist: frozenset[str] = frozenset()
    provider_keys: Mapping[str, LentKey] = field(default_factory=dict)
    files_root: Path | None = None
    file_url_allowlist: frozenset[str] = frozenset()
    cache: bool = False
    cache_max_age_s: float = 86_400.0
    semantic_cache: float = 0.0
    redis_url: str | None = field(default=None, repr=False)
    audio: str = "native"
    transcribe_model: str | None = None
    openai_api_key: str | None = field(default=None, repr=False)
    openai_base_url: str = "https://api.openai.com/v1"
    anthropic_api_key: str | None = field(default=None, repr=False)
    anthropic_base_url: str = "https://api.anthropic.com"
    openrouter_api_key: str | None = field(default=None, repr=False)
    openrouter_base_url: str = "https://openrouter.ai/api/v1"
    ollama_base_url: str | None = None
    lmstudio_base_url: str | None = None
    vllm_base_url: str | None = None
    compatible_base_url: str | None = None
    compatible_api_key: str | None = field(default=None, repr=False)

    def secrets(self) -> tuple[str, ...]:
        """Every secret value held, for scrubbing."""
        own = tuple(v for s in SETTINGS if s.secret and (v := getattr(self, s.name)))
        lent = (*self.provider_keys.values(), *self.tool_keys.values())
        if self.redis_url and (password := urlsplit(self.redis_url).password):
            own = (*own, *dict.fromkeys((password, unquote(password))))
        return own + tuple(key.value for key in lent if key.value) + tuple(s for mcp in self.mcp for s in mcp.secrets)

    def redacted(self) -> dict[str, Any]:
        """For the log and the terminal: secrets as `set` or left out, paths as text."""
        shown: dict[str, Any] = {}
        for setting in SETTINGS:
            value = getattr(self, setting.name)
            if setting.secret:
                shown[setting.name] = "set" if value else None
            elif isinstance(value, frozenset):
                shown[setting.name] = sorted(value)
            elif isinstance(value, tuple):
                shown[setting.name] = [each if isinstance(each, str) else each.name for each in value]
            elif isinstance(value, Mapping):
                shown[setting.name] = [f"{name}@{lent.host}" for name, lent in sorted(value.items())]
            else:
                shown[setting.name] = str(value) if isinstance(value, Path) else value
        return {name: value for name, value in shown.items() if value not in (None, [])}
