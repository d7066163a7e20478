"""The interactive documents: /openapi.json, /docs (Swagger UI), /redoc, and their files, all out of this package.

The pages need no key, as a browser cannot send one with them; what they try out does. They may load and call nothing
but this server.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files

from aiohttp import web

from gateway.docs.document import Document
from gateway.errors import NotFound

DOCUMENT = web.AppKey("document", Document)
ASSETS = files("gateway.docs") / "assets"
TYPES = {"js": "text/javascript", "css": "text/css", "html": "text/html"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OURS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}


async def index(request: web.Request) -> web.Response:
    """What there is, for somebody who opens the server in a browser"""
    return _file(request, "index.html")


async def swagger(request: web.Request) -> web.Response:
    """Every route to read and to try out (Swagger UI)"""
    return _file(request, "docs.html")


async def redoc(request: web.Request) -> web.Response:
    """Every route to read (Redoc)"""
    return _file(request, "redoc.html")


async def asset(request: web.Request) -> web.Response:
    """A script or a style of these pages"""
    return _file(request, request.match_info["name"])


async def openapi(request: web.Request) -> web.Response:
    """Every route as OpenAPI 3.1, made from the code"""
    return web.Response(body=request.app[DOCUMENT].data, content_type="application/json", headers=_OURS)


def _file(request: web.Request, name: str) -> web.Response:
    """One of the files; what is kept compressed goes so to those who take it."""
    kept = assets().get(name)
    if kept is None:
        raise NotFound(f"There is no file {name[:80]!r} here.", code="not_found")
    headers, body = dict(_OURS), kept
    if kept[:2] == b"\x1f\x8b":
        headers["Vary"] = "Accept-Encoding"
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
        else:
            body = gzip.decompress(kept)
    return web.Response(body=body, content_type=TYPES[name.rpartition(".")[2]], charset="utf-8", headers=headers)


@cache
def assets() -> dict[str, bytes]:
    """Every file that is served, by the name that it is served under, those that are kept compressed as they are."""
    named = {path.name.removesuffix(".gz"): path for path in ASSETS.iterdir()}
    return {name: path.read_bytes() for name, path in named.items() if name.rpartition(".")[2] in TYPES}
