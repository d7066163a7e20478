"""Ports for servers that are told theirs: chosen now, listened on later, and again after a restart.

The kernel gives whoever asks for any port, and every outgoing connection, one of its own range (32768 and up, where
nobody has changed that). So these are below it: no test that runs meanwhile is given one of them by chance.
"""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _COUNT = 10_000, 20_000
_numbers = itertools.count(os.getpid() * 131)
"""Processes that run side by side begin at different places."""


def free_port() -> int:
    """One on 127.0.0.1 that nobody has, and that this process gives out once."""
    while True:
        port = _FIRST + next(_numbers) % _COUNT
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
