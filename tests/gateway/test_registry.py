"""The providers, as a user's settings make them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.config import ConfigError, Settings
from gateway.upstreams.registry import providers

NAMES = [
    "openai",
    "anthropic",
    "openrouter",
    "ollama",
    "lmstudio",
    "vllm",
    "openai-compatible",
    "huggingface",
    "mlx",
    "demo",
]


def test_every_provider_is_there() -> None:
    found = providers(Settings())
    assert list(found) == NAMES
    assert {name: each.family for name, each in found.items()} == {
        "openai": "openai_compatible", "anthropic": "anthropic", "openrouter": "openai_compatible", "ollama": "ollama",
        "lmstudio": "openai_compatible", "vllm": "openai_compatible", "openai-compatible": "openai_compatible",
        "huggingface": "huggingface", "mlx": "mlx", "demo": "demo",
    }  # fmt: skip


def test_who_needs_a_key_and_who_costs_nothing() -> None:
    found = providers(Settings(openai_api_key="sk-1", compatible_api_key="sk-2"))
    assert {name for name, each in found.items() if each.needs_key} == {"openai", "anthropic", "openrouter"}
    assert {name for name, each in found.items() if each.local} == {
        "ollama",
        "lmstudio",
        "vllm",
        "huggingface",
        "mlx",
        "demo",
    }
    assert found["openai"].api_key == "sk-1"
    assert found["openai-compatible"].api_key == "sk-2"
    assert all(each.api_key_env for each in found.values() if each.needs_key)
    assert "sk-1" not in repr(found["openai"])


def test_a_key_goes_to_its_own_provider_only() -> None:
    names = ("openai", "anthropic", "openrouter", "compatible")
    found = providers(Settings(**{f"{name}_api_key": f"key-of-{name}" for name in names}))  # type: ignore[arg-type]  # all str
    held = {name: each.api_key for name, each in found.items() if each.api_key}
    assert held == {
        "openai": "key-of-openai", "anthropic": "key-of-anthropic", "openrouter": "key-of-openrouter",
        "openai-compatible": "key-of-compatible",
    }  # fmt: skip


def test_local_servers_are_looked_for_where_they_usually_are() -> None:
    found = providers(Settings(port=9000))
    places = {name: each.base_url for name, each in found.items() if each.probed}
    assert places == {
        "ollama": "http://127.0.0.1:11434",
        "lmstudio": "http://127.0.0.1:1234/v1",
        "vllm": "http://127.0.0.1:8000/v1",
    }


@pytest.mark.parametrize(
    ("port", "own", "name"),
    [(8000, None, "vllm"), (0, 8000, "vllm"), (11434, None, "ollama"), (1234, None, "lmstudio")],
)
def test_our_own_port_is_never_probed(port: int, own: int | None, name: str) -> None:
    found = providers(Settings(port=port), own)[name]
    assert (found.probed, found.base_url) == (False, "")


def test_a_registry_that_forgets_its_own_port_is_caught() -> None:
    """The deliberate bug: the port that was asked for instead of the one that was bound."""
    assert providers(Settings(port=0))["vllm"].base_url == "http://127.0.0.1:8000/v1"


WRITTEN = [
    ("ollama_base_url", "ollama", "localhost", "http://localhost:11434"),
    ("ollama_base_url", "ollama", "0.0.0.0", "http://127.0.0.1:11434"),
    ("ollama_base_url", "ollama", "0.0.0.0:9999", "http://127.0.0.1:9999"),
    ("ollama_base_url", "ollama", "10.1.2.3:9999", "http://10.1.2.3:9999"),
    ("ollama_base_url", "ollama", "http://gpu:11434/", "http://gpu:11434"),
    ("ollama_base_url", "ollama", "http://gpu:11434/v1/", "http://gpu:11434"),
    ("ollama_base_url", "ollama", "[::1]:11434", "http://[::1]:11434"),
    ("lmstudio_base_url", "lmstudio", "http://localhost:1234", "http://localhost:1234/v1"),
    ("lmstudio_base_url", "lmstudio", "http://localhost:1234/v1/", "http://localhost:1234/v1"),
    ("vllm_base_url", "vllm", "https://gpu.example/team/v1", "https://gpu.example/team/v1"),
    ("openai_base_url", "openai", "https://proxy.example", "https://proxy.example/v1"),
    ("anthropic_base_url", "anthropic", "https://proxy.example/v1", "https://proxy.example"),
    ("anthropic_base_url", "anthropic", "https://proxy.example/anthropic/", "https://proxy.example/anthropic"),
    ("compatible_base_url", "openai-compatible", "router.example:8080/api", "http://router.example:8080/api"),
]


@pytest.mark.parametrize(("setting", "name", "written", "meant"), WRITTEN)
def test_urls_are_understood_as_users_write_them(setting: str, name: str, written: str, meant: str) -> None:
    found = providers(replace(Settings(), **{setting: written}))[name]  # type: ignore[arg-type]  # all str
    assert (found.base_url, found.probed) == (meant, False)


UNUSABLE = [
    "ftp://host/v1", "http://", "http:///v1", "http://user:secret-word@host/v1", "http://secret-word@host",
    "http://host/v1?api_key=secret-word", "http://host/#x", "http://host:port/v1", "http://host:99999",
]  # fmt: skip


@pytest.mark.parametrize("url", UNUSABLE)
@pytest.mark.parametrize("setting", ["openai_base_url", "ollama_base_url", "compatible_base_url"])
def test_an_unusable_url_is_refused_by_the_name_of_its_setting(setting: str, url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        providers(replace(Settings(), **{setting: url}))  # type: ignore[arg-type]  # all str
    assert setting.upper() in str(refused.value)
    assert "secret-word" not in str(refused.value)
