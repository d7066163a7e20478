"""The durable log against the reference, whatever is done to both: appended, refused, closed, killed, read."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from eventstore import rows as sql
from eventstore.batch import Version
from eventstore.envelope import (
    ANY_VERSION,
    Appended,
    NewEvent,
    NewFrames,
    Recorded,
    RecordedEvent,
    RecordedFrames,
    StreamWrite,
)
from eventstore.errors import LogError, WrongExpectedVersion
from eventstore.frames import FrameRun, Template
from eventstore.memory import MemoryLog
from eventstore.sqlite import SQLiteLog
from eventstore.verify import verify
from eventstore.writer import Writer
from tests.durability.conftest import IN_MEMORY
from tests.eventstore.builders import happened, run_of

NAMES = ("request-1", "request-2", "session-é", "node-1")
TEMPLATE = Template(b'{"token":"', b'"}')

versions = st.sampled_from((0, 1, 2, 3, 5, ANY_VERSION, ANY_VERSION))
writes = st.builds(
    lambda name, expected, texts: StreamWrite(name, expected, tuple(happened(text=text) for text in texts)),
    st.sampled_from(NAMES), versions, st.lists(st.text(max_size=5), max_size=3),
)  # fmt: skip
appends = st.tuples(st.lists(writes, max_size=3), st.lists(st.binary(max_size=3), max_size=2))
tokens = st.lists(st.one_of(st.text(max_size=4).map(str.encode), st.sampled_from((b"\x1e", b"\x1f"))), min_size=1)


@dataclass
class Run:
    """One run of frames, as each log writes it; `stream` has its opening and its closing event."""

    stream: str
    real: FrameRun
    model: FrameRun

    def pack(self, frames: Sequence[bytes]) -> tuple[list[NewFrames], list[NewFrames]]:
        framed = [TEMPLATE.prefix + frame + TEMPLATE.suffix for frame in frames]
        opens = (
            (0, TEMPLATE) if self.real.template is None and b"\x1e" not in frames and b"\x1f" not in frames else None
        )
        offset_us = self.real.count
        return self.real.pack(framed, offset_us, opens)[0], self.model.pack(framed, offset_us, opens)[0]


class LogMachine(RuleBasedStateMachine):
    """Every rule is done to both logs; after each, both say the same."""

    kind: type[SQLiteLog] = SQLiteLog

    def __init__(self) -> None:
        super().__init__()
        self.folders = Path(tempfile.mkdtemp(dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
        self.runner = asyncio.Runner()
        self.numbers = count()
        self.folder = self._new_folder()
        self.now = 1_795_255_200_000_000
        self.model = MemoryLog()
        self.log = self.runner.run(self._open())
        self.runs: list[Run] = []
        self.blobs: set[bytes] = set()

    def _new_folder(self) -> Path:
        return self.folders / str(next(self.numbers))

    async def _open(self) -> SQLiteLog:
        return await self.kind.open(self.folder, now_us=lambda: self.now)

    @rule(many=st.lists(appends, min_size=1, max_size=4))
    def append(self, many: list[tuple[list[StreamWrite], list[bytes]]]) -> None:
        """Several appends at once: one commit or a few, in order."""

        async def do() -> None:
            real = [self.log.append(*written, blobs=blobs) for written, blobs in many]
            model = [self.model.append(*written, blobs=blobs) for written, blobs in many]
            for outcomes in zip(
                await asyncio.gather(*real, return_exceptions=True),
                await asyncio.gather(*model, return_exceptions=True),
                many,
                strict=True,
            ):
                self._same(*outcomes)

        self.runner.run(do())

    def _same(
        self,
        real: Appended | BaseException,
        model: Appended | BaseException,
        made: tuple[list[StreamWrite], list[bytes]],
    ) -> None:
        if isinstance(model, Appended):
            assert isinstance(real, Appended)
            assert (real.first, real.last) == (model.first, model.last)
            self.blobs.update(made[1])
            return
        assert isinstance(real, WrongExpectedVersion)
        assert isinstance(model, WrongExpectedVersion)
        wrong = {(write.stream, write.expected) for write in made[0]}  # of several, either log may name another
        assert {(real.stream, real.expected), (model.stream, model.expected)} <= wrong
        assert real.actual == model.actual or len(wrong) > 1

    @rule()
    def open_run(self) -> None:
        stream = f"run-{next(self.numbers)}"
        opening = StreamWrite(stream, 0, (NewEvent("run_opened", 1, b"{}"),))

        async def do() -> None:
            real, model = await self.log.append(opening), await self.model.append(opening)
            self.runs.append(Run(stream, FrameRun(real.last), FrameRun(model.last)))

        self.runner.run(do())

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, 9), batches=st.lists(tokens, min_size=1, max_size=3))
    def add_frames(self, which: int, batches: list[list[bytes]]) -> None:
        run = self.runs[which % len(self.runs)]

        async def do() -> None:
            for frames in batches:
                real, model = run.pack(frames)
                await asyncio.gather(self.log.append(frames=real), self.model.append(frames=model))

        self.runner.run(do())
        assert run.real.last_position == run.model.last_position

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, 9))
    def close_run(self, which: int) -> None:
        run = self.runs.pop(which % len(self.runs))
        fields = orjson.dumps({"frames": run.real.count, "frames_digest": run.real.digest})
        closing = StreamWrite(run.stream, 1, (NewEvent("run_closed", 1, fields),))

        async def do() -> None:
            await asyncio.gather(self.log.append(closing), self.model.append(closing))
            until = await self.log.head()
            real, model = [await log.read_frames(run.real.generation, until) for log in (self.log, self.model)]
            assert real == model

        self.runner.run(do())

    @rule()
    def restart(self) -> None:
        self.runner.run(self.log.close())
        self.log = self.runner.run(self._open())

    @rule()
    def kill(self) -> None:
        """What lies in the files at this moment is what a killed process leaves."""
        killed, self.folder = self.folder, self._new_folder()
        self.folder.mkdir()
        for file in (sql.FILE, f"{sql.FILE}-wal"):
            if (killed / file).exists():
                shutil.copyfile(killed / file, self.folder / file)
        self.runner.run(self.log.close())
        self.log = self.runner.run(self._open())

    @rule(seconds=st.integers(-100_000, 100_000))
    def set_the_clock(self, seconds: int) -> None:
        self.now += seconds * 1_000_000

    @rule(
        after=st.integers(0, 30), limit=st.integers(1, 30), until=st.none() | st.integers(0, 40), frames=st.booleans()
    )
    def read(self, after: int, limit: int, until: int | None, frames: bool) -> None:
        async def do() -> None:
            real = await self.log.read(after, limit, until=until, frames=frames)
            model = await self.model.read(after, limit, until=until, frames=frames)
            assert list(map(content, real)) == list(map(content, model))

        self.runner.run(do())

    @invariant()
    def both_have_the_same(self) -> None:
        async def do() -> None:
            real, model = await self.log.read(0, 10_000), await self.model.read(0, 10_000)
            assert list(map(content, real)) == list(map(content, model))
            assert list(verify(real, run_of)) == []
            assert await self.log.head() == await self.model.head()
            times = [row.at for row in real if isinstance(row, RecordedEvent)]
            assert times == sorted(set(times))
            for name in NAMES:
                streams = [await log.read_stream(name, after=1) for log in (self.log, self.model)]
                assert list(map(content, streams[0])) == list(map(content, streams[1]))
            for blob in self.blobs:
                assert await self.log.read_blob(sha256(blob).digest()) == blob

        self.runner.run(do())

    def teardown(self) -> None:
        self.runner.run(self.log.close())
        self.runner.close()
        shutil.rmtree(self.folders)


def content(row: Recorded) -> tuple[object, ...]:
    """What both logs must agree about: everything but the incarnation and the time."""
    if isinstance(row, RecordedFrames):
        return tuple(getattr(row, name) for name in RecordedFrames.__dataclass_fields__)
    fields = {name: value for name, value in row.body.items() if name not in ("origin", "oseq", "time")}
    return row.position, row.stream, row.version, row.type, row.codec, fields


CASES = settings(
    max_examples=200, stateful_step_count=15, deadline=None, database=None, derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
FIRST_FAILURE = settings(CASES, phases=[Phase.generate], report_multiple_bugs=False)


def test_the_durable_log_does_what_the_reference_does() -> None:
    run_state_machine_as_test(LogMachine, settings=CASES)


@pytest.mark.soak
def test_the_durable_log_does_what_the_reference_does_at_length() -> None:
    run_state_machine_as_test(
        LogMachine, settings=settings(CASES, max_examples=3_000, stateful_step_count=30, derandomize=False)
    )


class Misremembers(Writer):
    """The bug: a stream that has to be looked up is thought to be one event shorter."""

    def _find_stream(self, name: str) -> Version:
        number, version = super()._find_stream(name)
        return number, max(version - 1, 0)


class MisrememberingLog(SQLiteLog):
    writer = Misremembers


class MisrememberingMachine(LogMachine):
    kind = MisrememberingLog


def test_a_wrong_version_is_noticed() -> None:
    with pytest.raises((AssertionError, LogError)):
        run_state_machine_as_test(MisrememberingMachine, settings=FIRST_FAILURE)


@pytest.mark.parametrize("kind", [SQLiteLog, MemoryLog])
async def test_a_write_without_events_has_its_version_checked_too(
    tmp_path: Path, kind: type[SQLiteLog | MemoryLog]
) -> None:
    """Found by the machine: taken for granted, it made the durable log forget a stream that it had."""
    log: SQLiteLog | MemoryLog = await SQLiteLog.open(tmp_path) if kind is SQLiteLog else MemoryLog()
    await log.append(StreamWrite("a", 0, (happened(),)))
    if isinstance(log, SQLiteLog):
        await log.close()
        log = await SQLiteLog.open(tmp_path)
    with pytest.raises(WrongExpectedVersion):
        await log.append(StreamWrite("a", 0, ()))
    assert (await log.append(StreamWrite("a", 1, (happened(),)))).last == 2
    await log.close()
