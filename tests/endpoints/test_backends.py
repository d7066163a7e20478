"""A backend of an installed package, in the real server: its requests are exchanges like any other."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from gateway.config import ConfigError
from gateway.upstreams.backends import load_backends
from tests.clients.front import front

PACKAGE = """
from gateway.upstreams.backends import BackendError

class Painter:
    wires = ("images_generations", "audio_speech")

    def models(self):
        return ["oil"]

    async def answer(self, wire, model, body):
        if wire == "audio_speech":
            return b"sound of " + body["input"].encode()
        if body["prompt"] == "nothing":
            raise BackendError(422, "there is nothing to paint")
        return b'{"created": 1, "data": [{"b64_json": "aGk="}]}'
"""


def install(where: Path) -> dict[str, str]:
    """A package as pip leaves it; gives the variables of a server that finds it."""
    metadata = where / "painter-1.dist-info"
    metadata.mkdir(parents=True)
    (where / "painter.py").write_text(PACKAGE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: painter\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[abstractcore.backends]\npainter = painter:Painter\n")
    return {"PYTHONPATH": str(where)}


async def test_a_backend_serves_what_it_offers(tmp_path: Path) -> None:
    env = install(tmp_path / "packages")
    args = ("--nats", "off", "--backends", "painter")
    async with (
        front(tmp_path, args=args, env=env) as server,
        AsyncOpenAI(base_url=server.url, api_key="x", max_retries=0) as client,
    ):
        raw = await client.images.with_raw_response.generate(model="painter/oil", prompt="a cat")
        assert raw.parse().data[0].b64_json == "aGk="  # type: ignore[index]
        speech = await client.audio.speech.create(model="painter/oil", voice="x", input="hi")
        assert speech.content == b"sound of hi"
        with pytest.raises(openai.UnprocessableEntityError, match="nothing to paint"):
            await client.images.generate(model="painter/oil", prompt="nothing")
        with pytest.raises(openai.InternalServerError) as other:
            await client.embeddings.create(model="painter/oil", input="a")
        assert other.value.status_code == 501
        with pytest.raises(openai.BadRequestError, match="does not chat"):
            await client.chat.completions.create(model="painter/oil", messages=[{"role": "user", "content": "hi"}])
        assert "painter/oil" in [model.id async for model in client.models.list()]
        request_id = raw.headers["x-request-id"]
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/requests/{request_id}/events") as got:
            types = [json.loads(json.dumps(event))["type"] for event in (await got.json())["data"]]
    assert [one for one in types if one != "token_generated"] == [
        "request_received", "route_selected", "generation_started", "generation_completed", "request_completed"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["nobody", "openai"])
def test_what_nobody_offers_or_is_taken_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load_backends([name], ["openai"])
