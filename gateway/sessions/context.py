"""From what a client sent to a session to the request that stands alone, and the turn that it is to be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from eventstore.catalogue.session import Purpose
from gateway.errors import Conflict
from gateway.sessions.errors import SessionBusy
from gateway.sessions.fitting import USUAL_WINDOW, Fitting, room_for_answer
from gateway.sessions.state import Conversation, Family, Session, Turn, conversation, setting
from gateway.sessions.store import Sessions
from gateway.sessions.turn import PlannedTurn
from gateway.wire.responses.sealed import unsigned
from gateway.wire.tool_turn import calls_told_again, signed_in_open_turn

SUMMARY = "Summary of the conversation until here:"
INSTRUCTIONS = (
    "Summarise the conversation above, for yourself: this summary will stand in its place. Keep every fact, name, "
    "number, decision, open question and promise that could matter later. Answer with the summary alone."
)
KEPT = 2
"""Turns that a compaction leaves as they are, unless told otherwise."""

WindowOf = Callable[[str | None], Awaitable[int | None]]
"""From a model's name, as clients write it, to its context window in tokens, None where nobody says."""
Planned = tuple[dict[str, Any], PlannedTurn]
"""The whole request, and its turn."""


class Contexts:
    """Puts requests together with what was said before them."""

    def __init__(self, sessions: Sessions, window_of: WindowOf) -> None:
        self._sessions, self._window_of = sessions, window_of

    async def chat(self, session: Session, sent: Mapping[str, Any]) -> Planned:
        """A chat request as the session's next turn. Raises `SessionBusy`."""
        family = await self._free(session)
        body = {**(setting(family, "settings") or {}), **sent}
        return await self._with_history(family, body, conversation(family, session.tip), "chat")

    async def compaction(self, session: Session, sent: Mapping[str, Any], kept: int) -> Planned:
        """The request for a summary of all but the last `kept` turns. Raises `SessionBusy`, `Conflict` where there is
        nothing to summarise, or a tool is waited for."""
        family = await self._free(session)
        said = conversation(family, session.tip)
        older, newer = await self._divided(said.turns, kept)
        if not older:
            raise Conflict("There is nothing to summarise in this session.", code="nothing_to_compact")
        if (await self._sessions.words(older[-1])).messages[-1].get("tool_calls"):
            raise Conflict("The session waits for the result of a tool.", code="waiting_for_tool")
        body, turn = await self._with_history(family, dict(sent), Conversation(said.summary, older), "compaction")
        return body, replace(turn, kept=len(newer))

    async def messages(self, session: Session) -> list[dict[str, Any]]:
        """The whole conversation as the session goes on from it, whatever fits."""
        family = await self._sessions.family(session)
        said = conversation(family, session.tip)
        turns = [message for turn in said.turns for message in (await self._sessions.words(turn)).messages]
        return [*await self._beginning(family, said.summary), *turns]

    async def _free(self, session: Session) -> Family:
        if session.open is not None:
            raise SessionBusy(session.session_id, session.version)
        return await self._sessions.family(session)

    async def _with_history(
        self, family: Family, body: dict[str, Any], said: Conversation, purpose: Purpose
    ) -> Planned:
        session = family[0]
        body["model"] = body.get("model") or setting(family, "model")
        fixed = [*await self._beginning(family, said.summary), *body["messages"]]
        window = setting(family, "context_tokens") or await self._window_of(body["model"]) or USUAL_WINDOW
        fitting = Fitting(fixed, window, room_for_answer(body, window))
        for earlier in reversed(said.turns):
            if not fitting.take(await self._sessions.words(earlier)):
                break
        history, carried = fitting.carried(len(said.turns))
        first = len(fixed) - len(body["messages"])
        messages = signed_in_open_turn([*fixed[:first], *map(calls_told_again, history), *fixed[first:]])
        whole = {**body, "messages": messages, "session_id": session.session_id}
        if carried.dropped:
            whole = unsigned(whole)  # what stood before it when it was thought may be gone
        turn = PlannedTurn(
            session_id=session.session_id,
            version=session.version,
            number=session.newest + 1,
            before=session.tip,
            carried=carried,
            purpose=purpose,
        )
        return whole, turn

    async def _beginning(self, family: Family, summary: Turn | None) -> list[dict[str, Any]]:
        """The system message, if there is anything to say in one: the session's own, and what was summarised."""
        parts = [setting(family, "system_prompt")]
        if summary is not None:
            parts.append(f"{SUMMARY}\n{await self._sessions.summary(summary)}")
        text = "\n\n".join(part for part in parts if part)
        return [{"role": "system", "content": text}] if text else []

    async def _divided(self, turns: Sequence[Turn], kept: int) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
        """What is summarised, and what stays; a turn that answers a tool call goes with the call."""
        at = max(len(turns) - kept, 0)
        while 0 < at < len(turns) and (await self._sessions.words(turns[at])).messages[0].get("role") == "tool":
            at += 1
        return tuple(turns[:at]), tuple(turns[at:])
