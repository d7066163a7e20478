"""The file of virtual models: what holds when, with files as editors leave them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eventstore.catalogue.control import ConfigurationLoaded
from eventstore.errors import LogUnavailable
from gateway.config import ConfigError
from gateway.configuration import Configuration, Loaded

ONE, TWO = (f'[models.{name}]\nmembers = ["a/b"]' for name in ("one", "two"))


class Watched(Configuration):
    look_s = 0.01


class Hasty(Watched):
    """The bug: what was read holds before it is recorded."""

    async def _take(self, found: Loaded) -> None:
        self.loaded = found
        await super()._take(found)


class Refused(Watched):
    """The log refuses the first change."""

    refused = False

    async def _take(self, found: Loaded) -> None:
        if not self.refused:
            self.refused = True
            raise LogUnavailable("not now")
        await super()._take(found)


class Recorder:
    """Records, and notes what held meanwhile."""

    def __init__(self) -> None:
        self.held: list[list[str]] = []
        self.said: list[list[str]] = []
        self.configuration: Configuration | None = None

    async def say(self, event: ConfigurationLoaded) -> None:
        assert self.configuration is not None
        self.held.append(sorted(self.configuration.models))
        self.said.append(event.models)


def watched(file: Path, kind: type[Configuration] = Watched) -> tuple[Configuration, Recorder]:
    recorder = Recorder()
    recorder.configuration = kind(file, {"fallback"}, recorder.say)
    recorder.configuration.load()
    return recorder.configuration, recorder


async def until_said(recorder: Recorder, configuration: Configuration, times: int) -> None:
    watching = asyncio.create_task(configuration.watch())
    async with asyncio.timeout(60):
        while len(recorder.said) < times:
            await asyncio.sleep(0.01)
    watching.cancel()


@pytest.mark.parametrize("kind", [Watched, Hasty])
async def test_a_change_is_recorded_before_it_holds(tmp_path: Path, kind: type[Configuration]) -> None:
    file = tmp_path / "models.toml"
    file.write_text(ONE)
    configuration, recorder = watched(file, kind)
    file.write_text(TWO + "\n")
    await until_said(recorder, configuration, 1)
    assert recorder.said == [["two"]]
    assert (recorder.held == [["one"]]) is (kind is Watched)


async def test_a_file_that_is_gone_for_a_while_changes_nothing_and_is_read_when_it_is_back(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(ONE)
    configuration, recorder = watched(file)
    file.unlink()
    watching = asyncio.create_task(configuration.watch())
    async with asyncio.timeout(60):
        while (problem := configuration.problem) is None:
            await asyncio.sleep(0.01)
    watching.cancel()
    assert sorted(configuration.models) == ["one"]
    assert str(tmp_path) not in problem
    file.write_text(TWO)
    await until_said(recorder, configuration, 1)
    assert sorted(configuration.models) == ["two"]
    assert not configuration.problem


async def test_a_file_that_is_empty_for_a_while_changes_nothing_and_a_comment_alone_takes_all_away(
    tmp_path: Path,
) -> None:
    file = tmp_path / "models.toml"
    file.write_text(ONE)
    configuration, recorder = watched(file)
    file.write_text("")
    watching = asyncio.create_task(configuration.watch())
    async with asyncio.timeout(60):
        while not recorder.said and configuration.problem is None:
            await asyncio.sleep(0.01)
    watching.cancel()
    assert sorted(configuration.models) == ["one"]
    file.write_text("# none for now")
    await until_said(recorder, configuration, 1)
    assert recorder.said == [[]]
    assert not configuration.problem


async def test_a_change_that_could_not_be_recorded_is_looked_at_again(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(ONE)
    configuration, recorder = watched(file, Refused)
    file.write_text(TWO)
    async with asyncio.timeout(60):
        with pytest.raises(LogUnavailable):
            await configuration.watch()
    assert sorted(configuration.models) == ["one"]
    await until_said(recorder, configuration, 1)
    assert sorted(configuration.models) == ["two"]


@pytest.mark.parametrize("raw", [b"\xff", b"[models.one]\nmembers = []", b"models = 1"])
def test_one_that_cannot_be_used_at_start_is_an_error_of_the_setting(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "models.toml"
    file.write_bytes(raw)
    with pytest.raises(ConfigError, match="--config: "):
        watched(file)
    file.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        watched(file)
