"""One amount of money from one usage. Pure integer arithmetic; rounded once, half to even, to 1e-12 USD."""

from __future__ import annotations

from dataclasses import dataclass

from eventstore.catalogue.values import Usage, Usd

MILLION = 1_000_000
THOUSAND = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What each kind of thing costs: 1e-12 USD per million tokens, and per thousand searches and requests.

    A kind without a price of its own has its parent's: reasoning that of output, a cached or spoken token that of
    input.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    input_audio: int = 0
    output: int = 0
    reasoning: int = 0
    output_audio: int = 0
    web_search: int = 0
    request: int = 0


@dataclass(frozen=True, slots=True)
class Tier:
    """The prices of all tokens of a request whose prompt is longer than `start` tokens; -1 is the base.
    `name` is what is booked."""

    start: int
    prices: Prices
    name: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One model's prices at one time: tiers, the longest prompt first, the base last."""

    tiers: tuple[Tier, ...]

    def tier(self, input_tokens: int) -> Tier:
        """The one tier that prices the whole request."""
        return next(tier for tier in self.tiers if input_tokens > tier.start)


def cost(usage: Usage, rule: Rule) -> Usd:
    """What one generation costs.

    Every token has one price: cached, written and spoken ones are taken out of the input, reasoning and speech out of
    the output. Where a provider's numbers contradict each other the rest counts as 0, never as less.
    """
    prices = rule.tier(usage.input_tokens).prices
    special_input = (
        usage.cache_read_tokens
        + usage.cache_write_5m_tokens
        + usage.cache_write_1h_tokens
        + usage.input_audio_tokens
    )  # fmt: skip
    special_output = usage.reasoning_tokens + usage.output_audio_tokens
    tokens = (
        max(0, usage.input_tokens - special_input) * prices.input
        + usage.cache_read_tokens * prices.cache_read
        + usage.cache_write_5m_tokens * prices.cache_write_5m
        + usage.cache_write_1h_tokens * prices.cache_write_1h
        + usage.input_audio_tokens * prices.input_audio
        + max(0, usage.output_tokens - special_output) * prices.output
        + usage.reasoning_tokens * prices.reasoning
        + usage.output_audio_tokens * prices.output_audio
    )
    calls = usage.web_search_requests * prices.web_search + prices.request
    return Usd(_divide(tokens + calls * (MILLION // THOUSAND), MILLION))


def _divide(amount: int, by: int) -> int:
    """To the nearest, halves to even. Neither is negative."""
    whole, rest = divmod(amount, by)
    return whole + (rest * 2 > by or (rest * 2 == by and whole & 1))
