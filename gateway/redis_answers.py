"""Redis, where there is one: answers that gateways with the same API key have for each other.

It only ever helps. An operation has a tenth of a second; after one that failed Redis is left alone until it answers a
ping again. What stands in it was asked by nobody who can be named: keys are digests, made with a secret that is
derived from the gateway's API key, and every value is signed with it, so that only a gateway with that key can find
an answer, or have one taken for an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

PREFIX = "abstractcore:answer:"
SIGNATURE = hashlib.sha256().digest_size
PUT_S = 5.0
"""Seconds that a value may take on its way there: nobody waits for it."""
LONGEST_S = 10 * 365 * 24 * 3600.0
"""Seconds for which a value is kept at most: Redis takes no such time as "for ever"."""
GETS, PUTS = 32, 8
"""How many operations may be under way; others wait for their turn before their time runs."""

logger = logging.getLogger(__name__)


def secret_of(api_key: str | None) -> bytes:
    """What names and signs the answers of gateways with this API key. Slow by design (some 50 ms), so that nobody who
    reads Redis can try many keys."""
    return hashlib.scrypt((api_key or "").encode(), salt=b"abstractcore answers", n=1 << 14, r=8, p=1, dklen=32)


class RedisAnswers:
    """A store of bytes by digest, with an age at which they go. `well`: whether it is used at the moment; `willing`:
    whether it did what it was asked last, as one that is full does not."""

    patience_s = 0.1
    heal_s = 1.0
    """How long an operation that somebody waits for may take, and how often a Redis that failed is asked again."""

    def __init__(self, url: str, secret: bytes) -> None:
        self._secret = secret
        self._redis = Redis.from_url(
            url,
            socket_timeout=PUT_S,
            socket_connect_timeout=self.patience_s,
            retry=Retry(NoBackoff(), 1),  # a connection that was closed while it was idle says so at its next use
            max_connections=GETS + PUTS + 1,
        )
        self._gets, self._puts = asyncio.Semaphore(GETS), asyncio.Semaphore(PUTS)
        self.well = self.willing = True

    async def get(self, digest: str) -> bytes | None:
        """What a gateway with this API key put there; None where there is nothing, or no Redis."""
        name = self._name(digest)
        async with self._gets:
            found = await self._get(name) if self.well else None
        return None if found is None else self._checked(name, found)

    async def put(self, digest: str, value: bytes, age_s: float) -> None:
        """Keep it for so many seconds, unless Redis fails."""
        name = self._name(digest)
        signed = self._signature(name, value) + value
        async with self._puts:
            if self.well:
                await self._put(name, signed, max(1, round(min(age_s, LONGEST_S) * 1000)))

    async def _get(self, name: str) -> bytes | None:
        try:
            async with asyncio.timeout(self.patience_s):
                found = await self._redis.get(name)
        except ResponseError as error:
            self._refused(error)
            return None
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        return found if isinstance(found, bytes) else None

    async def _put(self, name: str, signed: bytes, age_ms: int) -> None:
        try:
            async with asyncio.timeout(PUT_S):
                await self._redis.set(name, signed, px=age_ms)
            self.willing = True
        except ResponseError as error:
            self._refused(error)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)

    async def ping(self) -> None:
        """Look whether it is there."""
        try:
            async with asyncio.timeout(self.patience_s):
                await self._redis.ping()
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
        else:
            self.well = True

    async def watch(self) -> None:
        """Ask a Redis that failed whether it is back, for ever."""
        while True:
            await asyncio.sleep(self.heal_s)
            if not self.well:
                await self.ping()
                if self.well:
                    logger.info("Redis is back")

    async def close(self) -> None:
        """Close its connections."""
        self.well = False
        await self._redis.aclose()

    def _failed(self, error: Exception) -> None:
        """Its text stays out of the log: it may quote what was sent."""
        if self.well:
            logger.warning("Redis failed (%s): answers are not shared until it is back", type(error).__name__)
        self.well = False

    def _refused(self, error: ResponseError) -> None:
        """It is there, and may do the next thing that it is asked."""
        if self.willing:
            logger.warning("Redis refuses what it is asked (%s)", type(error).__name__)
        self.willing = False

    def _name(self, digest: str) -> str:
        return PREFIX + hmac.new(self._secret, digest.encode(), hashlib.sha256).hexdigest()

    def _signature(self, name: str, value: bytes) -> bytes:
        return hmac.digest(self._secret, name.encode() + value, "sha256")

    def _checked(self, name: str, found: bytes) -> bytes | None:
        signature, value = found[:SIGNATURE], found[SIGNATURE:]
        return value if hmac.compare_digest(signature, self._signature(name, value)) else None
