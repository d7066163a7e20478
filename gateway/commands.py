"""What tools on this machine may ask of the owner of the log, over its control socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.archivist import Archivist
from gateway.control import ControlError
from gateway.follower.supervise import Follower


class Commands:
    """Does what is asked. Raises `ControlError` for what it does not know."""

    def __init__(self, follower: Follower, archivist: Archivist) -> None:
        self._follower, self._archivist = follower, archivist

    async def __call__(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        match request.get("command"):
            case "rebuild":
                return await self._follower.rebuild(request.get("projection"))
            case "archive" | "drop" as command:
                return await self._archivist.asked(command, request.get("until"))
            case "nats":
                return dict(self._follower.status["nats"])
            case "repaired":
                return await self._archivist.repaired(request)
        raise ControlError("unknown command")
