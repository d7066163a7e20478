"""How many tokens, where nobody said. A rule of thumb, always marked as an estimate."""

from __future__ import annotations

from eventstore.catalogue.values import Usage

BYTES_PER_TOKEN = 4
"""English prose has about four characters a token in the common tokenizers; other texts have fewer."""


def estimate(prompt_bytes: int, answer_characters: int) -> Usage:
    """Tokens of a prompt (its request's bytes) and of an answer (its characters), rounded up."""
    return Usage(
        input_tokens=-(-prompt_bytes // BYTES_PER_TOKEN),
        output_tokens=-(-answer_characters // BYTES_PER_TOKEN),
    )
