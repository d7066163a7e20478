"""Every dialect that a `request_received` may name, in every version there ever was."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.wire.dialect import Dialect
from gateway.wire.openai_chat_dialect import ChatDialect

CHAT: Dialect = ChatDialect()

DIALECTS: Mapping[tuple[str, int], Dialect] = {(made.wire, made.version): made for made in (CHAT,)}
