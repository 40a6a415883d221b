"""Tests of L{nanotun.daemon.signals}."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.daemon.signals import Signals
from nanotun.interfaces import IPart


class QueueReactor:
    """A reactor that keeps the calls of signals until it runs."""

    def __init__(self) -> None:
        self.queue: list[Callable[[], object]] = []
        self.stops = 0

    def callFromThread(self, action: Callable[[], object]) -> None:
        """See L{IReactorFromThreads}."""
        self.queue.append(action)

    def run(self) -> None:
        """Make the calls that are queued."""
        while self.queue:
            self.queue.pop(0)()

    def stop(self) -> None:
        """Stop; as with the real one, only once."""
        if self.stops:
            raise ReactorNotRunning
        self.stops += 1


class SignalsTests(SynchronousTestCase):
    """L{Signals}."""

    def setUp(self) -> None:
        self.reactor = QueueReactor()
        self.handlers: dict[int, Any] = {
            signal.SIGTERM: "term",
            signal.SIGINT: "int",
            signal.SIGHUP: "hup",
        }
        self.hups = 0
        self.signals = Signals(self.reactor, {signal.SIGHUP: self.hup}, self.install)

    def install(self, number: int, handler: Any) -> Any:
        """As L{signal.signal}."""
        before, self.handlers[number] = self.handlers[number], handler
        return before

    def hup(self) -> None:
        """The action of SIGHUP."""
        self.hups += 1

    def test_interface(self) -> None:
        """It is a part of the daemon."""
        verifyObject(IPart, self.signals)

    def test_during(self) -> None:
        """A signal during the start takes effect when the reactor runs, once if it came twice."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.signals.start()
            self.handlers[number](number, None)
            self.handlers[number](number, None)
            self.assertEqual(self.reactor.stops, 0)
            self.reactor.run()
            self.assertEqual(self.reactor.stops, 1)
            self.reactor.stops = 0

    def test_others(self) -> None:
        """Another signal calls its action on the reactor's thread."""
        self.signals.start()
        self.handlers[signal.SIGHUP](signal.SIGHUP, None)
        self.assertEqual(self.hups, 0)
        self.reactor.run()
        self.assertEqual((self.hups, self.reactor.stops), (1, 0))

    def test_stop(self) -> None:
        """After the stop, SIGTERM and SIGINT do as before, and other signals are ignored."""
        self.signals.start()
        self.signals.stop()
        self.assertEqual(
            self.handlers,
            {signal.SIGTERM: "term", signal.SIGINT: "int", signal.SIGHUP: signal.SIG_IGN},
        )
