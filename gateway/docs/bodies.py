"""Fields of the gateway's own that every request to a model may have, whatever its protocol, for the documents. What
checks them is `gateway/exchange/policy.py` and `submit.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from gateway.exchange.policy import LATEST_HEDGE_MS, MOST_FALLBACKS, MOST_RETRIES
from gateway.exchange.submit import MOST_CAP

Model = Annotated[str, Field(min_length=1)]


class HedgedCall(TypedDict):
    """A second call, where the first has brought nothing after so many milliseconds."""

    after_ms: Annotated[int, Field(ge=0, le=LATEST_HEDGE_MS)]
    model: Model


class OwnFields(TypedDict, total=False):
    """What may be done where the provider fails or is slow, what the answer may cost, and whether a local model is
    unloaded afterwards."""

    retries: Annotated[int, Field(ge=0, le=MOST_RETRIES)] | None
    fallback: Annotated[list[Model], Field(max_length=MOST_FALLBACKS)] | Model | None
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] | None
    continuation: Literal["error", "resume"] | None
    hedge: HedgedCall | None
    max_cost_usd: Annotated[float, Field(ge=0, le=MOST_CAP)] | None
    unload_after: bool | None


class ChatFields(OwnFields, total=False):
    """The same of a chat, and how its model thinks."""

    thinking: Literal["auto", "on", "off", "minimal", "low", "medium", "high", "xhigh", "max"] | None
