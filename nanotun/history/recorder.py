"""
Collects the flows that have ended, and has them written together.

The reactor never waits for the file, and no flow does.  What cannot be written waits; what
waits is limited, and beyond that records are lost and counted.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.flow import FlowEnd, Note
from nanotun.history.schema import FlowRecord
from nanotun.history.store import BATCH, HistoryError
from nanotun.history.writer import HistoryWriter
from nanotun.interfaces import IEndObserver, IPart
from nanotun.linux.cgroups import unitOf
from nanotun.timer import Timer

#: Seconds from a flow's end until it is written, unless L{BATCH} of them come first.
INTERVAL = 2.0

#: Seconds between two tries when the file cannot be written.
RETRY = 60.0

#: Seconds between two looks for what is too old.
TIDY = 3600.0

#: Flows that wait to be written: about 10 MB.
QUEUE_LIMIT = 10_000

#: Characters of a text that are kept; no name or unit is longer, and hardly a path.
TEXT_LIMIT = 1024

#: How a flow ended that ended with nanotun.
STOPPED = "stop"

#: What may be otherwise at the next try.
TROUBLES = (sqlite3.Error, OSError, HistoryError)


class Ends(Protocol):
    """Where observers register, see L{IEndObserver}."""

    def follow(self, observer: IEndObserver) -> None:
        """Tell it from now on."""

    def unfollow(self, observer: IEndObserver) -> None:
        """Tell it no more."""


class Ended(NamedTuple):
    """
    A flow that waits to be written.

    @ivar at: when it ended, in seconds since 1970.
    @ivar stopped: whether nanotun ended it with itself.
    """

    at: float
    end: FlowEnd
    note: Note | None
    stopped: bool = False


def recordOf(ended: Ended) -> FlowRecord:
    """What is kept of a flow."""
    end, note = ended.end, ended.note
    flow, error = end.flow, end.error
    owner = None if note is None else note.owner
    ending = "closed" if not error else errno.errorcode.get(error, str(error))
    return FlowRecord(
        ended=ended.at,
        seconds=end.seconds,
        protocol=flow.protocol.name.lower(),
        source=flow.source.host,
        sourcePort=flow.source.port,
        destination=flow.destination.host,
        port=flow.destination.port,
        domain="" if note is None else note.name,
        verdict="" if note is None else note.verdict.value,
        rule="" if note is None else note.rule,
        upstream="" if note is None else note.upstream,
        proxy="" if note is None else note.by,
        pid=0 if owner is None else owner.pid,
        uid=-1 if owner is None else owner.uid,
        name="" if owner is None else _text(owner.name),
        path="" if owner is None else _text(owner.path),
        unit="" if owner is None else _text(unitOf(owner.cgroup)),
        up=end.bytesUp,
        down=end.bytesDown,
        ending=STOPPED if ended.stopped else ending,
    )


def _text(text: str) -> str:
    """Names of files, and so of programs, may be no text at all."""
    return text.encode("utf-8", "backslashreplace").decode()[:TEXT_LIMIT]


@implementer(IEndObserver, IPart)
class FlowRecorder:
    """
    The record of flows.

    @ivar recorded: flows that are in the file.
    @ivar lost: flows that could not be kept.
    """

    _log = Logger(namespace="nanotun.history")

    name = "the record of flows"

    def __init__(
        self,
        path: str,
        writer: HistoryWriter,
        ends: Ends,
        openFlows: Callable[[], Iterable[tuple[FlowEnd, Note | None]]],
        clock: IReactorTime,
        wallClock: Callable[[], float] = time.time,
    ) -> None:
        """
        @param path: of the file, for the log.
        @param openFlows: the flows that are open, as if they ended now.
        @param wallClock: seconds since 1970.
        """
        self._path = path
        self._writer = writer
        self._ends = ends
        self._openFlows = openFlows
        self._wallClock = wallClock
        self._waiting: deque[Ended] = deque()
        # Has one thing at a time done in the thread.
        self._one = DeferredLock()
        # What is being written.
        self._batch: list[Ended] = []
        self._stopping = False
        self._trouble = ""
        self._again = False
        self._told = 0
        self._timer = Timer(clock, self._flush)
        self._tidyTimer = Timer(clock, self._tidy)
        self.recorded = 0
        self.lost = 0

    def start(self) -> None:
        """See L{IPart.start}.  Whether the file is any good shows later, and stops nothing."""
        self._writer.start()
        self._ends.follow(self)
        self._tidyTimer.start(0)

    def stop(self) -> Deferred[None] | None:
        """
        See L{IPart.stop}.  What is open is written as ended.

        @return: fires when all is written, or cannot be.
        """
        self._stopping = True
        self._ends.unfollow(self)
        self._timer.close()
        self._tidyTimer.close()
        now = self._wallClock()
        self._waiting.extend(Ended(now, *each, stopped=True) for each in self._openFlows())
        if not self._waiting and not self._one.locked:
            return self._writer.stop()
        return self._finish()

    def flowEnded(self, end: FlowEnd, note: Note | None) -> None:
        """See L{IEndObserver.flowEnded}."""
        waiting = self._waiting
        if len(waiting) >= QUEUE_LIMIT:
            self.lost += 1
            return
        waiting.append(Ended(self._wallClock(), end, note))
        if self._trouble or self._one.locked:
            # Whoever has it sees to this one, too.
            return
        if len(waiting) >= BATCH:
            self._flush()
        elif not self._timer.active:
            self._timer.start(INTERVAL)

    def report(self) -> dict[str, Any]:
        """
        How recording goes.

        @return: C{file}; C{recorded} and C{lost} since the start, and C{waiting}, in flows;
            C{trouble}, a sentence or the empty string.
        """
        return {
            "file": self._path,
            "recorded": self.recorded,
            "lost": self.lost,
            "waiting": len(self._waiting),
            "trouble": self._trouble,
        }

    def _flush(self) -> None:
        self._timer.cancel()
        self._begin(bool(self._trouble and not self._waiting))

    def _tidy(self) -> None:
        self._tidyTimer.start(TIDY)
        self._begin(True)

    def _begin(self, tidy: bool) -> None:
        """
        Have the file written to, when what is under way is done.

        @param tidy: whether what is too old is deleted first.
        """
        done: Deferred[None] = self._one.run(self._work, tidy)
        done.addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        self._log.failure("Flows were not recorded in {path}", failure, path=self._path)
        self.lost += len(self._batch)
        self._batch = []
        # While there is trouble, no flow starts it.
        if self._trouble and not self._stopping:
            self._timer.start(RETRY)

    @inlineCallbacks
    def _work(self, tidy: bool) -> Any:
        """Write what waits, unless that does not work."""
        if tidy:
            yield self._attempt(self._writer.tidy)
        while self._waiting:
            self._batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            records = [recordOf(each) for each in self._batch]
            worked = yield self._attempt(self._writer.write, records)
            if worked:
                self.recorded += len(records)
            else:
                self._waiting.extendleft(reversed(self._batch))
            self._batch = []
            if not worked or (len(self._waiting) < BATCH and not self._stopping):
                break
        if self._trouble:
            return
        self._tellLost()
        if self._waiting and not self._stopping:
            self._timer.start(INTERVAL)

    @inlineCallbacks
    def _attempt(self, do: Callable[..., Deferred[None]], *arguments: object) -> Any:
        """
        Have the writer do something.

        @return: fires with whether it could.
        """
        try:
            yield do(*arguments)
        except TROUBLES as error:
            self._failed(error)
            return False
        self._again = self._again or bool(self._trouble)
        self._trouble = ""
        return True

    def _tellLost(self) -> None:
        """Log that recording works again, and what was lost since the last such line."""
        lost, self._told = self.lost - self._told, self.lost
        if self._again:
            self._again = False
            self._log.warn(
                "Flows are recorded in {path} again; those that were lost: {lost}.",
                path=self._path,
                lost=lost,
            )
        elif lost:
            self._log.warn(
                "Flows ended faster than they could be written to {path}; those that were lost: "
                "{lost}.",
                path=self._path,
                lost=lost,
            )

    def _failed(self, error: Exception) -> None:
        sentence = self._sentence(error)
        if sentence != self._trouble:
            self._trouble = sentence
            self._log.error("{sentence}", sentence=sentence)
        if not self._stopping:
            self._timer.start(RETRY)

    def _sentence(self, error: Exception) -> str:
        if isinstance(error, HistoryError):
            return str(error)
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return (
            f"Flows cannot be recorded in {self._path} ({why}). The next {QUEUE_LIMIT} wait until "
            "they can, the others are lost; nanotun itself runs on."
        )

    @inlineCallbacks
    def _finish(self) -> Any:
        """Write all that waits, and close the file, unless there is no time for it."""
        with contextlib.suppress(CancelledError):
            yield self._one.run(self._work, False)
            yield self._writer.stop()
        left = len(self._waiting) + len(self._batch)
        if left:
            self.lost += left
            self._log.error(
                "Flows that were not recorded in {path} at the stop: {left}.",
                path=self._path,
                left=left,
            )
