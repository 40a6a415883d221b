"""Tests of L{nanotun.history.recorder} and L{nanotun.history.writer}."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from nanotun.flow import Endpoint, Flow, FlowEnd, Note, Owner, Protocol, Verdict
from nanotun.history.recorder import (
    INTERVAL,
    QUEUE_LIMIT,
    RETRY,
    TIDY,
    Ended,
    FlowRecorder,
    recordOf,
)
from nanotun.history.schema import FlowRecord
from nanotun.history.store import BATCH, HistoryError, Store
from nanotun.history.writer import HistoryWriter
from nanotun.interfaces import IEndObserver, IPart
from tests.unit.history.cases import NOON, RECORD, ask, some

OWNER = Owner(4711, 1000, "curl", "/usr/bin/curl", "/user.slice/user@1000.service")

NOTE = Note(Verdict.PROXY, "default", "proxy", "socks5://192.0.2.9:1080", "example.com", "", OWNER)

FLOW = Flow(1, Protocol.TCP, Endpoint("198.18.0.2", 40000), Endpoint("192.0.2.1", 443))

END = FlowEnd(FLOW, 0, 100, 5000, 1, 1.5)


class FakeWriter:
    """
    A file that takes its time.

    @ivar started: whether it is.
    @ivar asked: what it was asked for: records, or L{None} for a tidying; with what fires then.
    """

    def __init__(self) -> None:
        self.started = False
        self.asked: list[tuple[Sequence[FlowRecord] | None, Deferred[None]]] = []

    def start(self) -> None:
        """See L{HistoryWriter.start}."""
        self.started = True

    def write(self, records: Sequence[FlowRecord]) -> Deferred[None]:
        """See L{HistoryWriter.write}."""
        self.asked.append((records, Deferred()))
        return self.asked[-1][1]

    def tidy(self) -> Deferred[None]:
        """See L{HistoryWriter.tidy}."""
        self.asked.append((None, Deferred()))
        return self.asked[-1][1]

    def stop(self) -> None:
        """See L{HistoryWriter.stop}."""
        self.started = False


class FakeEnds:
    """@ivar observers: who is told."""

    def __init__(self) -> None:
        self.observers: list[object] = []

    def follow(self, observer: object) -> None:
        """See L{nanotun.history.recorder.Ends.follow}."""
        self.observers.append(observer)

    def unfollow(self, observer: object) -> None:
        """See L{nanotun.history.recorder.Ends.unfollow}."""
        self.observers.remove(observer)


class RecorderCase(SynchronousTestCase):
    """
    A recorder that has started, and whose first tidying is done.

    @ivar open: the flows that are open.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.writer, self.ends = FakeWriter(), FakeEnds()
        self.open: list[tuple[FlowEnd, Note | None]] = []
        self.recorder = FlowRecorder(
            "/var/lib/flows.db",
            cast("HistoryWriter", self.writer),
            self.ends,
            lambda: self.open,
            self.clock,
            lambda: NOON + self.clock.seconds(),
        )
        self.recorder.start()
        self.clock.advance(0)
        self.assertIsNone(self.answer())

    def end(self, count: int = 1) -> None:
        """Some flows end."""
        for _ in range(count):
            self.recorder.flowEnded(END, NOTE)

    def answer(self, error: Exception | None = None) -> int | None:
        """
        The file is done with what was asked.

        @return: how many records that were; L{None} for a tidying.
        """
        ((records, done),) = self.writer.asked
        self.writer.asked = []
        if error is None:
            done.callback(None)
        else:
            done.errback(error)
        return None if records is None else len(records)

    def counts(self) -> tuple[int, int, int]:
        """Flows that are recorded, wait, and are lost."""
        report = self.recorder.report()
        return report["recorded"], report["waiting"], report["lost"]


class BatchTests(RecorderCase):
    """When something is written."""

    def test_provides(self) -> None:
        """It is a part, and an observer of ends."""
        self.assertTrue(verifyObject(IPart, self.recorder))
        self.assertTrue(verifyObject(IEndObserver, self.recorder))
        self.assertEqual(self.ends.observers, [self.recorder])

    def test_interval(self) -> None:
        """Flows are written together, some seconds after the first of them has ended."""
        self.end()
        self.clock.advance(INTERVAL - 0.1)
        self.end()
        self.assertEqual(self.writer.asked, [])
        self.clock.advance(0.1)
        self.assertEqual(self.answer(), 2)
        self.assertEqual(self.counts(), (2, 0, 0))
        self.clock.advance(INTERVAL)
        self.assertEqual(self.writer.asked, [])

    def test_many(self) -> None:
        """A full batch is written at once, and one batch at a time."""
        self.end(BATCH - 1)
        self.assertEqual(self.writer.asked, [])
        self.end(BATCH)
        self.assertEqual(self.answer(), BATCH)
        self.assertEqual(self.writer.asked, [])
        self.clock.advance(INTERVAL)
        self.assertEqual(self.answer(), BATCH - 1)

    def test_meanwhile(self) -> None:
        """What ends while the file is written is written next, without waiting in line."""
        self.end(BATCH)
        self.end(2 * BATCH + 5)
        self.clock.advance(INTERVAL)
        self.assertEqual([self.answer() for _ in range(3)], [BATCH] * 3)
        self.assertEqual(self.writer.asked, [])
        self.clock.advance(INTERVAL)
        self.assertEqual(self.answer(), 5)

    def test_duringTidying(self) -> None:
        """What ends while old rows are deleted is written after that."""
        self.clock.advance(TIDY)
        self.end(3)
        self.assertIsNone(self.answer())
        self.assertEqual(self.answer(), 3)
        self.clock.advance(TIDY)
        self.assertIsNone(self.answer())

    def test_slow(self) -> None:
        """With a disk that hangs a limited number waits, and the rest is counted and told once."""
        self.end(BATCH + QUEUE_LIMIT + 7)
        self.assertEqual(self.counts(), (0, QUEUE_LIMIT, 7))
        with capturedLogs() as events:
            while self.writer.asked:
                self.answer()
        self.assertEqual(self.counts(), (BATCH + QUEUE_LIMIT, 0, 7))
        (event,) = events
        self.assertEqual((event["log_level"], event["lost"]), (LogLevel.warn, 7))


class TroubleTests(RecorderCase):
    """A file that cannot be written."""

    FULL = sqlite3.OperationalError("database or disk is full")

    def test_full(self) -> None:
        """
        A full disk is one line of the log; it is tried again each minute, and what waited is
        written then, with another line.
        """
        self.end(3)
        self.clock.advance(INTERVAL)
        with capturedLogs() as events:
            self.answer(self.FULL)
            self.end(BATCH + 2)
            for _ in range(3):
                self.clock.advance(RETRY - 1)
                self.assertEqual(self.writer.asked, [])
                self.clock.advance(1)
                self.assertEqual(self.answer(self.FULL), BATCH)
        (event,) = events
        self.assertEqual(event["log_level"], LogLevel.error)
        self.assertIn("/var/lib/flows.db (database or disk is full)", event["sentence"])
        self.assertEqual(self.recorder.report()["trouble"], event["sentence"])
        self.clock.advance(RETRY)
        with capturedLogs() as events:
            self.assertEqual(self.answer(), BATCH)
        (event,) = events
        self.assertEqual((event["log_level"], event["lost"]), (LogLevel.warn, 0))
        self.clock.advance(INTERVAL)
        self.assertEqual(self.answer(), 5)
        self.assertEqual(self.counts(), (BATCH + 5, 0, 0))
        self.assertEqual(self.recorder.report()["trouble"], "")

    def test_lost(self) -> None:
        """What is lost in the meantime is counted, and told when writing works again."""
        self.end(BATCH)
        self.answer(self.FULL)
        self.end(QUEUE_LIMIT)
        self.assertEqual(self.counts(), (0, QUEUE_LIMIT, BATCH))
        self.clock.advance(RETRY)
        with capturedLogs() as events:
            while self.writer.asked:
                self.answer()
        (event,) = events
        self.assertEqual(event["lost"], BATCH)

    def test_foreign(self) -> None:
        """That the file is not ours is said at the start, and it is looked at again."""
        self.clock.advance(TIDY)
        with capturedLogs() as events:
            self.assertIsNone(self.answer(HistoryError("flowLog x is no history.")))
            self.clock.advance(RETRY)
            self.assertIsNone(self.answer(HistoryError("flowLog x is no history.")))
        self.assertEqual([each["sentence"] for each in events], ["flowLog x is no history."])

    def test_sentence(self) -> None:
        """An error of the system is named by its own words."""
        self.clock.advance(TIDY)
        with capturedLogs() as events:
            self.answer(PermissionError(errno.EACCES, "Permission denied"))
        self.assertIn("flows.db (Permission denied)", events[0]["sentence"])

    def test_mistake(self) -> None:
        """A mistake of nanotun's own costs a batch, and recording goes on."""
        self.end(BATCH)
        self.answer(ValueError("a mistake"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.counts(), (0, 0, BATCH))
        self.end(BATCH)
        self.assertEqual(self.answer(), BATCH)

    def test_mistakeInTrouble(self) -> None:
        """After a mistake while the file cannot be written, it is tried again all the same."""
        self.end(BATCH)
        self.answer(self.FULL)
        self.clock.advance(RETRY)
        self.answer(ValueError("a mistake"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.end(BATCH)
        self.clock.advance(RETRY)
        self.assertEqual(self.answer(), BATCH)


class StopTests(RecorderCase):
    """The stop."""

    def test_nothing(self) -> None:
        """With nothing to write it is over at once."""
        self.assertIsNone(self.recorder.stop())
        self.assertEqual((self.ends.observers, self.writer.started), ([], False))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_open(self) -> None:
        """What waits is written, and what is open as ended by the stop; then the file is closed."""
        self.end(BATCH + 1)
        self.open = [(END, NOTE), (END._replace(bytesUp=7), None)]
        done = self.recorder.stop()
        assert done is not None
        self.assertEqual(self.answer(), BATCH)
        self.assertNoResult(done)
        ((records, _),) = self.writer.asked
        assert records is not None
        self.assertEqual([each.ending for each in records], ["closed", "stop", "stop"])
        self.assertEqual([each.up for each in records], [100, 100, 7])
        self.answer()
        self.successResultOf(done)
        self.assertEqual(self.counts(), (BATCH + 3, 0, 0))
        self.assertFalse(self.writer.started)

    def test_cannot(self) -> None:
        """What cannot be written at the stop is counted in the log, without another try."""
        self.end(2)
        done = self.recorder.stop()
        assert done is not None
        with capturedLogs() as events:
            self.answer(TroubleTests.FULL)
        self.successResultOf(done)
        self.assertEqual([each.get("left") for each in events], [None, 2])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noTime(self) -> None:
        """A disk that hangs does not hold up the stop for longer than it may take."""
        self.end(BATCH + 2)
        done = self.recorder.stop()
        assert done is not None
        done.addTimeout(1.8, self.clock)
        with capturedLogs() as events:
            self.clock.advance(1.8)
        self.assertEqual([each["left"] for each in events], [BATCH + 2])
        self.successResultOf(done)


class RecordTests(SynchronousTestCase):
    """L{recordOf}."""

    def test_whole(self) -> None:
        """A record has what the note and the end say."""
        self.assertEqual(recordOf(Ended(NOON, END, NOTE)), RECORD)

    def test_unknown(self) -> None:
        """Nothing is made up where nothing is known."""
        record = recordOf(Ended(NOON, END, None))
        self.assertEqual((record.verdict, record.domain, record.name), ("", "", ""))
        self.assertEqual((record.pid, record.uid), (0, -1))
        record = recordOf(Ended(NOON, END, NOTE._replace(owner=None)))
        self.assertEqual((record.verdict, record.pid, record.uid), ("proxy", 0, -1))

    def test_endings(self) -> None:
        """An error is called by its name."""
        for error, ending in ((errno.ECONNRESET, "ECONNRESET"), (9999, "9999")):
            self.assertEqual(recordOf(Ended(NOON, END._replace(error=error), NOTE)).ending, ending)

    def test_names(self) -> None:
        """A program whose name is no text in UTF-8 is kept in a form that is."""
        owner = OWNER._replace(name="a\udcff", path="/" + "x" * 5000)
        record = recordOf(Ended(NOON, END, NOTE._replace(owner=owner)))
        self.assertEqual((record.name, len(record.path)), ("a\\udcff", 1024))


class WriterTests(TestCase):
    """L{HistoryWriter}, with the reactor and a real file."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.path = os.path.abspath(self.mktemp())
        self.writer = HistoryWriter(Store(self.path, 1 << 26, 30), self.path, reactor)
        self.writer.start()

    @inlineCallbacks
    def test_written(self) -> Any:
        """Records are in the file when the answer comes, and the file is whole after the stop."""
        yield self.writer.write(some(3))
        self.assertEqual(ask(self.path, "SELECT count(*) FROM flows"), [3])
        yield self.writer.tidy()
        yield self.writer.stop()
        self.assertFalse(os.path.exists(f"{self.path}-wal"))
        self.assertEqual(ask(self.path, "SELECT count(*) FROM flows"), [3])

    @inlineCallbacks
    def test_removed(self) -> Any:
        """After somebody has removed the file there is a new one, with what comes then."""
        yield self.writer.write(some(3))
        os.unlink(self.path)
        yield self.writer.write(some(2))
        self.assertEqual(ask(self.path, "SELECT count(*) FROM flows"), [2])
        yield self.writer.stop()

    @inlineCallbacks
    def test_again(self) -> Any:
        """After an error the file is opened anew: the trouble may be over."""
        os.mkdir(self.path)
        yield self.assertFailure(self.writer.write(some(1)), IsADirectoryError)
        os.rmdir(self.path)
        with open(self.path, "w") as file:
            file.write("x" * 5000)
        yield self.assertFailure(self.writer.write(some(1)), HistoryError)
        os.unlink(self.path)
        yield self.writer.write(some(2))
        self.assertEqual(ask(self.path, "SELECT count(*) FROM flows"), [2])
        yield self.writer.stop()
