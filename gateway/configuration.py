"""The file of virtual models: read at start, and again when it changes. A change that cannot be used changes nothing,
and is said on standard error and by /health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from eventstore.catalogue.control import ConfigurationLoaded
from eventstore.value import value
from gateway.config import ConfigError
from gateway.routing.virtual import BadConfiguration, Virtual, parse

LOOK_S = 2.0
"""How often it is looked at."""
EMPTY = sha256(b"").hexdigest()
"""Of a file that is being written anew: whoever wants no virtual models says so, if only in a comment."""

Stamp = tuple[int, int, int]
Say = Callable[[ConfigurationLoaded], Awaitable[None]]
Prepare = Callable[[Iterable[Virtual]], Awaitable[None]]
"""Makes ready what virtual models need before they hold. Raises `BadConfiguration`."""

logger = logging.getLogger(__name__)


@value
class Loaded:
    """What a file said: its virtual models by name, and sha256 of its bytes."""

    models: Mapping[str, Virtual]
    digest: str


class Configuration:
    """`loaded` is what holds. `problem` is why the file as it is now is not that, None where it is."""

    look_s = LOOK_S
    """Tests look more often."""

    def __init__(self, path: Path, strategies: Collection[str], say: Say) -> None:
        self._path, self._strategies, self._say = path, strategies, say
        self._prepare: Prepare = _nothing
        self._stamp: Stamp | None = None
        self.loaded = Loaded({}, "")
        self.problem: str | None = None

    @property
    def models(self) -> Mapping[str, Virtual]:
        """Those that hold now, by name."""
        return self.loaded.models

    def load(self) -> None:
        """Take over what it says at start. Raises `ConfigError`."""
        try:
            self._stamp = self._stamped()
            self.loaded = self._read()
        except (OSError, BadConfiguration) as error:
            raise ConfigError(f"--config: {self._path} cannot be used: {_said(error)}") from error

    async def announce(self, prepare: Prepare) -> None:
        """Record what holds at start; `prepare` from now on. Raises `ConfigError`."""
        self._prepare = prepare
        try:
            await self._take(self.loaded)
        except BadConfiguration as error:
            raise ConfigError(f"--config: {self._path} cannot be used: {error}") from error

    async def watch(self) -> None:
        """For ever: take over what the file says, whenever it changes."""
        while True:
            await asyncio.sleep(self.look_s)
            if (found := await asyncio.to_thread(self._look)) is not None:
                await self._change(found)

    async def _change(self, found: Loaded) -> None:
        stamp, self._stamp = self._stamp, None  # looked at again, unless it is taken or refused
        try:
            await self._take(found)
        except BadConfiguration as error:
            self._refuse(stamp, str(error))
        else:
            self._stamp = stamp
            logger.info("%s says now: %s", self._path, ", ".join(sorted(found.models)) or "nothing")

    async def _take(self, found: Loaded) -> None:
        """From now on this holds: no request goes by it before that is recorded. Raises `BadConfiguration`."""
        await self._prepare(found.models.values())
        await self._say(ConfigurationLoaded(digest=found.digest, models=sorted(found.models)))
        self.loaded = found

    def _look(self) -> Loaded | None:
        """What the file says, where that is something else than what holds, and can be used."""
        try:
            if (stamp := self._stamped()) == self._stamp:
                return None
            found = self._read()
        except OSError as error:  # an editor may be writing it: looked at again, whatever it is then
            self._refuse(None, _said(error))
            return None
        except BadConfiguration as error:
            self._refuse(stamp, _said(error))
            return None
        if found.digest == EMPTY != self.loaded.digest:
            self._refuse(stamp, "it is empty")
            return None
        self._stamp, self.problem = stamp, None
        return None if found.digest == self.loaded.digest else found

    def _refuse(self, stamp: Stamp | None, why: str) -> None:
        if why != self.problem:
            logger.warning("%s cannot be used as it is now, and what it said before holds: %s", self._path, why)
        self._stamp, self.problem = stamp, why

    def _read(self) -> Loaded:
        raw = self._path.read_bytes()
        return Loaded(parse(raw, self._strategies), sha256(raw).hexdigest())

    def _stamped(self) -> Stamp:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino


def _said(error: OSError | BadConfiguration) -> str:
    """In words without the server's paths, as /health shows them too."""
    return (error.strerror or "it cannot be read") if isinstance(error, OSError) else str(error)


async def _nothing(models: Iterable[Virtual]) -> None:
    """They need nothing."""
