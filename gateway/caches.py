"""The caches beside the log, as the settings want them: none, unless they say so."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventstore.log import Log
from gateway.config import ConfigError, Settings
from gateway.embedder import CannotEmbed, Embedder
from gateway.exchange.elsewhere import Elsewhere
from gateway.upstreams.local.family import EMBEDDING
from gateway.upstreams.local.host import Host

if TYPE_CHECKING:
    from gateway.nearest import Nearest
    from gateway.redis_answers import RedisAnswers


@dataclass(frozen=True, slots=True)
class Caches:
    """`elsewhere`: answers that gateways share by `redis`."""

    redis: RedisAnswers | None = None
    elsewhere: Elsewhere | None = None

    def ails(self) -> list[str]:
        """What is not well, in words for everybody."""
        if self.redis is None:
            return []
        if not self.redis.well:
            return ["redis: it cannot be reached"]
        return [] if self.redis.willing else ["redis: it refuses what it is asked"]


def open_nearest(settings: Settings, log: Log, host: Host) -> Nearest | None:
    """What finds questions that are alike, if the settings want it. Raises `ConfigError` where packages are missing."""
    if not settings.semantic_cache:
        return None
    library = EMBEDDING[settings.embedding_backend]
    embedder = Embedder(host, library, settings.embedding_model, settings.models_root)
    try:
        embedder.check()
    except CannotEmbed as error:
        raise ConfigError(f"--semantic-cache: {error}") from error
    from gateway.nearest import Nearest  # numpy comes with those packages

    return Nearest(log, embedder, settings.embedding_model)


async def open_caches(settings: Settings, log: Log, opened: AsyncExitStack) -> Caches:
    """What the settings name, and on `opened` how to close it. A Redis that is away is no error: it shows in health."""
    if settings.redis_url is None:
        return Caches()
    from gateway.redis_answers import RedisAnswers, secret_of  # its package is an extra

    redis = RedisAnswers(settings.redis_url, await asyncio.to_thread(secret_of, settings.api_key))
    opened.push_async_callback(redis.close)
    await redis.ping()
    opened.callback(asyncio.create_task(redis.watch()).cancel)
    elsewhere = Elsewhere(log, redis, settings.cache_max_age_s)
    opened.push_async_callback(elsewhere.close)
    return Caches(redis, elsewhere)
