"""
Tells open pages what happens, as server-sent events (HTML, section 9.2).  Nothing is looked at
for an event that no open page wants, and nothing at all without one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.web.http import BAD_REQUEST, SERVICE_UNAVAILABLE
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from nanotun.httpd.site import answer
from nanotun.timer import Timer
from nanotun.web.api import LINES_LIMIT, Answer
from nanotun.web.scan import FlowRates

TRAFFIC, FLOWS, LOG = TOPICS = "traffic", "flows", "log"

#: Open pages that are told: each may cost a copy of the list of flows every two seconds.
STREAM_LIMIT = 8

#: Seconds between two looks.
INTERVAL = 1.0

#: Looks between two lists of flows.
FLOWS_EVERY = 2

#: Flows of a list.
FLOWS_LIMIT = 500

#: Looks without an event after which something is sent all the same, so that a page that is gone
#: is noticed.
SILENT_LIMIT = 15

#: Looks that a page may leave unread before it is given up.
STALLED_LIMIT = 60

#: Seconds that a browser waits before it connects again.
RETRY = 3.0


class EventSources(NamedTuple):
    """
    What is looked at.

    @ivar traffic: bytes up and down since the start, and the number of open flows.
    @ivar each: see L{nanotun.web.api.DaemonSide}.
    @ivar log: the newest lines of the log, at most so many, after the one with a number.
    """

    traffic: Callable[[], tuple[int, int, int]]
    each: Callable[[Callable[[Answer], object]], Deferred[None]]
    log: Callable[[int, int], list[Answer]]


@implementer(IPushProducer)
class EventStream:
    """
    One open page.

    @ivar topics: what it wants.
    """

    def __init__(self, request: Any, topics: frozenset[str]) -> None:
        self.topics = topics
        self._request = request
        self._stalled = False
        self._silent = 0

    def start(self) -> None:
        """Send the head, and the first bytes, so that the browser knows that all is well."""
        self._request.responseHeaders.setRawHeaders(b"content-type", [b"text/event-stream"])
        self._request.registerProducer(self, True)
        self._request.write(b"retry: %d\n\n" % (RETRY * 1000))

    def send(self, text: bytes) -> None:
        """Send events, unless the page has yet to read others: it will have later ones."""
        if not self._stalled:
            self._silent = 0
            self._request.write(text)

    def looked(self) -> None:
        """There was a look, which may have had nothing for this page."""
        self._silent += 1
        if self._stalled and self._silent >= STALLED_LIMIT:
            # An orderly end would wait for what is unread.
            self._request.channel.transport.abortConnection()
        elif not self._stalled and self._silent >= SILENT_LIMIT:
            self.send(b": still here\n\n")

    def pauseProducing(self) -> None:
        """See L{IPushProducer.pauseProducing}."""
        self._stalled = True

    def resumeProducing(self) -> None:
        """See L{IPushProducer.resumeProducing}."""
        self._stalled = False

    def stopProducing(self) -> None:
        """See L{IPushProducer.stopProducing}."""
        self._stalled = True

    def end(self) -> None:
        """End it."""
        self._request.unregisterProducer()
        self._request.finish()


class EventStreams:
    """
    All open pages.

    @param clock: what the time is taken from.
    """

    _log = Logger()

    def __init__(self, sources: EventSources, clock: Any) -> None:
        self._sources = sources
        self._clock = clock
        self._timer = Timer(clock, self._look)
        self._streams: dict[EventStream, None] = {}
        self._rates = FlowRates(FLOWS_LIMIT)
        self._traffic: tuple[float, int, int] | None = None
        self._line = 0
        self._looks = 0
        self._scanning = False

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, request: Any, query: Mapping[str, str]) -> Any:
        """
        Tell a page what happens from now on.

        @param query: C{topics}, some of L{TOPICS} with commas between them; all of them without.
        @return: as L{Resource.render} does.
        """
        topics = frozenset(query.get("topics", ",".join(TOPICS)).split(","))
        if not topics <= {*TOPICS}:
            return _refuse(request, BAD_REQUEST, f"topics are some of {','.join(TOPICS)}.")
        if len(self._streams) >= STREAM_LIMIT:
            sentence = f"{STREAM_LIMIT} pages are open, and more are not told; close one of them."
            return _refuse(request, SERVICE_UNAVAILABLE, sentence)
        if request.method == b"HEAD":
            return answer(request, b"", "text/event-stream")
        stream = EventStream(request, topics)
        request.notifyFinish().addBoth(lambda _: self._closed(stream))
        if not any(LOG in each.topics for each in self._streams):
            self._line = _last(self._sources.log(1, 0), 0)
        self._streams[stream] = None
        stream.start()
        if not self._timer.active:
            self._begin()
        return NOT_DONE_YET

    def stop(self) -> None:
        """Tell nobody any more."""
        self._timer.cancel()
        for stream in list(self._streams):
            stream.end()

    def _begin(self) -> None:
        self._rates.forget()
        self._traffic = None
        self._looks = 0
        # The first list and the first numbers come at once.
        self._timer.start(0)

    def _closed(self, stream: EventStream) -> None:
        self._streams.pop(stream, None)
        if not self._streams:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer.start(INTERVAL)
        for topic, look in ((TRAFFIC, self._lookAtTraffic), (LOG, self._lookAtLog)):
            if self._wanted(topic):
                self._send(topic, look())
        if self._wanted(FLOWS) and not self._scanning and not self._looks % FLOWS_EVERY:
            self._scan()
        self._looks += 1
        for stream in list(self._streams):
            stream.looked()

    def _wanted(self, topic: str) -> bool:
        return any(topic in each.topics for each in self._streams)

    def _lookAtTraffic(self) -> list[Answer]:
        now = self._clock.seconds()
        up, down, flows = self._sources.traffic()
        before, self._traffic = self._traffic, (now, up, down)
        if before is None or now <= before[0]:
            return [{"up": 0, "down": 0, "flows": flows}]
        seconds = now - before[0]
        rates = {"up": (up - before[1]) / seconds, "down": (down - before[2]) / seconds}
        return [{**{name: round(rate) for name, rate in rates.items()}, "flows": flows}]

    def _lookAtLog(self) -> list[Answer]:
        lines = self._sources.log(LINES_LIMIT, self._line)
        self._line = _last(lines, self._line)
        return lines

    def _scan(self) -> None:
        self._scanning = True
        scan = self._rates.begin(self._clock.seconds())

        def done(_: object) -> None:
            self._send(FLOWS, [{"flows": scan.fastest(), "total": len(scan)}])

        def over(_: object) -> None:
            self._scanning = False

        whole = self._sources.each(scan.take).addCallback(done)
        whole.addErrback(
            lambda reason: self._log.failure("Flows cannot be told", failure=reason)
        ).addBoth(over)

    def _send(self, topic: str, found: list[Answer]) -> None:
        if not found:
            return
        text = "".join(f"event: {topic}\ndata: {json.dumps(each)}\n\n" for each in found).encode()
        for stream in list(self._streams):
            if topic in stream.topics:
                stream.send(text)


def _last(lines: list[Answer], number: int) -> int:
    """
    The number of the last of some lines.

    @param number: where there is none.
    """
    return lines[-1]["number"] if lines else number


def _refuse(request: Any, status: int, sentence: str) -> bytes:
    request.setResponseCode(status)
    return answer(request, json.dumps({"error": sentence}).encode(), "application/json")
