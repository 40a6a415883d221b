"""Tests of L{nanotun.daemon.notify}."""

from __future__ import annotations

import errno
import os
import socket

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.daemon.notify import Notifier, sendDatagram
from nanotun.interfaces import IPart
from nanotun.log.format import formatText

PID = 77


class NotifierTests(SynchronousTestCase):
    """L{Notifier}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sent: list[tuple[str, str]] = []
        self.error: OSError | None = None

    def notifier(self, **environment: str) -> Notifier:
        """Make one, with C{environment}."""
        self.environment = {"NOTIFY_SOCKET": "/s", "OTHER": "x", **environment}

        def send(address: str, text: str) -> None:
            if self.error:
                raise self.error
            self.sent.append((address, text))

        return Notifier(self.environment, "nano0 is up", self.clock, send, lambda: PID)

    def texts(self) -> list[str]:
        """What was sent since the last call."""
        texts, self.sent = [text for _, text in self.sent], []
        return texts

    def test_interface(self) -> None:
        """It is a part of the daemon."""
        verifyObject(IPart, self.notifier())

    def test_life(self) -> None:
        """systemd is told when the service is ready and when it begins to stop."""
        notifier = self.notifier()
        self.assertEqual(self.sent, [])
        notifier.start()
        self.assertEqual(self.sent, [("/s", "READY=1\nSTATUS=nano0 is up")])
        notifier.stop()
        self.assertEqual(self.texts()[1:], ["STOPPING=1"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reload(self) -> None:
        """systemd is told when a reload begins, with the time, and when it ends."""
        notifier = self.notifier()
        notifier.reloading()
        notifier.reloaded()
        begin, end = self.texts()
        self.assertRegex(begin, r"^RELOADING=1\nMONOTONIC_USEC=[1-9]\d+$")
        self.assertEqual(end, "READY=1")

    def test_children(self) -> None:
        """The variables are removed from the environment that children inherit."""
        self.notifier(WATCHDOG_USEC="1", WATCHDOG_PID=str(PID))
        self.assertEqual(self.environment, {"OTHER": "x"})

    def test_watchdog(self) -> None:
        """The watchdog is pinged twice in each of its intervals, until the stop."""
        for variables in ({}, {"WATCHDOG_PID": str(PID)}):
            notifier = self.notifier(WATCHDOG_USEC="20000000", **variables)
            notifier.start()
            self.texts()
            self.clock.pump([5] * 6)
            self.assertEqual(self.texts(), ["WATCHDOG=1"] * 3)
            notifier.stop()
            self.clock.pump([5] * 6)
            self.assertEqual(self.texts(), ["STOPPING=1"])

    def test_noWatchdog(self) -> None:
        """There are no pings without a watchdog, nor for the watchdog of another process."""
        for variables in (
            {},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "soon"},
            {"WATCHDOG_USEC": "2", "WATCHDOG_PID": str(PID + 1)},
            {"WATCHDOG_USEC": "2", "NOTIFY_SOCKET": ""},
        ):
            self.notifier(**variables).start()
            self.assertEqual(self.clock.getDelayedCalls(), [], variables)

    def test_nobody(self) -> None:
        """Without systemd nothing is sent."""
        notifier = self.notifier(NOTIFY_SOCKET="")
        notifier.start()
        notifier.reloading()
        notifier.stop()
        self.assertEqual(self.sent, [])

    def test_deaf(self) -> None:
        """A socket that cannot be sent to is one warning, each time that it stops working."""
        notifier = self.notifier(WATCHDOG_USEC="2000000")
        self.error = OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        with capturedLogs() as events:
            notifier.start()
            self.clock.pump([1, 1, 1])
            self.error = None
            self.clock.advance(1)
            self.error = TimeoutError("timed out")
            self.clock.pump([1, 1])
            notifier.stop()
        lines = [formatText(event).split("] ")[1] for event in events]
        self.assertEqual(
            lines,
            [
                f"systemd does not hear nanotun at /s ({why}); it may take the service for one "
                "that hangs. Check NotifyAccess= of its unit.\n"
                for why in ("Connection refused", "timed out")
            ],
        )


class SendDatagramTests(SynchronousTestCase):
    """L{sendDatagram}."""

    def listen(self, name: str) -> socket.socket:
        """A socket with a name."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(5)
        sock.bind(name)
        return sock

    def test_path(self) -> None:
        """A path is a path."""
        name = self.mktemp()
        sock = self.listen(name)
        sendDatagram(name, "READY=1\nSTATUS=\u00e9")
        self.assertEqual(sock.recv(100), "READY=1\nSTATUS=\u00e9".encode())

    def test_abstract(self) -> None:
        """A name after an @ is an abstract one."""
        name = f"nanotun-test-{os.getpid()}"
        sock = self.listen(f"\0{name}")
        sendDatagram(f"@{name}", "READY=1")
        self.assertEqual(sock.recv(100), b"READY=1")

    def test_nobody(self) -> None:
        """Without a receiver, or with one that does not read, it raises without a long wait."""
        self.assertRaises(OSError, sendDatagram, "/nonexistent/x", "READY=1")
        name = self.mktemp()
        self.listen(name)

        def fill() -> None:
            for _ in range(10_000):
                sendDatagram(name, "WATCHDOG=1")

        self.assertRaises(OSError, fill)
