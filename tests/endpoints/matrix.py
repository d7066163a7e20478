"""Which provider serves which endpoint, and how, as the code says. `test_matrix.py` asks the running server."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.app import EXCHANGES
from gateway.config import Settings
from gateway.upstreams.natives import NATIVES
from gateway.upstreams.registry import providers
from gateway.wire.dialects import CHAT

NOT_ONE = frozenset({"/v1/messages/count_tokens", "/v1/responses/input_tokens", "/v1/generate/multi", "/v1beta/models"})
"""No exchanges, and a group of exchanges, of chats as above."""
WITH_MODEL = "/v1beta/models/{model}:generateContent"
ENDPOINTS: Mapping[str, str] = {
    path: dialect.wire
    for path, dialect in EXCHANGES.items()
    if path == WITH_MODEL or ("{" not in path and path not in NOT_ONE)
}
"""Route -> the wire that it speaks."""
FAMILIES: Mapping[str, str] = {name: provider.family for name, provider in providers(Settings()).items()}


def how(path: str, provider: str) -> str:
    """`native` (the request passes in its own protocol), `as chat`, or `501`."""
    dialect, family = EXCHANGES[path], FAMILIES[provider]
    if (family, dialect.wire) in NATIVES or (dialect.wire == CHAT.wire and family == "openai_compatible"):
        return "native"
    return "as chat" if dialect.as_chat else "501"


def rows() -> list[tuple[str, ...]]:
    """One for each endpoint, a cell for each provider."""
    return [(f"`{path}`", *(how(path, provider) for provider in FAMILIES)) for path in ENDPOINTS]
