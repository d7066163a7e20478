"""The providers that a model's name can begin with, and what each is made of: the one file that knows them by name.

| provider          | family            | key                        | found at                                     |
| openai            | openai_compatible | OPENAI_API_KEY             | OPENAI_BASE_URL                              |
| anthropic         | anthropic         | ANTHROPIC_API_KEY          | ANTHROPIC_BASE_URL                           |
| openrouter        | openai_compatible | OPENROUTER_API_KEY         | OPENROUTER_BASE_URL                          |
| ollama            | ollama            | none                       | OLLAMA_BASE_URL, OLLAMA_HOST, or its port    |
| lmstudio          | openai_compatible | none                       | LMSTUDIO_BASE_URL, LMSTUDIO_HOST, or its port|
| vllm              | openai_compatible | none                       | VLLM_BASE_URL, or its port unless it is ours |
| openai-compatible | openai_compatible | OPENAI_COMPATIBLE_API_KEY  | OPENAI_COMPATIBLE_BASE_URL, or the request   |
| huggingface       | huggingface       | none                       | in this process's workers                    |
| mlx               | mlx               | none                       | in this process's workers                    |
| demo              | demo              | none                       | built in                                     |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from eventstore.catalogue.control import ProviderConfigured
from gateway.config import ConfigError, Settings
from gateway.upstreams.upstream import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A row of the table. `url` and `key` name settings; `probe` is the usual port of a local server; `path` is what
    its base URL ends in where the user gave only a host; `drop` is an end that users add and the family does not;
    `builtin` is the URL to show of what is no server; `permits` is a setting and the trait that it gives."""

    name: str
    family: str
    url: str | None = None
    key: str | None = None
    key_env: str | None = None
    needs_key: bool = False
    local: bool = False
    probe: int | None = None
    path: str = ""
    drop: str = ""
    builtin: str = ""
    prices: str | None = None
    traits: frozenset[str] = frozenset()
    permits: tuple[str, str] | None = None


_USAGE = frozenset({"asks_usage"})
_WITHOUT_TOOLS = frozenset({"prompted_tools"})
_SEES = frozenset({"image_urls", "pdf"})
"""It fetches the images that a request names, and reads PDFs."""
_THINKS_NOT = frozenset({"thinking_off"})
"""It can be told not to think, also by a word for a model that never does."""
_OF_FAMILY = {"openai_compatible": _USAGE, "ollama": _THINKS_NOT}
"""What is known of a server of a family that is configured at run time."""

_KNOWN = (
    _Known(
        name="openai", family="openai_compatible", url="openai_base_url", path="/v1", key="openai_api_key",
        key_env="OPENAI_API_KEY", needs_key=True, prices="openai", traits=_USAGE | _SEES | {"file_ids", "custom_tools"},
    ),
    _Known(
        name="anthropic", family="anthropic", url="anthropic_base_url", drop="/v1", key="anthropic_api_key",
        key_env="ANTHROPIC_API_KEY", needs_key=True, prices="anthropic",
        traits=_SEES | {"thinking_blocks"},
    ),
    _Known(
        name="openrouter", family="openai_compatible", url="openrouter_base_url", path="/api/v1",
        key="openrouter_api_key", key_env="OPENROUTER_API_KEY", needs_key=True, prices="openrouter",
        traits=_USAGE | _SEES | {"usage_include", "open_models"},
    ),
    _Known(
        name="ollama", family="ollama", url="ollama_base_url", drop="/v1", local=True, probe=11434, traits=_THINKS_NOT,
        permits=("allow_unsafe_unload_after", "unload_after"),
    ),
    _Known(
        name="lmstudio", family="openai_compatible", url="lmstudio_base_url", path="/v1", local=True, probe=1234,
        traits=_USAGE,
    ),
    _Known(
        name="vllm", family="openai_compatible", url="vllm_base_url", path="/v1", local=True, probe=8000,
        traits=_USAGE | _THINKS_NOT | {"template_thinking"},
    ),
    _Known(
        name="openai-compatible", family="openai_compatible", url="compatible_base_url", path="/v1",
        key="compatible_api_key", key_env="OPENAI_COMPATIBLE_API_KEY", traits=_USAGE,
    ),
    _Known(
        name="huggingface", family="huggingface", builtin="huggingface:", local=True, traits=_WITHOUT_TOOLS,
    ),
    _Known(name="mlx", family="mlx", builtin="mlx:", local=True, traits=_WITHOUT_TOOLS),
    _Known(name="demo", family="demo", builtin="demo:", local=True),
)  # fmt: skip


def providers(settings: Settings, own_port: int | None = None) -> dict[str, Provider]:
    """Every provider by name, as configured. Raises `ConfigError` for a URL that cannot be used.

    `own_port` is the port that the server listens on, where it is not the configured one: it is never probed.
    `base_url` is empty where nothing says where the provider is.
    """
    return {known.name: _provider(known, settings, own_port or settings.port) for known in _KNOWN}


REMOTE_FAMILIES = frozenset({"openai_compatible", "anthropic", "ollama"})
"""Those whose providers are servers somewhere, and can be configured while ours runs."""


def at_home(provider: Provider, url: str) -> bool:
    """Whether a URL that a caller names is the provider's own."""
    return bool(url) and url.rstrip("/") == provider.base_url


def configured(known: Provider | None, asked: ProviderConfigured, api_key: str | None) -> Provider:
    """A provider as it was asked for. `known` is the one of that name which the server came with: at its own URL, with
    no other key asked for, it is that one again; at any other, its key stays behind."""
    if known is not None and asked.api_key_env is None and at_home(known, asked.base_url):
        return known
    base_url = asked.base_url.rstrip("/")
    key: dict[str, Any] = {
        "api_key": api_key,
        "api_key_env": asked.api_key_env,
        "needs_key": asked.api_key_env is not None,
    }
    if known is not None:
        return replace(known, base_url=base_url, probed=False, **key)
    traits = _OF_FAMILY.get(asked.family, frozenset())
    return Provider(name=asked.provider, family=asked.family, base_url=base_url, traits=traits, **key)


def _provider(known: _Known, settings: Settings, own_port: int) -> Provider:
    given: str | None = getattr(settings, known.url) if known.url else None
    probed = given is None and known.probe is not None and known.probe != own_port
    base_url = _base_url(known, given) if given else known.builtin
    if probed:
        base_url = f"http://127.0.0.1:{known.probe}{known.path}"
    return Provider(
        name=known.name,
        family=known.family,
        base_url=base_url,
        api_key=getattr(settings, known.key) if known.key else None,
        api_key_env=known.key_env,
        needs_key=known.needs_key,
        local=known.local,
        probed=probed,
        prices=known.prices,
        traits=known.traits | _permitted(known, settings),
    )


def _permitted(known: _Known, settings: Settings) -> frozenset[str]:
    if known.permits is None:
        return frozenset()
    setting, trait = known.permits
    return frozenset({trait}) if getattr(settings, setting) else frozenset()


def _base_url(known: _Known, given: str) -> str:
    """A provider's URL as the user wrote it, made whole: `host`, `host:port` and a missing path are understood.

    `0.0.0.0` is an address to listen on, which users of OLLAMA_HOST set for the server; a client means loopback.
    """
    bare = "://" not in given
    parts = urlsplit(f"http://{given}" if bare else given)
    name = (known.url or known.name).upper()
    try:
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{name}: the port of the URL is not a number between 0 and 65535") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{name} must be an http or https URL such as http://127.0.0.1:{known.probe or 8080}")
    if "@" in parts.netloc:
        hint = f"set {known.key_env} instead" if known.key_env else "this provider takes no credentials"
        raise ConfigError(f"{name} must not carry credentials: {hint}")
    if parts.query or parts.fragment:
        raise ConfigError(f"{name} must end with its path: no query, no fragment")
    path = parts.path.rstrip("/").removesuffix(known.drop) or known.path
    return urlunsplit((parts.scheme, _host(parts.hostname, port or (known.probe if bare else None)), path, "", ""))


def _host(name: str, port: int | None) -> str:
    name = "127.0.0.1" if name == "0.0.0.0" else name  # noqa: S104 - recognised here, never bound
    shown = f"[{name}]" if ":" in name else name
    return f"{shown}:{port}" if port else shown
