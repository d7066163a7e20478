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
from gateway.app import EXCHANGES, ROUTES
from gateway.docs.document import Document
from gateway.docs.operations import OPERATIONS
from gateway.edge import POSITION_HEADER, REQUEST_ID_HEADER
from gateway.exchange.alike import HEADER as ALIKE
from gateway.exchange.claims import AGE_HEADER, CACHE_HEADER, KEY_HEADER
from gateway.exchange.submit import CAP_HEADER, RETENTION_HEADER, SESSION_HEADER, TAGS_HEADER
from gateway.upstreams.http import HOP_HEADER
from gateway.wire.chat_request import EXTENSIONS
from gateway.wire.openai_chat_request import ChatRequest
from gateway.wire.thinking import LEVELS
from tests.gateway.serving import Settings, serving

FOLDER = Path("gateway/docs/assets")
PAGES_OF_ROUTES = [Path("README.md"), *Path("gateway").rglob("README.md")]
UNNAMED = frozenset({"x-request-id", "Retry-After"})
"""Headers that the pages name in passing, and many others do."""
WITHOUT_OWN_FIELDS = {
    "/v1/responses/input_tokens", "/v1/messages/count_tokens", "/v1beta/models", "/v1beta/models/{model}",
    "/v1/models/{model}:countTokens", "/v1beta/models/{model}:countTokens", "/v1/sessions/{id}/compact",
}  # fmt: skip
"""They generate nothing; the summary has fields of its own."""
GROUPS_LACK = {KEY_HEADER, CACHE_HEADER, AGE_HEADER, ALIKE}
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


def resolved(found: dict[str, Any]) -> dict[str, Any]:
    """What a reference of the document stands for."""
    while "$ref" in found:
        place: Any = DOCUMENT
        for step in found["$ref"].removeprefix("#/").split("/"):
            place = place[step]
        found = place
    return found


def headers_read(operation: dict[str, Any]) -> set[str]:
    given = [resolved(parameter) for parameter in operation["parameters"]]
    assert all(parameter["description"] for parameter in given if parameter["in"] == "header")
    return {parameter["name"].lower() for parameter in given if parameter["in"] == "header"}


def headers_told(operation: dict[str, Any], status: str) -> set[str]:
    told = resolved(operation["responses"][status])["headers"]
    assert all(resolved(header)["description"] for header in told.values())
    return set(told)


def test_the_headers_that_pages_name_are_in_the_document() -> None:
    pages = "\n".join(page.read_text() for page in PAGES_OF_ROUTES)
    named = set(re.findall(r"\b(?:x-abstractcore(?:-\w+)+|Idempotency-Key|idempotent-replayed|Last-Event-ID)\b", pages))
    components = DOCUMENT["components"]
    assert named - {HOP_HEADER} == {
        name for name in {*components["parameters"], *components["headers"]} if name not in UNNAMED
    }


def test_what_exchanges_read_and_tell_is_said_of_each_of_them() -> None:
    asked = {RETENTION_HEADER, SESSION_HEADER, TAGS_HEADER, CAP_HEADER, KEY_HEADER, CACHE_HEADER, AGE_HEADER, ALIKE}
    for path in EXCHANGES:
        operation = DOCUMENT["paths"][plain(path)].get("post")
        if operation is None or "x-abstractcore-estimated" in headers_told(operation, "200"):
            continue  # read only, or a count
        assert headers_read(operation) == asked - (GROUPS_LACK if path == "/v1/generate/multi" else set()), path
        assert headers_told(operation, "200") >= {REQUEST_ID_HEADER, POSITION_HEADER, "x-abstractcore-cost-usd"}
        assert "Retry-After" in headers_told(operation, "503")


def test_the_fields_of_the_gateways_own_are_in_the_document() -> None:
    shown = DOCUMENT["components"]["schemas"]
    named = {name for model in ("ChatRequest", "ChatFields") for name in shown[model]["properties"]}
    assert EXTENSIONS | {"thinking"} <= named
    assert set(shown["ChatFields"]["properties"]["thinking"]["anyOf"][0]["enum"]) == {"auto", "on", "off", *LEVELS}
    for path in EXCHANGES:
        body = DOCUMENT["paths"][plain(path)].get("post", {}).get("requestBody", {}).get("content", {})
        said = json.dumps(body.get("application/json", {}))
        assert "OwnFields" in said or "ChatFields" in said or path in WITHOUT_OWN_FIELDS, path


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
