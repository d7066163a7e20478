"""`python -m gateway.follower FD`: started by the gateway, with one end of a socket pair as file descriptor FD."""

from __future__ import annotations

import logging
import os
import socket
import sys

import uvloop

from gateway.follower.channel import Channel
from gateway.follower.process import Process

NICENESS = 10


async def follow(sock: socket.socket) -> None:
    """Take the task from the gateway, and do it."""
    channel = await Channel.over(sock)
    task = await channel.receive()
    if task is None:
        return
    logging.basicConfig(
        level=task["log_level"].upper(), format="%(asctime)s %(levelname)s follower %(name)s: %(message)s"
    )
    await Process(channel, task).run()


def main() -> None:
    """Run at low priority until told to stop, or left alone."""
    os.nice(NICENESS)
    uvloop.run(follow(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
