"""What families speak besides chat: a request in such a protocol reaches them as it came, untranslated."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.upstreams.upstream import Speech

NATIVES: Mapping[tuple[str, str], Speech] = {}
"""By family and `Dialect.wire`."""
