"""What the scripts of each family say."""

from __future__ import annotations

_ODD = 'Hello → "wörld"\n \\ 🎉 {"%s":"x"}%s!'

STREAMED_TEXT = {
    "openai": _ODD % ("content", '","y":"'),
    "anthropic": _ODD % ("text", ""),
    "ollama": _ODD % ("text", ""),
}
WHOLE_TEXT = {
    "openai": STREAMED_TEXT["openai"],
    "anthropic": "Let me check → now.",
    "ollama": "No, 27 is composite.",
}
