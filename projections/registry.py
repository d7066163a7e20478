"""Every projection, in one list. A name is for ever: it keys the checkpoint and begins the names of the tables."""

from __future__ import annotations

from projections.metrics import Metrics
from projections.payloads import Payloads
from projections.projection import Projection
from projections.requests import Requests
from projections.serverlog import ServerLog
from projections.sessions import Sessions
from projections.usage import UsageProjection
from projections.verbatim import Verbatim

REGISTRY: tuple[Projection, ...] = (
    Requests(),
    Sessions(),
    UsageProjection(),
    Metrics(),
    Verbatim(),
    Payloads(),
    ServerLog(),
)
