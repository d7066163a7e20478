"""Where a request goes: the model's name, the credential, and the URL that a caller may name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import Forbidden, GatewayError, InvalidRequest, NotFound, Unauthorized
from gateway.exchange.plan import at_url
from gateway.routing.callers_url import check_base_url
from gateway.routing.choose import choose, credential
from gateway.routing.offered import not_offered, offering
from gateway.upstreams.upstream import Provider

PROVIDERS = {
    name: Provider(name=name, family="f", base_url=f"http://{name}.test", api_key="ours", needs_key=True)
    for name in ("openai", "openrouter", "ollama")
}
LISTED = {"ollama": {"llama", "both", "hf.co/x/y"}, "openai": {"gpt", "both"}, "gone": {"lost"}}


@pytest.mark.parametrize(
    ("name", "default", "expected"),
    [
        ("openai/gpt-5", None, ("openai", "gpt-5", "named")),
        ("openrouter/meta/llama-3:free", None, ("openrouter", "meta/llama-3:free", "named")),
        ("openai/unheard-of", None, ("openai", "unheard-of", "named")),
        ("gpt-5", "openai", ("openai", "gpt-5", "default_provider")),
        ("llama", None, ("ollama", "llama", "listed")),
        ("hf.co/x/y", None, ("ollama", "hf.co/x/y", "listed")),
        ("llama", "openai", ("openai", "llama", "default_provider")),
    ],
)
def test_a_name_means_one_provider_and_model(name: str, default: str | None, expected: tuple[str, str, str]) -> None:
    route = choose(name, PROVIDERS, default, LISTED)
    assert (route.provider.name, route.model, route.reason) == expected


@pytest.mark.parametrize("name", ["nobody/m", "openai/", "unknown", "both", "lost", "/m", "OpenAI/gpt"])
def test_it_is_never_guessed(name: str) -> None:
    with pytest.raises(NotFound) as refused:
        choose(name, PROVIDERS, None, LISTED)
    assert refused.value.error_code == "model_not_found"
    assert "GET /v1/models" in refused.value.message


def test_no_name_is_no_route() -> None:
    with pytest.raises(InvalidRequest):
        choose("", PROVIDERS, "openai", LISTED)


def test_the_callers_credential_beats_ours_and_ours_never_goes_where_the_caller_says() -> None:
    provider = PROVIDERS["openai"]
    assert credential(provider, None, None) == "ours"
    assert credential(provider, "theirs", None) == "theirs"
    assert credential(provider, "theirs", "http://theirs.test") == "theirs"
    assert credential(provider, None, "http://theirs.test") is None


def test_a_provider_that_needs_a_key_names_its_variable() -> None:
    bare = Provider(name="openai", family="f", base_url="", needs_key=True, api_key_env="OPENAI_API_KEY")
    with pytest.raises(Unauthorized, match="OPENAI_API_KEY"):
        credential(bare, None, None)


def test_a_provider_at_a_url_of_its_callers_has_none_of_our_key() -> None:
    elsewhere = at_url(PROVIDERS["openai"], "https://models.example/v1/")
    assert PROVIDERS["openai"].api_key is not None
    assert (elsewhere.api_key, elsewhere.base_url) == (None, "https://models.example/v1")


ALLOWED = {"models.example", "other.example:8443"}


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("https://models.example/v1", False),
        ("https://MODELS.example:9000/v1", False),
        ("https://other.example:8443", False),
        ("http://127.0.0.1:1234/v1", True),
        ("http://localhost", True),
        ("http://[::1]:8080/v1", True),
    ],
)
def test_hosts_that_a_caller_may_name(url: str, loopback: bool) -> None:
    assert check_base_url(url, ALLOWED, loopback) == url


@pytest.mark.parametrize(
    ("url", "loopback", "error"),
    [
        ("https://evil.example", True, Forbidden),
        ("https://models.example.evil.example", False, Forbidden),
        ("https://evilmodels.example", False, Forbidden),
        ("https://other.example", False, Forbidden),
        ("http://127.0.0.1:1234", False, Forbidden),
        ("http://localhost.evil.example", True, Forbidden),
        ("http://169.254.169.254/latest", True, Forbidden),
        ("http://0x7f000001", True, Forbidden),
        ("http://models.example@evil.example", False, InvalidRequest),
        ("https://user:pw@models.example", False, InvalidRequest),
        ("https://models.example/v1?x=1", False, InvalidRequest),
        ("https://models.example/v1#x", False, InvalidRequest),
        ("https://models.example/v1?", False, InvalidRequest),
        ("https://models.example/v1#", False, InvalidRequest),
        ("https://models.example\\@evil.example", False, InvalidRequest),
        ("https://models.example/\\v1", False, InvalidRequest),
        ("https://models.example/\r\nx: y", False, InvalidRequest),
        ("https://models.example/ x", False, InvalidRequest),
        ("https://models.example:99999", False, InvalidRequest),
        ("https://[::1", True, InvalidRequest),
        ("file:///etc/passwd", True, InvalidRequest),
        ("ftp://models.example", False, InvalidRequest),
        ("models.example", False, InvalidRequest),
        ("", True, InvalidRequest),
    ],
)
def test_hosts_that_it_may_not(url: str, loopback: bool, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        check_base_url(url, ALLOWED, loopback)


def test_who_serves_an_endpoint_beside_chat_is_who_is_configured_for_it() -> None:
    ready = PROVIDERS["openai"]
    others = [
        replace(ready, name="keyless", api_key=None),
        replace(ready, name="nowhere", base_url=""),
        replace(ready, name="looked-for", probed=True),
        replace(ready, name="other", family="g"),
        replace(ready, name="free", api_key=None, needs_key=False),
    ]
    assert offering("audio_speech", [ready, *others], {("f", "audio_speech")}) == ["free", "openai"]
    assert offering("moderations", [ready], {("f", "audio_speech")}) == []


def test_what_nobody_serves_is_told_with_a_way_out() -> None:
    able = not_offered("images_edits", "demo", ["openai", "vllm"])
    assert able.message == "demo does not serve /v1/images/edits. Name a model of one that does: openai, vllm."
    nobody = not_offered("audio_speech", None, [])
    assert nobody.status == 501
    assert nobody.message.startswith("Nobody is configured here who serves /v1/audio/speech. Configure a provider")
    assert "--backends" in nobody.message
