"""Models that run inside the gateway come into memory and leave it. Stream `node-<origin>`."""

from __future__ import annotations

from typing import ClassVar, Literal

from eventstore.catalogue.event import Event, event
from eventstore.value import value


@event
@value(kw_only=True)
class ModelLoaded(Event):
    """A worker process holds a model. `load_ms` counts from its start; `memory_bytes` are those of the weights."""

    type: ClassVar[str] = "model_loaded"

    provider: str
    model: str
    device: str
    load_ms: float
    memory_bytes: int
    pid: int


@event
@value(kw_only=True)
class ModelUnloaded(Event):
    """A worker process ended, after it took `requests` requests. `reason`: `asked` by a request's `unload_after`,
    `memory` was short, `shutdown`, or `crashed`."""

    type: ClassVar[str] = "model_unloaded"

    provider: str
    model: str
    reason: Literal["asked", "memory", "shutdown", "crashed"]
    requests: int
    pid: int
