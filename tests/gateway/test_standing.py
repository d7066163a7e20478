"""What was configured while the server ran outlives the history in which it was said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventstore.catalogue import decode
from eventstore.catalogue.control import ProviderConfigured, ProviderRemoved
from eventstore.catalogue.event import Event
from eventstore.catalogue.tool import ToolRegistered
from eventstore.envelope import ANY_VERSION, StreamWrite
from gateway import archivist
from gateway.archivist import Archivist
from gateway.standing import PROVIDERS, TOOLS, Standing
from tests.durability.lives import fold
from tests.replay.recorded_log import Recorder


def configured(name: str, url: str) -> ProviderConfigured:
    return ProviderConfigured(provider=name, family="openai-compatible", base_url=url, key="k")


TOOL = ToolRegistered(tool_name="t", key="k", endpoint="http://t", description="", parameters={})


async def left(data_dir: Path) -> list[Event]:
    """What the log says of both once all of that is dropped."""
    async with Recorder(data_dir) as recorder:

        async def say(standing: Standing[Any], event: Event) -> None:
            await recorder.log.append(StreamWrite(standing.stream, ANY_VERSION, (event.new(),)))

        await say(PROVIDERS, configured("one", "http://before"))
        await say(PROVIDERS, configured("one", "http://one"))
        await say(PROVIDERS, configured("gone", "http://gone"))
        await say(PROVIDERS, ProviderRemoved(provider="gone", key="k"))
        await say(TOOLS, TOOL)
        until = await recorder.log.head()
        archiving = Archivist(recorder.log, data_dir)
        await archiving.asked("archive", until)
        await recorder.exchange("Hello")
        await say(PROVIDERS, configured("later", "http://later"))
        fold(data_dir)
        assert (await archiving.asked("drop", until))["dropped"] != []
        return [decode(event) for each in (PROVIDERS, TOOLS) for event in await recorder.log.read_stream(each.stream)]


async def test_what_stands_is_said_again_before_it_is_dropped(tmp_path: Path) -> None:
    assert await left(tmp_path / "logs") == [configured("later", "http://later"), configured("one", "http://one"), TOOL]


async def test_a_drop_that_does_not_say_it_again_loses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        """The bug."""

    monkeypatch.setattr(archivist, "say_again", nothing)
    assert await left(tmp_path / "logs") == [configured("later", "http://later")]
