"""What can be asked for: /v1/models, /v1/models/{id}, /providers."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from anthropic import AsyncAnthropic
from anthropic.types import ModelInfo as AnthropicModel
from openai import AsyncOpenAI, NotFoundError

from gateway.config import Settings
from gateway.upstreams.upstream import ModelInfo, UpstreamFailure
from tests.gateway.serving import Served, provider, serving

CHAT = ModelInfo("chat", "text-generation", created=1_700_000_000, owned_by="somebody", context_length=8192)
EMBED = ModelInfo("embed", "text-embedding")
SLASHED = ModelInfo("org/model:1", "text-generation")
NOBODY = UpstreamFailure("connect_failed", "nobody there")


def offer(served: Served) -> None:
    served.family.answers.update({"alpha": [CHAT, EMBED], "beta": [SLASHED]})


async def ids(served: Served, query: str = "") -> list[str]:
    _, body, _ = await served.get("/v1/models" + query)
    return [model["id"] for model in body["data"]]


async def test_models_are_listed_in_openais_shape(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        offer(served)
        status, body, _ = await served.get("/v1/models")
        assert (status, body["object"]) == (200, "list")
        assert body["data"][0] == {
            "id": "alpha/chat", "object": "model", "created": 1_700_000_000, "owned_by": "somebody",
            "type": "text-generation", "context_length": 8192,
        }  # fmt: skip
        assert body["data"][2] == {
            "id": "beta/org/model:1", "object": "model", "created": 0, "owned_by": "beta", "type": "text-generation",
        }  # fmt: skip
        assert (await served.get("/v1/models"))[1] == body  # `created` stays


async def test_anthropics_client_reads_them_too_and_nobody_elses_list_is_another(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as served,
        AsyncAnthropic(base_url=served.url, api_key="not-needed", max_retries=0) as client,
        AsyncOpenAI(base_url=f"{served.url}/v1", api_key="not-needed", max_retries=0) as openai,
    ):
        endless = ModelInfo("endless", "text-generation", created=10**17, capabilities=("vision",))
        served.family.answers.update({"alpha": [CHAT, EMBED], "beta": [SLASHED, endless]})
        _, plain, _ = await served.get("/v1/models")
        _, said, _ = await served.get("/v1/models", headers={"anthropic-version": "2023-06-01"})
        for each in said["data"]:
            AnthropicModel.model_validate(each)  # the client itself checks nothing
        assert said["has_more"] is False
        assert (said["first_id"], said["last_id"]) == ("alpha/chat", "beta/endless")
        listed = [model async for model in client.models.list(limit=1)]
        assert [model.id for model in listed] == await ids(served)
        found = await client.models.retrieve("alpha/chat")
        assert found == listed[0]
        assert (found.type, found.display_name, found.max_input_tokens) == ("model", "alpha/chat", 8192)
        assert [model.created_at.timestamp() for model in listed] == [1_700_000_000, 0, 0, 0]
        assert [model.to_dict() async for model in openai.models.list()] == plain["data"]
        assert plain.keys() == {"object", "data", "providers"}
        assert not plain["data"][0].keys() & {"display_name", "created_at"}
        none = await client.models.list(extra_query={"type": "text-reranking"})
        assert (none.data, none.has_more, none.first_id, none.last_id) == ([], False, None, None)


async def test_models_are_chosen_by_provider_and_type(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        offer(served)
        assert await ids(served, "?provider=beta") == ["beta/org/model:1"]
        assert served.family.asked == ["beta"]
        assert await ids(served, "?type=text-embedding") == ["alpha/embed"]
        assert await ids(served, "?type=text-generation") == ["alpha/chat", "beta/org/model:1"]
        assert await ids(served, "?provider=beta&type=text-embedding") == []


async def test_a_failing_provider_is_reported_and_hides_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.family.answers.update({"alpha": NOBODY, "beta": [SLASHED]})
        status, body, _ = await served.get("/v1/models")
        assert (status, len(body["data"])) == (200, 1)
        assert body["providers"] == [
            {"name": "alpha", "type": "llm", "model_count": 0, "status": "unavailable", "reason": "nobody there"},
            {"name": "beta", "type": "llm", "model_count": 1, "status": "available"},
        ]


@pytest.mark.parametrize(
    ("query", "status", "code"), [("?provider=gamma", 404, "provider_not_found"), ("?type=x", 400, None)]
)
async def test_what_does_not_exist_is_said(tmp_path: Path, query: str, status: int, code: str | None) -> None:
    async with serving(tmp_path) as served:
        found, body, _ = await served.get("/v1/models" + query)
        assert (found, body["error"]["code"]) == (status, code)


@pytest.mark.parametrize("name", ["beta/org/model:1", "alpha/chat", "org/model:1", "chat"])
async def test_one_model_by_its_whole_or_its_bare_name(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path) as served:
        offer(served)
        for path in (name, quote(name, safe="")):
            status, body, _ = await served.get("/v1/models/" + path)
            assert status == 200
            assert body["id"].endswith(name)


async def test_a_bare_name_means_the_default_providers(tmp_path: Path) -> None:
    async with serving(tmp_path, settings=Settings(data_dir=tmp_path, provider="beta")) as served:
        served.family.answers.update({"alpha": [CHAT], "beta": [CHAT]})
        assert (await served.get("/v1/models/chat"))[1]["id"] == "beta/chat"


@pytest.mark.parametrize("name", ["alpha/nothing", "gamma/chat", "both", "nothing"])
async def test_an_unknown_or_ambiguous_model_is_404_and_says_where_to_look(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path) as served:
        served.family.answers.update({"alpha": [ModelInfo("both")], "beta": [ModelInfo("both")]})
        status, body, _ = await served.get("/v1/models/" + name)
        assert (status, body["error"]["code"]) == (404, "model_not_found")
        assert "/v1/models" in body["error"]["message"]


async def test_what_a_silent_provider_has_is_not_denied(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.family.answers["alpha"] = NOBODY
        assert (await served.get("/v1/models/alpha/chat"))[0] == 503


async def test_openais_own_client_reads_both(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        offer(served)
        async with AsyncOpenAI(base_url=served.url + "/v1", api_key="not-needed", max_retries=0) as client:
            listed = [model.id async for model in client.models.list()]
            assert listed == ["alpha/chat", "alpha/embed", "beta/org/model:1"]
            assert (await client.models.retrieve("beta/org/model:1")).owned_by == "beta"
            with pytest.raises(NotFoundError) as refused:
                await client.models.retrieve("alpha/nothing")
            assert refused.value.code == "model_not_found"


async def test_providers_in_the_shape_that_users_know(tmp_path: Path) -> None:
    offered = {
        "alpha": provider("alpha"),
        "keyless": provider("keyless", needs_key=True, api_key_env="KEYLESS_API_KEY"),
        "probed": provider("probed", probed=True),
    }
    async with serving(tmp_path, offered=offered) as served:
        served.family.answers.update({"alpha": [CHAT, EMBED], "probed": NOBODY})
        _, body, _ = await served.get("/providers")
        alpha, keyless, probed = body["providers"]
        assert alpha == {"name": "alpha", "type": "llm", "model_count": 2, "status": "available"}
        assert (keyless["status"], keyless["reason"]) == ("not_configured", "KEYLESS_API_KEY is not set")
        assert probed["status"] == "unavailable"
        assert "http://probed.test/v1" in probed["reason"]
