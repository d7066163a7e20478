"""Sound in a chat: passed to who hears, made text for who does not, or refused; and what was heard is in the log."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.command_line import load
from gateway.config import ConfigError
from gateway.wire.multipart import is_file
from replay.cli import run as replay
from tests.gateway.scripted import Script, ScriptedServer
from tests.gateway.whole import COMPATIBLE, Gateway, gateway
from tests.spoilt import failure

SOUND = b"RIFF a few words"
SPOKEN = {"data": b64encode(SOUND).decode(), "format": "mp3"}
HEARING = {"ABSTRACTCORE_AUDIO": "transcribe", "ABSTRACTCORE_TRANSCRIBE_MODEL": "openai-compatible/whisper-1"}
HURRIED = ("--drain-timeout", "0")
TRANSCRIBE = "POST /v1/audio/transcriptions"
PATIENCE_S = 60.0


def chat(*sounds: dict[str, Any]) -> dict[str, Any]:
    parts = [{"type": "input_audio", "input_audio": sound} for sound in sounds]
    content = [{"type": "text", "text": "What do they say?"}, *parts]
    return {"model": "openai-compatible/m", "messages": [{"role": "user", "content": content}]}


def of_type(events: list[Any], type_: str) -> list[dict[str, Any]]:
    return [event.body for event in events if event.type == type_]


async def test_sound_is_made_text_by_a_request_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url, env=HEARING) as running:
        usage = {"type": "tokens", "input_tokens": 90, "output_tokens": 5, "total_tokens": 95}
        upstream.script(TRANSCRIBE, Script.json({"text": " Xylophone. ", "usage": usage}))
        upstream.script(COMPATIBLE, Script.file("openai/body.json"))
        answer = await running.ask(chat(SPOKEN))
        assert answer.status == 200
        form, told = upstream.requests
        assert (SOUND in form.body, b'filename="audio.mp3"' in form.body, b"whisper-1" in form.body) == (True,) * 3
        assert told.json()["messages"][0]["content"][1] == {"type": "text", "text": "<audio>\nXylophone.\n</audio>"}
        events = await running.ended(answer.headers["x-request-id"])
        [heard] = of_type(events, "audio_transcribed")
        assert (heard["text"], heard["part"], heard["size"]) == ("Xylophone.", "messages[0].content[1]", len(SOUND))
        assert [event.type for event in events].index("audio_transcribed") == 1
        end = await running.end_of(heard["transcription"])
        assert (end["type"], end["provider"], end["model"]) == ("request_completed", "openai-compatible", "whisper-1")
        assert heard.get("cost_usd") == end.get("cost_usd")
        [asked] = of_type(await running.events(heard["transcription"]), "request_received")
        assert is_file(asked["body"]["file"])
    assert replay(["verify", "--data-dir", str(tmp_path)], {}) == 0


async def test_an_endpoint_has_a_model_for_requests_that_name_none(tmp_path: Path) -> None:
    models = "audio/transcriptions = openai-compatible/whisper-1, moderations=openai-compatible/omni"
    env = {"ABSTRACTCORE_ENDPOINT_MODELS": models}
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url, env=env) as running:
        upstream.script(TRANSCRIBE, Script.json({"text": "Xylophone."}))
        upstream.script("POST /v1/moderations", Script.json({"id": "m", "results": []}))
        async with aiohttp.ClientSession(running.url) as client:
            form = aiohttp.FormData({"language": "en"})
            form.add_field("file", SOUND, filename="speech.wav")
            async with client.post("/v1/audio/transcriptions", data=form) as heard:
                assert (heard.status, await heard.json()) == (200, {"text": "Xylophone."})
            for named, used in ((None, "omni"), ("openai-compatible/other", "other")):
                body = {"input": "Is this bad?"} | ({"model": named} if named else {})
                async with client.post("/v1/moderations", json=body) as judged:
                    assert judged.status == 200
                assert upstream.requests[-1].json()["model"] == used
            assert b"whisper-1" in upstream.requests[0].body
            async with client.post("/v1/audio/speech", json={"input": "Hello!"}) as unspoken:
                assert (unspoken.status, (await unspoken.json())["error"]["param"]) == (400, "model")


async def test_what_cannot_be_heard_ends_the_request_before_its_call(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url, env=HEARING) as running:
        for status, expected in ((400, 400), (500, 502)):
            upstream.script(TRANSCRIBE, Script.json({"error": {"message": "no sound"}}, status=status))
            answer = await running.ask(chat(SPOKEN))
            error = answer.json()["error"]
            assert (answer.status, error["code"]) == (expected, "audio_not_transcribed")
            assert error["param"] == "messages[0].content[1]"
        assert (await running.end_of(answer.headers["x-request-id"]))["type"] == "request_rejected"
        assert {f"{request.method} {request.path}" for request in upstream.requests} == {TRANSCRIBE}


async def test_what_may_not_be_kept_is_not(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url, env=HEARING) as running:
        upstream.script(TRANSCRIBE, Script.json({"text": "Xylophone"}))
        upstream.script(COMPATIBLE, Script.file("openai/body.json"))
        answer = await running.ask(chat(SPOKEN), **{"x-abstractcore-retention": "none"})
        [heard] = of_type(await running.ended(answer.headers["x-request-id"]), "audio_transcribed")
        assert "text" not in heard
        await running.ended(heard["transcription"])
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"Xylophone" not in stored
    assert SPOKEN["data"].encode() not in stored


async def test_who_leaves_meanwhile_ends_both(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url, *HURRIED, env=HEARING) as running:
        upstream.script(TRANSCRIBE, Script(b"{", hold=True))
        asked = asyncio.create_task(running.ask(chat(SPOKEN)))
        chat_, hearing = await _both(running, upstream)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        end = await running.end_of(chat_)
        assert (end["type"], end["reason"]) == ("request_cancelled", "client_left")
        end = (await running.events(hearing))[-1].body  # it ended first
        assert (end["type"], end.get("reason")) == ("request_cancelled", "client_left")


async def _both(running: Gateway, upstream: ScriptedServer) -> list[str]:
    """The ids of the chat and of its transcription, once the latter is under way."""
    async with asyncio.timeout(PATIENCE_S):
        while not upstream.requests:
            await asyncio.sleep(0.01)
    names = {r.submission.endpoint: r.submission.request_id for r in running.server.exchanges.open}
    assert len(names) == 2
    return [names["/v1/chat/completions"], names["/v1/audio/transcriptions"]]


async def test_a_sound_is_heard_once_however_many_models_are_asked(tmp_path: Path) -> None:
    """The first has no price to hold the cap by, the second fails, the third answers."""
    members = '["openai-compatible/m", "openai/gpt-4o-mini", "openai/gpt-4.1-nano"]'
    (tmp_path / "models.toml").write_text(f"[models.auto]\nmembers = {members}\nmax_cost_usd = 1")
    async with ScriptedServer() as upstream:
        env = {**HEARING, "OPENAI_API_KEY": "sk-ours", "OPENAI_BASE_URL": f"{upstream.base_url}/v1"}
        args = ("--config", str(tmp_path / "models.toml"))
        async with gateway(tmp_path / "logs", upstream.base_url, *args, env=env) as running:
            upstream.script(TRANSCRIBE, Script.json({"text": "Xylophone"}))
            upstream.script(COMPATIBLE, Script(b"{}", status=503), Script.file("openai/text.sse"))
            answer = await running.ask({**chat(SPOKEN, SPOKEN), "model": "auto"})
            events = await running.ended(answer.headers["x-request-id"])
            assert answer.status == 200
            calls = [request for request in upstream.requests if request.path == COMPATIBLE.split()[1]]
            assert [call.json()["model"] for call in calls] == ["gpt-4o-mini", "gpt-4.1-nano"]
            assert b"Xylophone" in calls[0].body
            assert calls[0].json()["messages"] == calls[1].json()["messages"]
            heard = [request for request in upstream.requests if request.path == TRANSCRIBE.split()[1]]
            assert len(heard) == len(of_type(events, "audio_transcribed")) == 2  # one for each sound


async def test_no_sound_is_heard_for_a_model_that_cannot_be_called(tmp_path: Path) -> None:
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url, env=HEARING) as running:
        assert (await running.ask({**chat(SPOKEN), "model": "openai/gpt-4o-mini"})).status == 401
        assert upstream.requests == []


@pytest.mark.parametrize(("strategy", "status"), [("native", 200), ("refuse", 400)])
async def test_the_other_ways(tmp_path: Path, strategy: str, status: int) -> None:
    env = {"ABSTRACTCORE_AUDIO": strategy}
    async with ScriptedServer() as upstream, gateway(tmp_path, upstream.base_url, env=env) as running:
        upstream.script(COMPATIBLE, Script.file("openai/body.json"))
        assert (await running.ask(chat(SPOKEN))).status == status
        told = [request.json()["messages"][0]["content"][1]["input_audio"] for request in upstream.requests]
        assert told == ([SPOKEN] if status == 200 else [])


def test_transcribing_needs_a_model() -> None:
    with pytest.raises(ConfigError, match="ABSTRACTCORE_TRANSCRIBE_MODEL"):
        load([], {"ABSTRACTCORE_AUDIO": "transcribe"})


@pytest.mark.parametrize(
    ("bug", "test", "said"),
    [
        ("keeps_words", "test_what_may_not_be_kept_is_not", "assert 'text' not in"),
        ("keeps_sound", "test_what_may_not_be_kept_is_not", "assert b'Xylophone' not in"),
        ("leaves_it_running", "test_who_leaves_meanwhile_ends_both", "'generation_started'"),
        ("hears_again", "test_a_sound_is_heard_once_however_many_models_are_asked", "assert 6 == 4"),
    ],
)
async def test_twin_that_hears_carelessly(bug: str, test: str, said: str) -> None:
    told = await asyncio.to_thread(failure, "tests.endpoints.careless", bug, f"endpoints/test_audio.py::{test}")
    assert said in told
