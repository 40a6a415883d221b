"""Tests of L{nanotun.daemon.patience}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.daemon.patience import LIMIT, TICK, Patience
from nanotun.errors import UnexpectedEvent, UpstreamTimeout
from nanotun.interfaces import IPart
from nanotun.testing import FakeUpstream


class PatienceTests(SynchronousTestCase):
    """L{Patience}."""

    def setUp(self) -> None:
        """Make it, with two proxies."""
        self.clock = Clock()
        self.carried = 0
        self.where = ""
        self.proxies = [FakeUpstream("socks5://a:1"), FakeUpstream("http://b:2")]
        logged: list[LogEvent] = []
        self.logged = logged
        log = Logger(observer=logged.append, namespace="test")  # type: ignore[arg-type]
        self.patch(Patience, "_log", log)
        self.told = False
        self.patience = Patience(
            self.clock,
            lambda: self.carried,
            lambda: self.where,
            lambda: self.proxies,
            lambda: self.told,
        )
        self.patience.start()
        self.addCleanup(self.assertEqual, self.clock.getDelayedCalls(), [])
        self.addCleanup(self.patience.stop)

    def passes(self, seconds: float) -> list[str]:
        """Let time pass.  What was said so far is returned."""
        self.clock.pump([TICK] * int(seconds / TICK))
        return [formatEvent(event) for event in self.logged]

    def test_interface(self) -> None:
        """It is a part."""
        verifyObject(IPart, self.patience)

    def test_idle(self) -> None:
        """A proxy is not asked while nothing waits, and nothing is said."""
        self.assertEqual(self.passes(60), [])
        self.assertEqual([proxy.checks for proxy in self.proxies], [[], []])

    def test_proxiesFail(self) -> None:
        """If no proxy answers, each proxy's own sentence is said once, within five seconds."""
        self.where = "192.0.2.1:80"
        self.passes(TICK)
        for proxy, why in zip(self.proxies, ("A is silent.", "B is silent."), strict=True):
            proxy.checks[0].errback(UpstreamTimeout(why))
        self.assertEqual(self.passes(LIMIT - TICK), [])
        self.assertEqual(self.passes(TICK), ["A is silent.", "B is silent."])
        self.assertLess(self.clock.seconds(), 5)
        self.assertEqual(len(self.passes(60)), 2)

    def test_destination(self) -> None:
        """A proxy that answers is not blamed: the destination is named."""
        self.where = "192.0.2.1:80 (host.example)"
        self.passes(TICK)
        self.proxies[0].checks[0].callback(None)
        self.proxies[1].checks[0].errback(UpstreamTimeout("B is silent."))
        self.assertEqual(
            self.passes(LIMIT),
            [
                "The connection to 192.0.2.1:80 (host.example) has waited 4 s for socks5://a:1, "
                "which answers but has not reached it yet."
            ],
        )

    def test_bothAnswer(self) -> None:
        """Several proxies that answer are all named."""
        self.where = "192.0.2.1:80"
        self.passes(TICK)
        for proxy in self.proxies:
            proxy.checks[0].callback(None)
        (line,) = self.passes(LIMIT)
        self.assertIn("for socks5://a:1 and http://b:2, which answer but have not reached it", line)

    def test_carried(self) -> None:
        """Once a connection was carried nothing is asked or said, however long another waits."""
        self.where = "192.0.2.1:80"
        self.passes(TICK)
        self.carried = 1
        self.assertEqual(self.passes(60), [])
        self.assertEqual([proxy.cancelled for proxy in self.proxies], [1, 1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failed(self) -> None:
        """A connection that failed is forgotten, and the next one watched as long."""
        self.where = "192.0.2.1:80"
        self.passes(LIMIT - TICK)
        self.where = ""
        self.assertEqual(self.passes(TICK), [])
        self.assertEqual([proxy.cancelled for proxy in self.proxies], [1, 1])
        self.where = "192.0.2.2:80"
        self.passes(TICK)
        self.proxies[0].checks[-1].callback(None)
        self.assertEqual(self.passes(LIMIT - TICK), [])
        self.assertEqual(len(self.passes(TICK)), 1)

    def test_another(self) -> None:
        """A connection that waits is not said to have waited for as long as one before it that
        failed: each is watched from its own beginning."""
        self.where = "192.0.2.1:80"
        self.passes(LIMIT - TICK)
        self.where = "192.0.2.2:80"
        self.passes(TICK)
        self.assertEqual([proxy.cancelled for proxy in self.proxies], [1, 1])
        self.proxies[1].checks[-1].callback(None)
        self.assertEqual(self.passes(LIMIT - TICK), [])
        (line,) = self.passes(TICK)
        self.assertIn("connection to 192.0.2.2:80 has waited 4 s for http://b:2, which", line)

    def test_told(self) -> None:
        """Where the checks of the proxies' health have told of all, nothing is said again."""
        self.where = "192.0.2.1:80"
        self.passes(TICK)
        for proxy in self.proxies:
            proxy.checks[0].errback(UpstreamTimeout("It is silent."))
        self.told = True
        self.assertEqual(self.passes(60), [])

    def test_stop(self) -> None:
        """It can be stopped at any time, more than once, and the checks end."""
        self.where = "192.0.2.1:80"
        self.passes(TICK)
        self.patience.stop()
        self.patience.stop()
        self.assertEqual([proxy.cancelled for proxy in self.proxies], [1, 1])
        self.assertEqual(self.passes(60), [])

    def test_unexpected(self) -> None:
        """An event without a step is an error."""
        self.assertRaises(UnexpectedEvent, self.patience._step, "long")
