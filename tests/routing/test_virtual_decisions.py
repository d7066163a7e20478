"""Where a virtual model led is decided again from what was recorded: purely, and by `verify --decisions` over a log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.chosen import chosen, decided_again
from gateway.routing.order import ORDERINGS, Asked, View
from gateway.routing.virtual import BY_EXAMPLES, Member, Virtual
from tests.routing.test_decisions import altered, found
from tests.routing.test_order import asked, draws, members, views
from tests.routing.test_virtual import CLAUDE, GPT, routed, table

BOTH = f'members = [{{model = "{GPT}", weight = 3}}, "{CLAUDE}"]'


@given(st.sampled_from(sorted(ORDERINGS)), members, asked, st.data(), draws)
def test_what_is_recorded_gives_the_same_again(
    strategy: str, given: list[Member], need: Asked, data: st.DataObject, draw: float
) -> None:
    known: dict[str, View] = {member.model: data.draw(views) for member in given}
    made = chosen(Virtual("auto", strategy, tuple(given)), "digest", need, known, draw)
    assert decided_again(orjson.loads(orjson.dumps(made.inputs))) == made.candidates


def test_a_weight_that_is_next_to_nothing_gives_a_score_that_can_be_recorded() -> None:
    few = tuple(Member(f"a/{number}", weight=5e-324) for number in range(2))
    made = chosen(Virtual("auto", "least_busy", few), "digest", Asked(), {"a/0": View(open_calls=3)}, 0.5)
    recorded = orjson.loads(orjson.dumps(made.inputs))
    assert [each.said() for each in decided_again(recorded)] == recorded["candidates"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a log with one route of each strategy that goes by members, `weighted` the first and `fastest`
    the last."""
    home = tmp_path_factory.mktemp("routes")

    async def decided() -> None:
        names = sorted(ORDERINGS.keys() - {"weighted", "fastest", BY_EXAMPLES})
        tables = [table(name, name, BOTH) for name in ("weighted", *names, "fastest")]
        async with routed(home, *tables) as client:
            for name in ("weighted", *names, "fastest"):
                await client.ask(name)

    asyncio.run(decided())
    return home / "logs"


Change = Callable[[dict[str, Any]], None]


def swapped(inputs: dict[str, Any]) -> None:
    inputs["candidates"].reverse()


def scored(inputs: dict[str, Any]) -> None:
    inputs["candidates"][0]["score"] += 0.1


def drawn(inputs: dict[str, Any]) -> None:
    inputs["draw"] = 0.99 if inputs["candidates"][0]["model"] == GPT else 0.0


def unable(inputs: dict[str, Any]) -> None:
    inputs["views"].setdefault(GPT, {})["refused"] = "no_key"


def weightier(inputs: dict[str, Any]) -> None:
    inputs["members"][1]["weight"] = 30.0


def renamed(inputs: dict[str, Any]) -> None:
    inputs["strategy"] = "fallback"


def test_a_log_as_it_was_written_is_decided_the_same(log: Path) -> None:
    assert found(log, decisions=True) == 0


@pytest.mark.parametrize("change", [swapped, scored, drawn, unable, weightier, renamed], ids=lambda c: c.__name__)
def test_one_that_was_altered_and_chained_anew_is_found(log: Path, tmp_path: Path, change: Change) -> None:
    forged = altered(log, tmp_path, "route_selected", change)
    assert found(forged, decisions=False) == 0  # its digests are right
    assert found(forged, decisions=True) > 0
