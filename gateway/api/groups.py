"""Groups that are not settled: where those began that run, and the end of those that a crash left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from eventstore.catalogue import decode
from eventstore.catalogue.group import GroupSettled, GroupStarted
from eventstore.catalogue.request import RequestReceived
from eventstore.envelope import ANY_VERSION, Appended, RecordedEvent, StreamWrite
from eventstore.log import Log
from eventstore.reader import Reader

GROUPS = "group-"
"""What the streams of groups begin with."""

OpenGroups = dict[str, int]
"""Group id -> a position before its first event."""


async def say(log: Log, event: GroupStarted | GroupSettled, admit: bool = False) -> Appended:
    """Append to a group's stream."""
    return await log.append(StreamWrite(f"{GROUPS}{event.group_id}", ANY_VERSION, (event.new(),)), admit=admit)


async def settle(log: Log, reader: Reader, after: int) -> None:
    """After a crash, once the members have ended: settle every group that it left open."""
    for settled in left_open(reader, after):
        await say(log, settled)


def left_open(reader: Reader, after: int) -> list[GroupSettled]:
    """The ends of the groups that began behind this position and are not settled."""
    return unsettled(filter(_matters, reader.events(after)))


def _matters(event: RecordedEvent) -> bool:
    if event.type == RequestReceived.type:
        return event.body.get("parent") is not None
    return event.stream.startswith(GROUPS)


def unsettled(recorded: Iterable[RecordedEvent]) -> list[GroupSettled]:
    """The ends of the groups that these events began and did not settle: nobody won. Pure."""
    members: dict[str, list[str]] = {}
    ends: dict[str, GroupSettled] = {}
    for each in recorded:
        if each.type == RequestReceived.type:
            group, request_id = each.body.get("parent"), each.body["request_id"]
            if group in ends and request_id not in members[group]:
                ends[group] = replace(ends[group], judge_request=request_id)
            continue
        event = decode(each)
        if isinstance(event, GroupStarted):
            members[event.group_id] = event.members
            ends[event.group_id] = GroupSettled(group_id=event.group_id, reason="restart", winner=None)
        elif isinstance(event, GroupSettled):
            ends.pop(event.group_id, None)
    return list(ends.values())
