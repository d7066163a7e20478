"""The file of virtual models: read at start, and again when it changes. A change that cannot be used changes nothing,
and is said in the log and by /health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from hashlib import sha256
from pathlib import Path

from eventstore.catalogue.control import ConfigurationLoaded
from gateway.config import ConfigError
from gateway.routing.virtual import BadConfiguration, Virtual, parse

LOOK_S = 2.0
"""How often it is looked at."""

Stamp = tuple[int, int, int]
Say = Callable[[ConfigurationLoaded], Awaitable[None]]

logger = logging.getLogger(__name__)


class Configuration:
    """What the file says: `models`, by name, and the `digest` (sha256) of what was read. `problem` is why the file
    as it is now is not what holds, None where it is."""

    look_s = LOOK_S
    """Tests look more often."""

    def __init__(self, path: Path, strategies: Collection[str], say: Say) -> None:
        self._path, self._strategies, self._say = path, strategies, say
        self._stamp: Stamp | None = None
        self.models: Mapping[str, Virtual] = {}
        self.digest = ""
        self.problem: str | None = None

    def load(self) -> None:
        """At start. Raises `ConfigError`."""
        try:
            self._stamp = self._stamped()
            self._read()
        except (OSError, BadConfiguration) as error:
            raise ConfigError(f"--config: {self._path} cannot be used: {error}") from error

    async def announce(self) -> None:
        """Record what holds from now on."""
        await self._say(ConfigurationLoaded(digest=self.digest, models=sorted(self.models)))

    async def watch(self) -> None:
        """For ever: take over what the file says, whenever it changes."""
        while True:
            await asyncio.sleep(self.look_s)
            if await asyncio.to_thread(self._changed):
                logger.info("%s says now: %s", self._path, ", ".join(sorted(self.models)) or "nothing")
                await self.announce()

    def _changed(self) -> bool:
        """Whether another configuration holds than when it was last looked."""
        before = self.digest
        try:
            if (stamp := self._stamped()) == self._stamp:
                return False
            self._stamp = stamp
            self._read()
        except (OSError, BadConfiguration) as error:
            self._stamp = None if isinstance(error, OSError) else self._stamp
            self._refuse(error.strerror or "it cannot be read" if isinstance(error, OSError) else str(error))
            return False
        self.problem = None
        return self.digest != before

    def _refuse(self, why: str) -> None:
        if why != self.problem:
            logger.warning("%s cannot be used as it is now, and what it said before holds: %s", self._path, why)
        self.problem = why

    def _read(self) -> None:
        raw = self._path.read_bytes()
        self.models = parse(raw, self._strategies)
        self.digest = sha256(raw).hexdigest()

    def _stamped(self) -> Stamp:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino
