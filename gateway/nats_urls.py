"""What names a NATS server."""

from __future__ import annotations

from urllib.parse import urlsplit

NATS_SCHEMES = ("nats://", "tls://", "ws://", "wss://")


def are_nats_urls(text: str) -> bool:
    """Whether these are URLs of NATS servers, joined by commas."""
    try:
        parts = [urlsplit(url if "://" in url else f"{NATS_SCHEMES[0]}{url}") for url in text.split(",")]
        sound = all(f"{part.scheme}://" in NATS_SCHEMES and part.hostname and part.port != 0 for part in parts)
    except ValueError:  # the port is none, or a bracket is not closed
        return False
    return sound and text.startswith(NATS_SCHEMES)
