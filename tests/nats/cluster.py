"""Three servers on this machine that are one cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
from nats.js.api import StreamConfig

from tests.natsd import Natsd
from tests.ports import free_port

READY_WITHIN_S = 60.0


class Cluster:
    """The members; each keeps its ports and its store."""

    def __init__(self, members: Sequence[Natsd]) -> None:
        self.members = members

    @property
    def urls(self) -> list[str]:
        return [member.url for member in self.members]

    async def make_streams(self, subjects: dict[str, list[str]]) -> None:
        """These streams with three replicas each, as an operator would make them; waits until the cluster can."""
        async with asyncio.timeout(READY_WITHIN_S):
            while True:
                client = await nats.connect(self.urls)
                try:
                    for name, listed in subjects.items():
                        await client.jetstream().add_stream(StreamConfig(name=name, subjects=listed, num_replicas=3))
                    return
                except nats.errors.Error:
                    await asyncio.sleep(0.1)  # no leader yet
                finally:
                    await client.close()

    async def replicas(self, stream: str) -> int:
        """How many the stream is configured to have."""
        client = await nats.connect(self.urls)
        try:
            return (await client.jetstream().stream_info(stream)).config.num_replicas or 0
        finally:
            await client.close()

    async def leader(self, stream: str) -> Natsd:
        """The member that leads this stream."""
        client = await nats.connect(self.urls)
        try:
            info = await client.jetstream().stream_info(stream)
            assert info.cluster is not None
            return next(member for member in self.members if member.directory.name == info.cluster.leader)
        finally:
            await client.close()


@asynccontextmanager
async def cluster(directory: Path) -> AsyncIterator[Cluster]:
    """A cluster that runs; whether it can store anything yet, `make_streams` finds out."""
    names = ("one", "two", "three")
    ports = [free_port() for _ in names]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    members = [
        Natsd(
            directory / name,
            more=f'server_name: "{name}"\ncluster {{ name: "test", listen: "127.0.0.1:{port}", routes: [{routes}] }}',
        )
        for name, port in zip(names, ports, strict=True)
    ]
    try:
        for member in members:
            await asyncio.to_thread(member.start)
        yield Cluster(members)
    finally:
        for member in members:
            member.kill()
