"""What every log does. An implementation's test file gives a fixture `log` and inherits these."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import orjson
import pytest

from eventstore.envelope import ANY_VERSION, NEW_STREAM, Appended, NewEvent, RecordedEvent, RecordedFrames
from eventstore.errors import LogClosed, WrongExpectedVersion
from eventstore.frames import FrameReader, FrameRun
from eventstore.log import Log
from eventstore.verify import verify
from tests.eventstore.builders import happened, record_run, run_of, write


class LogConformance:
    """The contract of `eventstore.log.Log`."""

    async def test_an_empty_log_has_head_zero_and_no_rows(self, log: Log) -> None:
        assert await log.head() == 0
        assert await log.read(0, 10) == []
        assert await log.read_stream("request-1") == []
        assert await log.read_frames(1, 100) == []

    async def test_the_data_is_one_flat_object_with_the_envelope_first(self, log: Log) -> None:
        appended = await log.append(write("request-1", NEW_STREAM, happened(a=1, text="é\n")))
        [event] = await log.read_stream("request-1")
        time = event.body["time"]
        assert event.data == (
            f'{{"type":"thing_happened","schema":1,"stream":"request-1","version":1,"origin":"{log.origin}",'
            f'"oseq":1,"time":"{time}","a":1,"text":"é\\n"}}'.encode()
        )
        assert (event.position, event.at) == (appended.last, appended.at)

    async def test_an_event_without_fields_is_its_envelope(self, log: Log) -> None:
        await log.append(write("request-1", NEW_STREAM, NewEvent("thing_happened", 3, b"{}")))
        [event] = await log.read_stream("request-1")
        assert list(event.body) == ["type", "schema", "stream", "version", "origin", "oseq", "time"]
        assert event.body["schema"] == 3

    async def test_a_stream_name_is_json_whatever_it_holds(self, log: Log) -> None:
        name = 'session-"\\\r\n\x00é'
        await log.append(write(name, NEW_STREAM))
        [event] = await log.read_stream(name)
        assert event.body["stream"] == event.stream == name

    async def test_the_digest_chains_the_origin(self, log: Log) -> None:
        await log.append(write("request-1", NEW_STREAM, happened(n=1), happened(n=2)))
        await log.append(write("request-2", NEW_STREAM, happened(n=3)))
        digest = b""
        for oseq, event in enumerate(await log.read(0, 10), 1):
            assert isinstance(event, RecordedEvent)
            digest = sha256(digest + event.data).digest()
            assert (event.origin, event.oseq, event.digest) == (log.origin, oseq, digest)

    async def test_the_clock_never_stands_or_goes_back(self, log: Log) -> None:
        for n in range(3):
            await log.append(write(f"request-{n}", NEW_STREAM, happened(), happened()))
        times = [event.at for event in await log.read(0, 10) if isinstance(event, RecordedEvent)]
        assert times == sorted(set(times))
        assert len(times) == 6

    async def test_one_append_takes_consecutive_positions_frames_before_events(self, log: Log) -> None:
        await log.append(write("request-1", NEW_STREAM))
        rows, _ = FrameRun(1).pack([b"a", b"b"], 5)
        appended = await log.append(write("request-1", 1, happened(), happened()), frames=rows)
        assert (appended.first, appended.last) == (3, 4)
        assert [type(row) for row in await log.read(1, 10)] == [RecordedFrames, RecordedEvent, RecordedEvent]

    async def test_an_append_of_frames_alone_has_no_first_event(self, log: Log) -> None:
        rows, _ = FrameRun(0).pack([b"a"], 5)
        first, last = await log.append(frames=rows), await log.append(frames=FrameRun(0).pack([b"b"], 6)[0])
        assert (first.first, first.last, last.last) == (0, 1, 2)

    async def test_an_append_to_several_streams_is_one_commit(self, log: Log) -> None:
        await log.append(write("a", NEW_STREAM), write("b", NEW_STREAM, happened(), happened()))
        with pytest.raises(WrongExpectedVersion):
            await log.append(write("a", 1), write("b", 1))
        assert (len(await log.read_stream("a")), len(await log.read_stream("b"))) == (1, 2)
        await log.append(write("a", 1), write("b", 2), write("a", 2))
        assert [event.version for event in await log.read_stream("a")] == [1, 2, 3]

    @pytest.mark.parametrize("expected", [NEW_STREAM, 1, 3])
    async def test_a_wrong_expected_version_writes_nothing(self, log: Log, expected: int) -> None:
        await log.append(write("a", NEW_STREAM, happened(), happened()))
        with pytest.raises(WrongExpectedVersion) as refused:
            await log.append(write("a", expected), blobs=[b"blob"], frames=FrameRun(1).pack([b"f"], 0)[0])
        assert (refused.value.stream, refused.value.expected, refused.value.actual) == ("a", expected, 2)
        assert await log.head() == 2
        with pytest.raises(KeyError):
            await log.read_blob(sha256(b"blob").digest())

    async def test_any_version_appends_to_a_stream_as_it_is(self, log: Log) -> None:
        for _ in range(3):
            await log.append(write("node-1", ANY_VERSION))
        assert [event.version for event in await log.read_stream("node-1")] == [1, 2, 3]

    async def test_of_appends_made_at_once_only_the_guilty_fails(self, log: Log) -> None:
        await log.append(write("taken", NEW_STREAM))
        outcomes = await asyncio.gather(
            log.append(write("a", NEW_STREAM)),
            log.append(write("taken", NEW_STREAM)),
            log.append(write("a", 1)),
            log.append(write("b", NEW_STREAM)),
            log.append(write("b", NEW_STREAM)),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [
            Appended, WrongExpectedVersion, Appended, Appended, WrongExpectedVersion,
        ]  # fmt: skip
        assert [row.position for row in await log.read(0, 10)] == [1, 2, 3, 4]
        assert list(verify(await log.read(0, 10), run_of)) == []

    async def test_a_refused_append_leaves_no_trace_in_what_is_known_of_its_streams(self, log: Log) -> None:
        await log.append(write("taken", NEW_STREAM))
        refused, after = await asyncio.gather(
            log.append(write("taken", NEW_STREAM), write("other", 7)), log.append(write("taken", 1)),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(refused, WrongExpectedVersion)
        assert isinstance(after, Appended)
        await log.append(write("other", NEW_STREAM))

    async def test_read_goes_on_after_a_position_and_stops_at_until_and_limit(self, log: Log) -> None:
        for n in range(5):
            await log.append(write(f"request-{n}", NEW_STREAM))
        assert [row.position for row in await log.read(1, 2)] == [2, 3]
        assert [row.position for row in await log.read(1, 10, until=3)] == [2, 3]
        assert await log.read(5, 10) == []

    async def test_the_ledger_can_be_read_alone(self, log: Log) -> None:
        await record_run(log, "request-1", b"x", b"y")
        assert [row.position for row in await log.read(0, 10, frames=False)] == [1, 4]
        assert [row.position for row in await log.read(0, 10)] == [1, 2, 3, 4]

    async def test_a_stream_is_read_on_after_a_version(self, log: Log) -> None:
        await log.append(write("a", NEW_STREAM, happened(), happened(), happened()))
        assert [event.version for event in await log.read_stream("a", after=1)] == [2, 3]

    async def test_a_run_is_read_among_others_up_to_a_position(self, log: Log) -> None:
        runs = [FrameRun(1), FrameRun(2)]
        await log.append(write("a", NEW_STREAM), write("b", NEW_STREAM))
        for n in range(4):
            await log.append(frames=runs[n % 2].pack([b"frame %d" % n], n)[0])
        assert [row.position for row in await log.read_frames(1, until=100)] == [3, 5]
        assert [row.position for row in await log.read_frames(2, until=runs[1].last_position)] == [4, 6]
        assert [row.position for row in await log.read_frames(2, until=5)] == [4]
        assert [row.position for row in await log.read_frames(1, until=100, after=3)] == [5]
        assert await log.read_frames(3, until=100) == []

    async def test_rows_of_a_run_link_back_within_one_append_and_across(self, log: Log) -> None:
        await log.append(write("a", NEW_STREAM))
        run = FrameRun(1)
        await log.append(frames=[*run.pack([b"1"], 1)[0], *run.pack([b"2"], 2)[0]])
        await log.append(write("b", NEW_STREAM))
        await log.append(frames=run.pack([b"3"], 3)[0])
        rows = await log.read_frames(1, until=run.last_position)
        assert [(row.position, row.back) for row in rows] == [(2, 0), (3, 1), (5, 2)]
        reader = FrameReader()
        assert [frame for row in rows for frame in reader.unpack(row)] == [b"1", b"2", b"3"]
        assert reader.digest == run.digest

    async def test_a_blob_is_read_by_its_digest_and_stored_once(self, log: Log) -> None:
        await log.append(write("a", NEW_STREAM), blobs=[b"part", b"part"])
        await log.append(write("b", NEW_STREAM), blobs=[b"part"])
        assert await log.read_blob(sha256(b"part").digest()) == b"part"
        with pytest.raises(KeyError):
            await log.read_blob(bytes(32))

    async def test_the_head_moves_for_followers_and_the_hook(self, log: Log) -> None:
        heads: list[int] = []
        log.on_commit = heads.append  # type: ignore[attr-defined]  # both implementations have the hook
        await log.append(write("a", NEW_STREAM))
        following = log.follow(0)
        assert await anext(following) == 1
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)
        assert not waiting.done()
        await log.append(write("a", 1))
        assert await waiting == await log.head() == 2
        assert heads == [1, 2]

    async def test_a_cancelled_follower_does_not_disturb_another(self, log: Log) -> None:
        first, second = (asyncio.ensure_future(anext(log.follow(0))) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await log.append(write("a", NEW_STREAM))
        assert await second == 1

    async def test_a_closed_log_accepts_nothing_and_ends_its_followers(self, log: Log) -> None:
        waiting = asyncio.ensure_future(anext(log.follow(0)))
        await asyncio.sleep(0)
        await log.close()  # type: ignore[attr-defined]  # both implementations close
        with pytest.raises(StopAsyncIteration):
            await waiting
        with pytest.raises(LogClosed):
            log.append(write("a", NEW_STREAM))

    async def test_integers_of_64_bits_come_back_as_they_went(self, log: Log) -> None:
        await log.append(write("a", NEW_STREAM, NewEvent("thing_happened", 1, b'{"n":18446744073709551615}')))
        [event] = await log.read_stream("a")
        assert orjson.loads(event.data)["n"] == 18446744073709551615
