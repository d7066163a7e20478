"""Bugs put in on purpose (see `tests/spoilt.py`): each lets a web page in that has no business here."""

from __future__ import annotations

from aiohttp import web

from gateway import server
from gateway.api import stream_socket
from gateway.auth import ANONYMOUS, Authenticator


def any_origin() -> None:
    """A WebSocket is a GET, and the door lets every page look."""
    setattr(stream_socket, "check_origin", lambda method, headers: None)  # noqa: B010  mypy would mind the name


def no_ticket() -> None:
    """Nobody is asked for a key."""
    setattr(Authenticator, "identify", lambda *_: ANONYMOUS)  # noqa: B010


def readable() -> None:
    """Every page may read what it gets."""
    made = server.make_app

    async def allow(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Access-Control-Allow-Origin"] = "*"

    def make_app(*given: object) -> web.Application:
        app = made(*given)  # type: ignore[arg-type]
        app.on_response_prepare.append(allow)
        return app

    setattr(server, "make_app", make_app)  # noqa: B010


BUGS = {bug.__name__: bug for bug in (any_origin, no_ticket, readable)}
