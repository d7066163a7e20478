"""What is said where nobody serves an endpoint beside chat: who does, and how to get somebody who does. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable

from gateway.errors import NotOffered
from gateway.upstreams.upstream import Provider


def offering(wire: str, providers: Iterable[Provider], natives: Container[tuple[str, str]]) -> list[str]:
    """The configured providers whose family speaks this protocol (`natives`: pairs of a family and a protocol). Those
    that were only looked for at their usual place do not count."""
    return sorted(
        provider.name
        for provider in providers
        if (provider.family, wire) in natives
        and provider.base_url
        and not provider.probed
        and (provider.api_key is not None or not provider.needs_key)
    )


def not_offered(wire: str, asked: str | None, able: list[str]) -> NotOffered:
    """`asked` is the provider that the request named; `able` are those that serve the endpoint."""
    endpoint = f"/v1/{wire.replace('_', '/', 1)}"
    said = f"{asked} does not serve {endpoint}" if asked else f"Nobody is configured here who serves {endpoint}"
    if able:
        way = f"Name a model of one that does: {', '.join(able)}."
    else:
        way = "Configure a provider that does (OPENAI_API_KEY, for one), or load a backend of your own (--backends)."
    return NotOffered(f"{said}. {way}", param="model")
