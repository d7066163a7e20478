"""The tests of this folder see a server that does not give its clients what they expect, or counts otherwise."""

from __future__ import annotations

import asyncio

import pytest

from tests.spoilt import failure

OPENAI = "test_openai_python.py"


@pytest.mark.parametrize(
    ("bug", "test", "said"),
    [
        ("unnumbered", f"{OPENAI}::test_tools_in_a_stream", "get_time"),
        ("unending", "test_raw_requests.py::test_chat_whole_and_streamed_on_one_connection", "data: [DONE]"),
        ("unsaid", f"{OPENAI}::test_a_refusal_is_the_exception_of_its_status", "KeyError: 'retry-after'"),
        ("uncached", "test_usage_report.py::test_the_report_is_what_the_providers_served", "'tokens_input_cached': 0"),
    ],
)
async def test_twin_that_gives_clients_something_else(bug: str, test: str, said: str) -> None:
    assert said in await asyncio.to_thread(failure, "tests.clients.careless", bug, f"clients/{test}")
