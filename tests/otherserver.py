"""A server of another class than the real one (with a bug put in, or with less patience) as a process of its own.

if __name__ == "__main__":
    run(Careless)

It takes the arguments of the real one and says where it listens as the real one does: see `serverprocess.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import uvloop

from gateway.__main__ import greet
from gateway.command_line import load
from gateway.server import Server


def run(kind: type[Server], args: Sequence[str] | None = None) -> NoReturn:
    """Run one until it is killed, or its log can write no more; `args` are those of this process unless given."""
    server = kind(load(sys.argv[1:] if args is None else args, os.environ))
    sys.exit(uvloop.run(_serve(server)))


async def _serve(server: Server) -> int:
    await server.start()
    await greet(server, None)
    await server.wait()
    await server.stop()
    return server.exit_code
