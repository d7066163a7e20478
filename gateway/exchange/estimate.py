"""How many tokens, where nobody said. A rule of thumb, always marked as an estimate."""

from __future__ import annotations

from eventstore.catalogue.values import Usage

BYTES_PER_TOKEN = 4
"""English prose has about four characters a token in the common tokenizers; other texts have fewer."""

LONGEST_WORD = 2048
"""Bytes of a JSON string without a blank from which on it is taken for a file in base64."""
BYTES_OF_FILE = 4000
"""What a file counts as, whatever its size: an image has about a thousand tokens."""


def prompt_bytes(call: bytes) -> int:
    """The length of a call's body, its files counted for what they are to a model."""
    if len(call) <= LONGEST_WORD:
        return len(call)
    files = [len(each) for each in call.split(b'"') if len(each) > LONGEST_WORD and _in_base64(each)]
    return len(call) - sum(files) + BYTES_OF_FILE * len(files)


def _in_base64(text: bytes) -> bool:
    return text.isascii() and b" " not in text and b"\\" not in text


def estimate(prompt_bytes: int, answer_characters: int) -> Usage:
    """Tokens of a prompt (see `prompt_bytes`) and of an answer (its characters), rounded up."""
    return Usage(
        input_tokens=-(-prompt_bytes // BYTES_PER_TOKEN),
        output_tokens=-(-answer_characters // BYTES_PER_TOKEN),
    )
