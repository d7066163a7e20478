"""What routes take in their headers, and say in those of their answers, for the documents. The credentials of callers
are the document's `security`, and what is HTTP's own is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from gateway.exchange.claims import LONGEST_KEY

Labels = TypedDict(
    "Labels",
    {
        "x-abstractcore-tags": Annotated[
            str, Field(description="`team=core, env=prod`: the request's tags in the log, beside those of `metadata`")
        ],
        "x-abstractcore-session-id": Annotated[
            str, Field(description="Groups requests that are no session of the server's")
        ],
        "x-abstractcore-retention": Annotated[
            Literal["none", "full"], Field(description="`none`: counts, costs and digests are kept, and no content")
        ],
        "x-abstractcore-max-cost-usd": Annotated[
            float, Field(ge=0, description="Ends the answer as soon as it has cost more")
        ],
    },
    total=False,
)
"""What is said of a request to models beside its body."""

Asking = TypedDict(
    "Asking",
    {
        "Idempotency-Key": Annotated[
            str,
            Field(
                min_length=1,
                max_length=LONGEST_KEY,
                description="Stands for this request for a day: a retry with it gets the same answer, at no cost",
            ),
        ],
        "x-abstractcore-cache": Annotated[
            Literal["use", "refresh", "off"],
            Field(description="Whether an answer that the same request got before will do"),
        ],
        "x-abstractcore-cache-max-age": Annotated[float, Field(ge=0, description="Seconds: no older answer will do")],
        "x-abstractcore-semantic-cache": Annotated[
            str, Field(description="How alike a question must be to have the answer of another, as a cosine, or `off`")
        ],
    },
    total=False,
)
"""The same of how its answer may be had again."""

Resuming = TypedDict(
    "Resuming",
    {"Last-Event-ID": Annotated[str, Field(description="The `id` of the last event that was seen; beats `after`")]},
    total=False,
)
"""What a browser says that comes back to a feed."""

ALWAYS = ("x-request-id", "x-abstractcore-position")
SHARED = (
    "x-abstractcore-cache", "x-abstractcore-source", "x-abstractcore-similarity", "idempotent-replayed",
)  # fmt: skip
ANSWERED = ("x-abstractcore-cost-usd", "x-abstractcore-model", "x-abstractcore-fallback", "x-abstractcore-ignored")
ESTIMATED = ("x-abstractcore-estimated",)
TURN = ("x-abstractcore-context",)
AGAIN = ("Retry-After",)
"""Which headers go together: on every answer, on one that may be another's, on a model's, on a count, on a session's
turn, on a refusal."""

_TEXT: Mapping[str, Any] = {"type": "string"}
TOLD: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "x-request-id": ("Of a request to a model its id in the log", _TEXT),
    "x-abstractcore-position": ("How far the log was", {"type": "integer", "minimum": 0}),
    "x-abstractcore-cost-usd": ("What a whole answer cost, where its price is known", _TEXT),
    "x-abstractcore-model": ("Who answered, where the request names somebody else", _TEXT),
    "x-abstractcore-fallback": ("The same, where another model had failed", _TEXT),
    "x-abstractcore-ignored": ("Fields of the request that are no part of the call, comma separated", _TEXT),
    "x-abstractcore-cache": ("Where the answer comes from", {"enum": ["hit", "miss", "shared"]}),
    "x-abstractcore-source": ("The request whose answer this is", _TEXT),
    "x-abstractcore-similarity": ("How alike the two questions are, as a cosine", _TEXT),
    "idempotent-replayed": ("`true`: the answer that the Idempotency-Key stands for", _TEXT),
    "x-abstractcore-estimated": ("`true`: nobody counted", _TEXT),
    "x-abstractcore-context": ("What of the session the model was told: turns and tokens", _TEXT),
    "Retry-After": ("Seconds after which it may go better", _TEXT),
}
"""Header of an answer -> what it says, and its schema."""
