"""The documents: every route is in them and nothing else; they need no key; the pages load nothing from elsewhere."""

from __future__ import annotations

import gzip
import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from jsonschema import Draft202012Validator

from gateway.api import docs
from gateway.app import ROUTES
from gateway.docs.document import Document
from gateway.docs.operations import OPERATIONS
from gateway.wire.openai_chat_request import ChatRequest
from tests.gateway.serving import Settings, serving

FOLDER = Path("gateway/docs/assets")
DOCUMENT: dict[str, Any] = json.loads(Document(ROUTES).data)
ELSEWHERE = re.compile(rb"""(?:src|href)=["'](?!/)|@import|url\(["']?http""")


def names(document: dict[str, Any]) -> set[str]:
    return {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}


def plain(path: str) -> str:
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", path)


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    assert names(DOCUMENT) == {f"{route.method} {plain(route.path)}" for route in ROUTES}
    assert OPERATIONS.keys() <= names(DOCUMENT)  # nothing is said of a route that is gone


def test_a_route_that_nobody_described_is_in_it_all_the_same() -> None:
    async def later(request: web.Request) -> web.Response:
        """POST /v1/later/{id}: something new

        And how."""
        raise NotImplementedError

    document = json.loads(Document([web.post(r"/v1/later/{id:\d+}", later)]).data)
    said = document["paths"]["/v1/later/{id}"]["post"]
    assert (said["summary"], said["description"], said["parameters"][0]["name"]) == ("Something new", "And how.", "id")
    assert said["requestBody"]["content"]["application/json"]["schema"] == {"type": "object"}


def test_the_document_is_made_of_the_types_that_check_requests() -> None:
    shown = DOCUMENT["components"]["schemas"]["ChatRequest"]
    assert shown["properties"].keys() == ChatRequest.__annotations__.keys()
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(DOCUMENT)))
    assert references <= DOCUMENT["components"]["schemas"].keys()


def test_every_operation_has_words_a_chapter_and_an_id_of_its_own() -> None:
    said = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert all(operation["summary"] and operation["tags"] for operation in said)
    assert len({operation["operationId"] for operation in said}) == len(said)


@pytest.mark.parametrize("name", [name for name, said in OPERATIONS.items() if said.example])
def test_the_examples_are_what_the_routes_take(name: str) -> None:
    method, path = name.split(" ")
    content = DOCUMENT["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]
    schema = {**content["schema"], "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(content["example"])


PAGES = {"/": "text/html", "/docs": "text/html", "/redoc": "text/html", "/openapi.json": "application/json"}


async def test_the_documents_need_no_key_and_call_nobody_else(tmp_path: Path) -> None:
    async with serving(tmp_path, settings=Settings(data_dir=tmp_path, api_key="a-key-long-enough")) as served:
        for path, kind in PAGES.items():
            async with served.client.get(served.url + path) as answer:
                assert (answer.status, answer.content_type) == (200, kind)
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                for asset in re.findall(rb'(?:src|href)="(/docs/assets/[^"]+)"', await answer.read()):
                    async with served.client.get(served.url + asset.decode()) as found:
                        assert (found.status, found.headers["X-Content-Type-Options"]) == (200, "nosniff")
        assert (await served.get("/v1/models"))[0] == 401
        assert (await served.get("/docs/assets/nothing.js"))[0] == 404
        assert (await served.get("/docs/assets/..%2f__init__.py"))[0] == 404


async def test_what_is_kept_compressed_is_read_by_everybody(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        read = []
        for accepted in ("gzip", "identity"):
            async with served.client.get(
                f"{served.url}/docs/assets/swagger-ui.css", headers={"Accept-Encoding": accepted}
            ) as answer:
                assert answer.headers.get("Content-Encoding", "identity") == accepted
                read.append(await answer.read())
        assert read[0] == read[1] == gzip.decompress((FOLDER / "swagger-ui.css.gz").read_bytes())


def test_the_pages_load_nothing_from_elsewhere() -> None:
    for path in [*FOLDER.glob("*.html"), *FOLDER.glob("*.css"), FOLDER / "docs.js", FOLDER / "redoc.js"]:
        assert not ELSEWHERE.search(path.read_bytes()), path
    assert ELSEWHERE.search(b'<script src="https://cdn.example/x.js">')


def test_foreign_files_are_as_their_makers_released_them() -> None:
    rows = re.findall(r"\| `(\S+\.gz)` .*`([0-9a-f]{64})`", (FOLDER / "README.md").read_text())
    assert {name for name, _ in rows} == {path.name for path in FOLDER.glob("*.gz")}
    for name, digest in rows:
        assert sha256(gzip.decompress((FOLDER / name).read_bytes())).hexdigest() == digest
    assert docs.assets().keys() >= {"docs.html", "redoc.html", "index.html", "swagger-ui-bundle.js"}
