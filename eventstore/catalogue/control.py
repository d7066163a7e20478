"""What the gateway itself does: nodes start and stop, prices are published, providers and virtual
models are configured.

Streams `node-<origin>`, `price-<provider>`, `providers`."""

from __future__ import annotations

from typing import Any, ClassVar

from eventstore.catalogue.event import Event, event
from eventstore.value import value


@event
@value(kw_only=True)
class NodeStarted(Event):
    """A process took the log: the first event (oseq 1) of its origin. `previous` is `{origin, oseq, digest}` of the
    incarnation before it on this data directory, so that chains link up. `settings` are redacted."""

    type: ClassVar[str] = "node_started"

    node: str
    release: str
    previous: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None


@event
@value(kw_only=True)
class NodeStopped(Event):
    """A process ended in order. `open_requests` is how many exchanges it had to interrupt."""

    type: ClassVar[str] = "node_stopped"

    node: str
    reason: str
    open_requests: int


@event
@value(kw_only=True)
class PricePublished(Event):
    """Prices of one provider's models came into force. Each rule is `{id, match, prices…}` (gateway/prices)."""

    type: ClassVar[str] = "price_published"

    provider: str
    source: str
    table: str
    rules: list[dict[str, Any]]


@event
@value(kw_only=True)
class ProviderConfigured(Event):
    """A provider was configured while the server ran. `api_key_env` names the variable of its key, `key` is who did it.
    The last one of a name counts."""

    type: ClassVar[str] = "provider_configured"

    provider: str
    family: str
    base_url: str
    key: str
    api_key_env: str | None = None


@event
@value(kw_only=True)
class ConfigurationLoaded(Event):
    """From now on the virtual models of a configuration file hold. `digest` is sha256 of its bytes, `models` are their
    names."""

    type: ClassVar[str] = "configuration_loaded"

    digest: str
    models: list[str]


@event
@value(kw_only=True)
class ProviderRemoved(Event):
    """What was configured of a provider while the server ran holds no longer. `key` is who did it."""

    type: ClassVar[str] = "provider_removed"

    provider: str
    key: str


@event
@value(kw_only=True)
class SegmentSealed(Event):
    """Rows up to `through` lie in an archive and may leave the live database. Only with this is a DELETE allowed.

    `segment` is the file's name and `digest` its sha256; it holds the rows from `first` on, so many `events` and
    `frames`. `head_digest` is that of the last event in it. `previous` as in `NodeStarted`, where a tool did it."""

    type: ClassVar[str] = "segment_sealed"

    segment: str
    through: int
    head_digest: str
    first: int | None = None
    digest: str | None = None
    events: int | None = None
    frames: int | None = None
    previous: dict[str, Any] | None = None


@event
@value(kw_only=True)
class SegmentsDropped(Event):
    """Archived segments up to `through` were deleted, these files. `folded` is the position up to which every
    projection had folded the log. `snapshot` is the file that holds what projections made of all that was dropped, and
    `snapshot_digest` its sha256 in hex. `previous` as in `NodeStarted`, where a tool did it."""

    type: ClassVar[str] = "segments_dropped"

    through: int
    segments: list[str]
    folded: int
    previous: dict[str, Any] | None = None
    snapshot: str | None = None
    snapshot_digest: str | None = None


@event
@value(kw_only=True)
class LogRepaired(Event):
    """Rows that were not as they had been written were made again, to the byte: the positions of ledger `events` and of
    `frames` rows. First event of an incarnation of its own, that of the tool that did it, where no server ran."""

    type: ClassVar[str] = "log_repaired"

    node: str
    events: list[int]
    frames: list[int]
