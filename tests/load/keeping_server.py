"""The server with the deliberate bug that it keeps whatever a provider sends.

python -m tests.load.keeping_server ...
"""

from __future__ import annotations

from gateway.server import Server
from gateway.upstreams.http1 import Pool
from gateway.upstreams.http1_connection import Connection
from tests.otherserver import run

KEPT: list[bytes] = []


class Keeping(Connection):
    """Forgets nothing."""

    async def read(self) -> bytes:
        KEPT.append(await super().read())
        return KEPT[-1]


if __name__ == "__main__":
    Pool.connection = Keeping
    run(Server)
