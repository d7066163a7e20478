"""From a provider's failure to the words of an answer; and how many tokens, where nobody said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from gateway.errors import STATUS_OF_KIND
from gateway.exchange.estimate import estimate
from gateway.exchange.failures import (
    LONGEST_MESSAGE,
    MOST_LIMITS,
    error_value,
    failure_of_call,
    failure_of_error,
    passed_on,
    retry_after_s,
)
from gateway.exchange.inputs import Failure
from gateway.upstreams.upstream import UpstreamFailure
from gateway.wire.values import UpstreamError

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
NOW_US = int(NOW.timestamp() * 1e6)


def in_(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": "7.5"}, 7.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": in_(90)}, 90.0),
        ({"retry-after": in_(-90)}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30"}, 30.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": in_(4)}, 4.0),
        ({"retry-after-ms": "x", "retry-after": "4"}, 4.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Sat, 21 Nov 99999999999999999999 12:00:30 GMT"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 +99999999999999"}, None),
        ({"retry-after": "Sat, 21 Nov 9999 23:59:59 -2359"}, None),
        ({"retry-after": in_(86_400 * 365)}, None),
        ({"Retry-After": in_(3_600 + 90), "Date": in_(3_600)}, 90.0),
        ({"retry-after": in_(-86_400 + 90), "date": in_(-86_400)}, 90.0),
        ({"retry-after": in_(90), "date": "noon"}, 90.0),
    ],
)
def test_retry_after_in_all_its_kinds(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, NOW_US) == expected


def test_only_what_helps_the_client_is_passed_on() -> None:
    headers = {
        "Retry-After": "7",
        "retry-after-ms": "7000",
        "x-should-retry": "false",
        "X-RateLimit-Remaining-Tokens": "0",
        "anthropic-ratelimit-requests-limit": "50",
        "set-cookie": "a=b",
        "openai-organization": "org",
        "x-request-id": "theirs",
    }
    assert passed_on(headers).keys() == {
        "retry-after", "retry-after-ms", "x-should-retry", "x-ratelimit-remaining-tokens",
        "anthropic-ratelimit-requests-limit",
    }  # fmt: skip
    assert len(passed_on({"retry-after": "7" * 1000})["retry-after"]) == 200


@pytest.mark.parametrize(
    "name", ["x-ratelimit-", "x-ratelimit-a:b", "x-ratelimit-a b", f"x-ratelimit-{'a' * 65}", "ratelimit-a"]
)
def test_what_is_no_name_of_a_limit_is_not_passed_on(name: str) -> None:
    assert passed_on({name: "1", "x-ratelimit-limit-tokens_usage_based": "9"}).keys() == {
        "x-ratelimit-limit-tokens_usage_based"
    }


def test_however_many_limits_there_are_the_client_hears_of_so_many_and_when_to_try_again() -> None:
    many = {f"x-ratelimit-{number}": "1" * 1000 for number in range(1000)}
    told = passed_on({**many, "retry-after": "7"})
    assert told["retry-after"] == "7"
    assert len(told) == MOST_LIMITS + 1
    assert sum(len(name) + len(value) for name, value in told.items()) < 16 << 10


@pytest.mark.parametrize(
    ("status", "expected", "domain"),
    [(400, 400, "caller"), (401, 401, "provider"), (404, 404, "caller"), (429, 429, "provider"), (500, 500, "provider"),
     (529, 529, "provider"), (200, 502, "provider"), (302, 502, "provider"), (999, 502, "provider")],
)  # fmt: skip
def test_the_providers_status_is_the_answers(status: int, expected: int, domain: str) -> None:
    failure = failure_of_error(UpstreamError("No.", status, code="c"), {}, NOW_US)
    assert (failure.status, failure.fault_domain) == (expected, domain)
    assert error_value(failure)[0] == expected


def test_a_model_that_the_provider_does_not_have_says_where_to_look() -> None:
    failure = failure_of_error(UpstreamError("No such model.", 404, code="not_found_error"), {}, NOW_US)
    assert failure.code == "model_not_found"
    assert failure.message == "No such model. GET /v1/models lists what there is."


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 208310 tokens > 200000 maximum",  # Anthropic
        "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length",
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",  # vLLM
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        "This endpoint's maximum context length is 131072 tokens. However, you requested about 200000.",  # OpenRouter
        "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",  # llama.cpp
        "However, the model is loaded with context length of only 4096 tokens, which is not enough.",  # LM Studio
        "The number of tokens to keep from the initial prompt is greater than the context length.",
        "prompt too long; exceeded max context length by 904 tokens",  # Ollama
        "the input length exceeds the context length",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",  # Google
        "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",  # Mistral
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",  # xAI
    ],
)
@pytest.mark.parametrize("code", [None, "invalid_request_error"])
def test_a_prompt_that_is_too_long_has_one_code_whoever_says_so(message: str, code: str | None) -> None:
    failure = failure_of_error(UpstreamError(message, 400, code=code), {}, NOW_US)
    assert (failure.code, failure.message) == ("context_length_exceeded", message)


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        ("max_tokens is too large: 500000. This model supports at most 16384 completion tokens.", 400, None),
        ("'messages' must have a context", 400, None),
        ("prompt is too long", 500, None),
        ("This model's maximum context length is 4096 tokens.", 400, "string_above_max_length"),
    ],
)
def test_other_errors_keep_their_own_code(message: str, status: int, code: str | None) -> None:
    assert failure_of_error(UpstreamError(message, status, code=code), {}, NOW_US).code == code


def test_a_long_message_is_cut() -> None:
    assert len(failure_of_error(UpstreamError("x" * 10_000, 500), {}, NOW_US).message) == LONGEST_MESSAGE


@pytest.mark.parametrize("kind", sorted(STATUS_OF_KIND))
def test_each_kind_of_failure_has_a_status_and_is_its_own_code(kind: str) -> None:
    status, error = error_value(failure_of_call(UpstreamFailure(kind, "It broke.")))
    assert status == STATUS_OF_KIND[kind]
    assert error == {"message": "It broke.", "type": error["type"], "param": None, "code": kind}


def test_the_words_of_the_provider_are_kept() -> None:
    failure = Failure("upstream_error", "No.", "caller", 400, type="t", code="c", param="p")
    assert error_value(failure) == (400, {"message": "No.", "type": "t", "param": "p", "code": "c"})
    assert error_value(Failure("upstream_error", "No.", status=429))[1]["type"] == "rate_limit_error"
    assert error_value(Failure("upstream_error", "No.", status=418))[1]["type"] == "server_error"


@pytest.mark.parametrize(
    ("prompt", "answer", "tokens"), [(0, 0, (0, 0)), (1, 1, (1, 1)), (4, 5, (1, 2)), (400, 0, (100, 0))]
)
def test_an_estimate_is_a_quarter_rounded_up(prompt: int, answer: int, tokens: tuple[int, int]) -> None:
    usage = estimate(prompt, answer)
    assert (usage.input_tokens, usage.output_tokens) == tokens
