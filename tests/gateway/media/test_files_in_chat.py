"""Files in chat requests on the real server: each provider gets what it can carry, the log what the model was given."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from eventstore.reader import Reader
from eventstore.rows import FILE
from tests.clients.front import MODELS, Front, front
from tests.gateway.media import made
from tests.gateway.scripted import Script, ScriptedServer

pytestmark = pytest.mark.asyncio(loop_scope="module")
PDF, BMP = made.data_url("application/pdf", made.pdf()), made.image("bmp")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def web() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        server.script("GET /a/report.csv", Script(b"a,Xylophone", content_type="text/csv"))
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory, web: ScriptedServer) -> AsyncIterator[Front]:
    folder = tmp_path_factory.mktemp("files")
    root = folder / "root"
    root.mkdir()
    (root / "notes.md").write_text("# Xylophone")
    (folder / "secret.txt").write_text("canary")
    hosts = web.base_url.removeprefix("http://")
    env = {"ABSTRACTCORE_FILE_URL_ALLOWLIST": hosts, "ABSTRACTCORE_FILES_ROOT": str(root)}
    async with front(folder, env=env) as started:
        yield started


async def chat(server: Front, provider: str, *content: Any) -> tuple[int, Any, list[dict[str, Any]]]:
    """Status, answer, and the contents that the provider was given, if it was called."""
    server.upstream.requests.clear()
    body = {"model": MODELS[provider], "max_tokens": 50}
    messages = [{"role": "user", "content": one if isinstance(one, str) else list(one)} for one in content]
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/chat/completions", json={**body, "messages": messages}) as answer,
    ):
        said = await answer.json()
    asked = server.asked(provider)
    return answer.status, said, asked[-1].json()["messages"] if asked else []


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def file(data: str, **more: str) -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": data, **more}}


def by_url(url: str) -> dict[str, Any]:
    return {"type": "file", "file_url": {"url": url}}


async def test_a_pdf_stays_one_where_the_provider_reads_it(server: Front) -> None:
    _, _, openai = await chat(server, "openai", [text("What?"), by_url(PDF)])
    assert openai[0]["content"][1] == file(PDF, filename="document.pdf")
    _, _, anthropic = await chat(server, "anthropic", [text("What?"), file(PDF, filename="r.pdf")])
    source = {"type": "base64", "media_type": "application/pdf", "data": PDF.partition(",")[2]}
    assert anthropic[0]["content"][1] == {"type": "document", "source": source, "title": "r.pdf"}


@pytest.mark.parametrize("provider", ["ollama", "lmstudio", "vllm", "openai-compatible"])
async def test_a_pdf_becomes_text_for_the_others(server: Front, provider: str) -> None:
    status, _, given = await chat(server, provider, [text("What?"), file(PDF, filename="r.pdf")])
    assert status == 200
    assert '<file name="r.pdf">' in str(given)
    assert made.WORD in str(given)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama"])
async def test_an_image_that_no_model_takes_becomes_png(server: Front, provider: str) -> None:
    part = {"type": "image_url", "image_url": {"url": made.data_url("image/bmp", BMP)}}
    status, _, given = await chat(server, provider, [part])
    assert status == 200
    assert b64encode(b"\x89PNG\r\n\x1a\n").decode()[:10] in str(given)


async def test_each_file_stays_with_its_message(server: Front) -> None:
    sheet = made.data_url("application/octet-stream", made.sheet())
    _, _, given = await chat(server, "openai", [by_url(sheet)], "And?", [by_url(made.data_url("text/csv", b"one,two"))])
    assert made.WORD in str(given[0])
    assert given[1]["content"] == "And?"
    assert given[2]["content"] == [text('<file name="document.csv">\none,two\n</file>')]


async def test_files_by_url_and_by_path_are_read_here_and_kept(server: Front, web: ScriptedServer) -> None:
    url = f"{web.base_url}/a/report.csv?sig=very-secret-signature"
    status, answer, given = await chat(server, "ollama", [by_url(url), by_url("notes.md")])
    assert status == 200, answer
    assert given[0]["content"].startswith('<file name="report.csv">\na,Xylophone\n</file>\n<file name="notes.md">')
    with Reader(Path(server.process.data_dir) / FILE) as reader:
        events = [e.body for e in reader.read(0, 10_000) if getattr(e, "type", "") == "file_attached"][-2:]
        assert [(e["source"], e["name"], e["given_as"]) for e in events] == [
            ("url", "report.csv", "text"),
            ("path", "notes.md", "text"),
        ]
        assert "very-secret-signature" not in str(events)
        assert reader.read_blob(bytes.fromhex(events[0]["digest"])) == b"a,Xylophone"


async def test_a_mention_is_a_file_only_where_there_is_one(server: Front) -> None:
    _, _, given = await chat(server, "ollama", "See @notes.md, @none.md, @../secret.txt and ada@example.com")
    assert given[0]["content"].count("<file") == 1
    assert "# Xylophone" in given[0]["content"]
    assert "canary" not in str(given)


@pytest.mark.parametrize(
    ("part", "status", "code"),
    [
        (by_url("../secret.txt"), 400, "file_not_found"),
        (by_url("/etc/passwd"), 400, "file_not_found"),
        (by_url("http://127.0.0.1:1/a"), 400, "url_not_allowed"),
        ({"type": "file", "file": {"file_id": "file-1"}}, 400, "file_id_not_known"),
        (file(made.data_url("application/zip", b"PK\x03\x04 nothing of ours")), 400, "bad_file_type"),
        ({"type": "image_url", "image_url": {"url": PDF}}, 400, "bad_file_type"),
        ({"type": "image_url", "image_url": {"url": made.data_url("image/png", made.pixel_bomb())}}, 400, "bad_file"),
        (by_url(made.data_url("a/b", made.zip_bomb(300 << 20))), 400, "bad_file"),
        (file(made.data_url("text/plain", b"x" * (10 * 1024 * 1024 + 1))), 413, "file_too_large"),
        ({"type": "file", "file": {}}, 400, None),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
async def test_what_cannot_be_used_is_refused_clearly(server: Front, part: Any, status: int, code: str | None) -> None:
    got, answer, given = await chat(server, "ollama", [text("What?"), part])
    assert (got, answer["error"]["code"], given) == (status, code, [])
    assert answer["error"]["param"].startswith("messages[0].content[1]")
    assert (await chat(server, "ollama", "Still there?"))[0] == 200


async def test_an_id_goes_to_its_provider_and_audio_as_it_is(server: Front) -> None:
    parts = [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "input_audio", "input_audio": {"data": b64encode(b"RIFF").decode(), "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
    ]
    assert (await chat(server, "openai", parts))[2][0]["content"] == parts


async def test_a_file_that_is_sent_again_is_stored_once(server: Front) -> None:
    data = made.pdf("word " * 400)
    part = file(made.data_url("application/pdf", data), filename="again.pdf")
    await chat(server, "openai", [text("one" * 600), part])
    await chat(server, "openai", [text("two" * 600), part])
    with Reader(Path(server.process.data_dir) / FILE) as reader:
        received = [e.body for e in reader.read(0, 10_000) if getattr(e, "type", "") == "request_received"][-2:]
        attached = [e.body for e in reader.read(0, 10_000) if getattr(e, "type", "") == "file_attached"][-2:]
    parts = [received[i]["body"]["messages"][0]["$parts"] for i in (0, 1)]
    assert parts[0]["1"] == parts[1]["1"]
    assert [e["digest"] for e in attached] == [hashlib.sha256(data).hexdigest()] * 2


async def test_what_else_a_part_says_stays(server: Front) -> None:
    url = made.data_url("image/png", made.image("png"))
    part = {"type": "image_url", "image_url": {"url": url, "detail": "low"}, "cache_control": {"type": "ephemeral"}}
    assert (await chat(server, "openai", [part]))[2][0]["content"] == [part]
