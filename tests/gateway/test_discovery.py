"""Asking the providers: at once, seldom, and without one hiding the others."""

from __future__ import annotations

import asyncio

import pytest

from gateway.discovery import FAILED_S, FRESH_S, Discovery
from gateway.redaction import Redactor
from gateway.upstreams.upstream import ModelInfo, UpstreamFailure
from tests.gateway.serving import KEY, Clock, Listed, provider

ONE, TWO = ModelInfo("one"), ModelInfo("two")


class Asking:
    """A discovery over a family that a test scripts."""

    def __init__(self, *names: str, patience_s: float = 5.0, held: tuple[str, ...] = ()) -> None:
        self.clock, self.family = Clock(), Listed()
        self.discovery = Discovery(
            {name: provider(name) for name in names},
            {"listed": self.family},  # type: ignore[dict-item]  # discovery only asks for models
            Redactor(KEY, held),
            self.clock,
            patience_s,
        )

    async def models(self, name: str) -> list[str]:
        (listing,) = await self.discovery.listings([name])
        return [model.id for model in listing.models]


async def test_a_good_answer_is_remembered_for_a_minute() -> None:
    asking = Asking("a")
    asking.family.answers["a"] = [ONE]
    assert await asking.models("a") == ["one"]
    asking.family.answers["a"] = [TWO]
    asking.clock.now += FRESH_S - 1
    assert await asking.models("a") == ["one"]
    assert asking.family.asked == ["a"]


async def test_an_old_answer_is_given_once_more_while_a_new_one_is_fetched() -> None:
    asking = Asking("a")
    asking.family.answers["a"] = [ONE]
    await asking.models("a")
    asking.clock.now += FRESH_S
    fetched = asyncio.Event()
    asking.family.answers.update({"a": fetched, "a then": [TWO]})
    assert await asking.models("a") == ["one"]
    fetched.set()
    await asyncio.sleep(0.01)
    assert await asking.models("a") == ["two"]
    assert asking.family.asked == ["a", "a"]


async def test_a_failure_is_believed_for_a_moment_only() -> None:
    asking = Asking("a")
    asking.family.answers["a"] = UpstreamFailure("connect_failed", "nobody there")
    assert await asking.models("a") == []
    asking.family.answers["a"] = [ONE]
    assert await asking.models("a") == []
    asking.clock.now += FAILED_S
    assert await asking.models("a") == ["one"]


async def test_however_many_ask_a_provider_is_asked_once() -> None:
    asking = Asking("a")
    answered = asyncio.Event()
    asking.family.answers.update({"a": answered, "a then": [ONE]})
    many = [asyncio.create_task(asking.models("a")) for _ in range(50)]
    await asyncio.sleep(0.01)
    many[0].cancel()  # one who leaves does not end it for the others
    answered.set()
    assert await asyncio.gather(*many[1:]) == [["one"]] * 49
    assert asking.family.asked == ["a"]


@pytest.mark.parametrize("trouble", [UpstreamFailure("bad_response", "no list"), KeyError("data"), asyncio.Event()])
async def test_a_failing_provider_is_a_listing_with_a_reason(trouble: object) -> None:
    """Refused, not understood, or silent: the others are there all the same."""
    asking = Asking("a", "b", patience_s=0.05)
    asking.family.answers.update({"a": trouble, "b": [ONE]})
    failing, working = await asking.discovery.listings()
    assert (failing.status, failing.models) == ("unavailable", ())
    assert failing.reason
    assert (working.status, working.reason) == ("available", None)


async def test_the_reason_holds_no_secret() -> None:
    asking = Asking("a", held=("sk-a-server-key",))
    asking.family.answers["a"] = UpstreamFailure("bad_response", "bad key sk-a-server-key at http://u:p@h/")
    (listing,) = await asking.discovery.listings()
    assert listing.reason is not None
    assert "sk-a-server-key" not in listing.reason
    assert "u:p" not in listing.reason


async def test_what_is_not_configured_is_said_and_not_asked() -> None:
    family = Listed()
    offered = {
        "keyless": provider("keyless", needs_key=True, api_key_env="KEYLESS_API_KEY"),
        "nowhere": provider("nowhere", base_url=""),
    }
    discovery = Discovery(offered, {"listed": family}, Redactor(KEY), Clock())  # type: ignore[dict-item]  # as above
    keyless, nowhere = await discovery.listings()
    assert (keyless.status, keyless.reason) == ("not_configured", "KEYLESS_API_KEY is not set")
    assert nowhere.status == "not_configured"
    assert family.asked == []


async def test_routing_sees_what_was_last_listed_without_asking() -> None:
    asking = Asking("a", "b")
    asking.family.answers["a"] = [ONE, TWO]
    assert asking.discovery.listed() == {}
    await asking.models("a")
    assert asking.discovery.listed() == {"a": {"one", "two"}}


async def test_a_provider_that_cannot_say_now_still_has_what_it_listed() -> None:
    """Else a name without a provider would mean another one's model for as long as that lasts."""
    asking = Asking("a", "b")
    asking.family.answers.update({"a": [ONE], "b": [ONE]})
    await asking.discovery.listings()
    asking.family.answers["a"] = UpstreamFailure("first_byte_timeout", "busy")
    asking.clock.now += FRESH_S
    await asking.models("a")
    await asyncio.sleep(0.01)
    assert await asking.models("a") == []
    assert asking.discovery.listed() == {"a": {"one"}, "b": {"one"}}
    assert asking.discovery.info("a", "one") is ONE


async def test_what_a_provider_lists_no_more_is_forgotten() -> None:
    asking = Asking("a")
    asking.family.answers["a"] = [ONE]
    await asking.models("a")
    asking.family.answers["a"] = [TWO]
    asking.clock.now += FRESH_S
    await asking.models("a")
    await asyncio.sleep(0.01)
    assert asking.discovery.listed() == {"a": {"two"}}
    assert asking.discovery.info("a", "one") is None


async def test_closing_ends_open_questions() -> None:
    asking = Asking("a")
    asking.family.answers["a"] = asyncio.Event()
    waiting = asyncio.create_task(asking.models("a"))
    await asyncio.sleep(0.01)
    await asking.discovery.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
