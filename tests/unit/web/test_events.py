"""Tests of L{nanotun.web.events}."""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from nanotun.web.events import SILENT_LIMIT, STALLED_LIMIT, STREAM_LIMIT
from tests.unit.web.web_cases import WebCase, Wire, answered, flowRow


def events(wire: Wire, topic: str) -> list[Any]:
    """What a page was told of a topic since the last call for any."""
    body = answered(wire.value()).body.decode()
    return [json.loads(each) for each in re.findall(rf"event: {topic}\ndata: (.*)\n\n", body)]


class EventStreamsTests(WebCase):
    """L{EventStreams}, on a site."""

    def open(self, topics: str = "") -> tuple[Wire, Any]:
        """Open a page."""
        query = f"?topics={topics}" if topics else ""
        return self.connect(f"GET /api/v1/events{query}")

    def close(self, protocol: Any) -> None:
        """Close one."""
        protocol.connectionLost(Failure(ConnectionDone()))

    def test_traffic(self) -> None:
        """Each second a page is told how much is carried a second, at first of nothing."""
        self.carried = 5000, 100
        wire, _ = self.open("traffic")
        self.clock.advance(0)
        self.carried = 5300, 100
        self.clock.advance(1)
        self.rows = [flowRow(1)]
        self.clock.advance(1)
        self.assertEqual(answered(wire.value()).headers["content-type"], "text/event-stream")
        self.assertEqual(
            events(wire, "traffic"),
            [
                {"up": 0, "down": 0, "flows": 0},
                {"up": 300, "down": 0, "flows": 0},
                {"up": 0, "down": 0, "flows": 1},
            ],
        )

    def test_flows(self) -> None:
        """Every two seconds a page is told of the fastest flows, and how many there are."""
        self.rows = [flowRow(1, 100), flowRow(2, 200)]
        wire, _ = self.open("flows")
        self.clock.advance(0)
        (first,) = events(wire, "flows")
        self.assertEqual(([each["id"] for each in first["flows"]], first["total"]), ([2, 1], 2))
        self.rows[0]["up"] = 2100
        self.clock.pump([1, 1])
        _, second = events(wire, "flows")
        self.assertEqual([each["rateUp"] for each in second["flows"]], [1000, 0])
        self.assertEqual(events(wire, "traffic"), [])

    def test_log(self) -> None:
        """A page is told of lines that are new since it was opened, each once."""
        self.lines = [{"number": 1}]
        wire, _ = self.open("log,traffic")
        self.clock.advance(0)
        self.lines += [{"number": 2}, {"number": 3}]
        self.clock.pump([1, 1])
        self.assertEqual(events(wire, "log"), [{"number": 2}, {"number": 3}])

    def test_nobody(self) -> None:
        """Nothing is looked at that no open page wants, and nothing is due without a page."""
        _, log = self.open("log")
        self.clock.pump([0, 1, 1])
        self.assertEqual(self.asked, [])
        _, traffic = self.open("traffic")
        self.clock.pump([1, 1])
        self.assertEqual(len(self.asked), 2)
        self.close(traffic)
        self.clock.advance(1)
        self.assertEqual(len(self.asked), 2)
        self.close(log)
        self.assertEqual((len(self.streams), self.clock.getDelayedCalls()), (0, []))

    def test_many(self) -> None:
        """Only so many pages are told; when one is closed, another can be."""
        pages = [self.open() for _ in range(STREAM_LIMIT)]
        refused = self.get("/api/v1/events")
        self.assertEqual((refused.status, [*refused.json()]), (503, ["error"]))
        self.close(pages[0][1])
        wire, _ = self.open()
        self.assertEqual(answered(wire.value()).status, 200)

    def test_topics(self) -> None:
        """A topic that there is not is refused, and HEAD opens nothing."""
        self.assertEqual(self.get("/api/v1/events?topics=passwords").status, 400)
        self.assertEqual(self.ask("HEAD /api/v1/events").status, 200)
        self.assertEqual(len(self.streams), 0)

    def test_stalled(self) -> None:
        """A page that reads nothing gets no more, and is given up after a while."""
        wire, _ = self.open("traffic")
        self.clock.advance(0)
        producer: Any = wire.producer
        producer.pauseProducing()
        wire.clear()
        self.clock.pump([1] * 3)
        self.assertEqual(wire.value(), b"")
        producer.resumeProducing()
        self.clock.advance(1)
        self.assertIn(b"event: traffic", wire.value())
        producer.pauseProducing()
        self.clock.pump([1] * STALLED_LIMIT)
        self.assertTrue(wire.aborted)

    def test_silent(self) -> None:
        """Where nothing happens something is sent all the same, lest it seem dead."""
        wire, _ = self.open("log")
        self.clock.advance(0)
        wire.clear()
        self.clock.pump([1] * (SILENT_LIMIT - 1))
        self.assertEqual(wire.value().count(b": still here"), 1)

    def test_stop(self) -> None:
        """At the end the pages' connections end well, and nothing is due."""
        wire, _ = self.open()
        self.clock.advance(0)
        self.streams.stop()
        self.assertTrue(wire.value().endswith(b"\r\n0\r\n\r\n"))
        self.assertEqual(len(self.streams), 0)

    def test_broken(self) -> None:
        """If flows cannot be listed, that is logged, and the rest is told."""
        wire, _ = self.open()
        self.rows = [{"id": 1}]
        self.clock.pump([0, 1])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(len(events(wire, "traffic")), 2)
