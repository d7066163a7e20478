"""What must hold of sessions, whatever happened: said of a log as it is, without the code that made it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eventstore.catalogue.request import TERMINAL
from eventstore.envelope import RecordedEvent
from eventstore.parts import join
from eventstore.reader import Reader
from tests.crash.load import words_of
from tests.gateway.scripted import Request

ENDS = frozenset({"session_turn_completed", "session_turn_abandoned", "session_compacted"})


def misfits(events: Iterable[RecordedEvent]) -> list[str]:
    """Where a session's stream is not a single chain: each turn with the next number, begun on the tip, ended before
    the next begins."""
    wrong: list[str] = []
    tip = newest = 0
    running: dict[str, Any] | None = None
    for event in events:
        body, where = event.body, f"{event.stream} version {event.version}"
        if event.type == "session_turn_started":
            if running is not None:
                wrong.append(f"{where}: turn {running['turn']} has not ended")
            if (body["turn"], body["before"]) != (newest + 1, tip):
                wrong.append(f"{where}: turn {body['turn']} on {body['before']}, after {newest}, the tip being {tip}")
            running, newest = body, body["turn"]
        elif event.type in ENDS:
            if running is None or (running["turn"], running["request_id"]) != (body["turn"], body["request_id"]):
                wrong.append(f"{where}: turn {body['turn']} ends, which is not the open one")
            running, tip = None, tip if event.type == "session_turn_abandoned" else body["turn"]
        elif event.type in {"session_cleared", "session_forked"}:
            tip, newest = body["at"], max(newest, body["at"])
    return wrong


class Sessions:
    """All sessions of a log, and the requests that were their turns."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.streams: dict[str, list[RecordedEvent]] = {}
        for row in reader.rows(frames=False):
            if isinstance(row, RecordedEvent):
                self.streams.setdefault(row.stream, []).append(row)
        self.turns: dict[str, list[RecordedEvent]] = {}
        for name, events in self.streams.items():
            for event in events if name.startswith("session-") else ():
                if "request_id" in event.body:
                    self.turns.setdefault(event.body["request_id"], []).append(event)

    def wrongs(self) -> list[str]:
        """Sessions that are no chain; requests and turns that do not know of one another."""
        return [
            *(
                wrong
                for name, events in self.streams.items()
                if name.startswith("session-")
                for wrong in misfits(events)
            ),
            *(wrong for name, events in self.streams.items() if (wrong := self._apart(name, events))),
            *(f"request {name} of a turn is not there" for name in self.turns if f"request-{name}" not in self.streams),
        ]

    def _apart(self, name: str, events: Sequence[RecordedEvent]) -> str | None:
        """A request to a session whose turn does not say what the request says."""
        first, last = events[0], events[-1]
        if first.type != "request_received" or not first.body["endpoint"].startswith("/v1/sessions/"):
            return None
        said = [turn.type for turn in self.turns.get(first.body["request_id"], [])]
        wanted = ["session_turn_started"] if last.type != "request_rejected" else []
        if last.type in TERMINAL and wanted:
            wanted.append("session_turn_completed" if last.type == "request_completed" else "session_turn_abandoned")
        return None if said == wanted else f"{name} ended with {last.type}, its turn says {said}"

    def wrongly_told(self, asked: Sequence[Request]) -> list[str]:
        """Calls to an upstream that were told anything else than what was said before, by the log."""
        by_word = {word: name for name in self.turns for word in self._words(name)}
        told = [json.loads(request.body)["messages"] for request in asked]
        return [
            f"{word} was told {messages}"
            for messages in told
            for word in words_of(json.dumps(messages[-1]).encode())
            if messages != self.conversation(by_word[word])
        ]

    def conversation(self, request_id: str) -> list[dict[str, Any]]:
        """What the call of a turn must have said: the turns before it, as many as it carried, and its own messages."""
        started = self.turns[request_id][0]
        told: list[list[dict[str, Any]]] = [self._asked(request_id)]
        session_id, before = started.stream, started.body["before"]
        while len(told) <= started.body["carried"]:
            session_id, turn = self._turn(session_id, before)
            told.append([*self._asked(turn["request_id"]), self._answer(turn["request_id"])])
            before = turn["before"]
        return [message for turn in reversed(told) for message in turn]

    def _turn(self, session_id: str, number: int) -> tuple[str, dict[str, Any]]:
        """The turn of that number, of the session or of the one that it was forked from."""
        while True:
            for event in self.streams[session_id]:
                if event.type == "session_turn_started" and event.body["turn"] == number:
                    return session_id, event.body
            session_id = next(e for e in self.streams[session_id] if e.type == "session_forked").body["parent_id"]

    def _words(self, request_id: str) -> list[str]:
        return words_of(json.dumps(self._asked(request_id)).encode()) if f"request-{request_id}" in self.streams else []

    def _asked(self, request_id: str) -> list[dict[str, Any]]:
        body = self.streams[f"request-{request_id}"][0].body["body"]
        messages: list[dict[str, Any]] = join(body, self._reader.read_blob)["messages"]
        return messages

    def _answer(self, request_id: str) -> dict[str, Any]:
        events = self.streams[f"request-{request_id}"]
        answer = next(e for e in events if e.type == "generation_completed").body["choices"][0]["message"]
        return {"role": "assistant", "content": answer["content"]}


def wrongs(data_dir: Path, asked: Sequence[Request] = ()) -> list[str]:
    """Everything that is wrong with the sessions of a log, and with what an upstream was told."""
    with Reader(data_dir) as reader:
        sessions = Sessions(reader)
        return sessions.wrongs() + sessions.wrongly_told(asked)
