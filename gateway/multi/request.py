"""`POST /v1/generate/multi`: `{models, messages | prompt, mode, policy?, judge?, stream?}` and any field of chat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from eventstore.catalogue.group import GroupMode
from eventstore.value import value
from gateway.errors import InvalidRequest
from gateway.multi.choosing import Policy
from gateway.wire.openai_chat_request import Text, validate

MOST_MEMBERS = 16
OWN = frozenset({"models", "mode", "policy", "judge", "prompt"})
"""The fields that no member gets."""


@with_config(ConfigDict(extra="allow", strict=True))
class MultiRequest(TypedDict, total=False):
    """The checked fields beside those of chat."""

    models: Annotated[list[Text], Field(min_length=1, max_length=MOST_MEMBERS)]
    messages: list[dict[str, Any]] | None
    prompt: str | None
    mode: GroupMode | None
    policy: Policy | None
    judge: Text | None
    stream: bool | None


_ADAPTER: TypeAdapter[MultiRequest] = TypeAdapter(MultiRequest)


@value
class Group:
    """What was asked. `bodies` are the members' chat requests, in the order of the models. `policy` is there where the
    best is wanted, `judge` where a model is to find it."""

    mode: GroupMode
    models: tuple[str, ...]
    bodies: tuple[dict[str, Any], ...]
    streamed: bool
    policy: Policy | None = None
    judge: str | None = None

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What every member is asked."""
        asked: list[dict[str, Any]] = self.bodies[0]["messages"]
        return asked


def group_of(body: Mapping[str, Any]) -> Group:
    """What a body asks for. Raises `InvalidRequest`."""
    validate(_ADAPTER, body, "models")
    if (body.get("prompt") is None) == (body.get("messages") is None):
        raise InvalidRequest("Send either 'prompt' or 'messages'.", param="prompt")
    if body.get("model") is not None:
        raise InvalidRequest("The models are named in 'models'.", param="model")
    if body.get("n") not in (None, 1):
        raise InvalidRequest("Each member gives one answer: 'n' must be 1. Name a model twice instead.", param="n")
    mode: GroupMode = body.get("mode") or "all"
    said = {name: given for name, given in body.items() if name not in OWN and given is not None}
    if body.get("messages") is None:
        said["messages"] = [{"role": "user", "content": body["prompt"]}]
    models = tuple(body["models"])
    bodies = tuple({**said, "model": model} for model in models)
    return Group(mode, models, bodies, body.get("stream") is True, *_choice(body, mode))


def _choice(body: Mapping[str, Any], mode: GroupMode) -> tuple[Policy | None, str | None]:
    """The policy and the judge."""
    policy: Policy | None = body.get("policy")
    judge: str | None = body.get("judge")
    if mode != "best":
        if policy or judge:
            raise InvalidRequest("Only the mode 'best' has a policy or a judge.", param="policy" if policy else "judge")
        return None, None
    policy = policy or ("judge" if judge else "longest")
    if (policy == "judge") != bool(judge):
        raise InvalidRequest("The policy 'judge' goes with a model in 'judge', and no other does.", param="judge")
    return policy, judge or None
