"""Tests of L{nanotun.metrics.server}."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.flow import Endpoint
from nanotun.interfaces import IPart
from nanotun.metrics.server import MetricsServer
from nanotun.rundir import METRICS_TOKEN
from tests.unit.metrics.metrics_cases import counted

WHERE = Endpoint("127.0.0.1", 9198)


class MetricsServerTests(SynchronousTestCase):
    """L{MetricsServer}."""

    def setUp(self) -> None:
        """A part that is not started."""
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir(mode=0o755)
        self.directory.chmod(0o755)
        self.reactor: Any = MemoryReactorClock()
        self.server = MetricsServer(
            WHERE, str(self.directory), counted(), self.reactor, lambda: 1234.5
        )

    def test_part(self) -> None:
        """It is a part; once started it listens where it should, and the token is there."""
        verifyObject(IPart, self.server)
        self.assertEqual(os.listdir(self.directory), [])
        self.server.start()
        ((port, _, _, host),) = self.reactor.tcpServers
        self.assertEqual(Endpoint(host, port), WHERE)
        token = self.directory / METRICS_TOKEN
        self.assertEqual(stat.S_IMODE(token.stat().st_mode), 0o600)
        self.server.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertTrue(token.exists())

    def test_forms(self) -> None:
        """A client gets OpenMetrics if it asks for it, and the older text otherwise."""
        self.server.start()
        self.addCleanup(self.server.stop)
        accepted = "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"
        page, kind = self.server.write(accepted)
        self.assertIn("application/openmetrics-text; version=1.0.0", kind)
        self.assertTrue(page.endswith(b"# EOF\n"))
        self.assertIn(b"nanotun_start_time_seconds 1234.5\n", page)
        self.assertIn(b"\nprocess_open_fds ", page)
        page, kind = self.server.write("text/html")
        self.assertIn("text/plain; version=0.0.4", kind)
        self.assertIn(b"# TYPE nanotun_flows_total counter\n", page)

    def test_lag(self) -> None:
        """How late the reactor is, is measured from the first scrape on."""
        self.server.start()
        self.addCleanup(self.server.stop)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.server.write("")
        self.reactor.advance(1.0)
        self.assertIn(b"nanotun_reactor_lag_seconds_count 1.0\n", self.server.write("")[0])

    def test_taken(self) -> None:
        """Where somebody else listens, the daemon does without it, and says so."""

        def listenTCP(port: int, factory: object, interface: str = "") -> None:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))

        self.patch(self.reactor, "listenTCP", listenTCP)
        with capturedLogs() as logged:
            self.server.start()
        (line,) = map(formatEvent, logged)
        self.assertIn("cannot be served at 127.0.0.1:9198", line)
        self.assertIn("Address already in use", line)
        self.assertIs(self.server.stop(), None)

    def test_badToken(self) -> None:
        """With a token that everybody can read nothing is served."""
        (self.directory / METRICS_TOKEN).write_text("a-token-of-the-test")
        (self.directory / METRICS_TOKEN).chmod(0o644)
        with capturedLogs() as logged:
            self.server.start()
        self.assertIn("can be read by everybody", formatEvent(logged[0]))
        self.assertEqual(self.reactor.tcpServers, [])
