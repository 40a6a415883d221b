"""
Crowds through a proxy on the daemon's own machine, with C{autoDefaultRoute}: each flow of an
app leads to one connection of the proxy, and to no other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from tests.e2e.case import engines
from tests.e2e.lab.crowd import Echo, ask
from tests.e2e.lab.localproxies import KINDS, UNRECORDED, RoutedHost
from tests.e2e.lab.process import waitUntil
from tests.e2e.routes_case import FAMILIES, RoutesCase

#: Half of them over IPv4, the others over IPv6.
FLOWS = 300

AT_ONCE = 100

#: Seconds after a crowd's end when nothing may move any more.
STILL = 60.0


class CrowdChecks(RoutesCase):
    """With the kernel's record of who makes sockets."""

    stackMode = "gvisor"
    prefix: Sequence[str] = ()

    def crowd(self, kind: str, own: int) -> RoutedHost:
        """
        Each flow is answered, none is refused, and none more is created.

        @param own: flows of the proxy itself for one of an app.
        """
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        proxy = KINDS[kind](self.lab, self.directory, stack)
        host = RoutedHost(self.lab, self.directory, proxy, self.prefix, stackMode=self.stackMode)
        self.addCleanup(host.stop)
        echo = Echo(self.lab.world, self.directory)
        self.addCleanup(echo.stop)
        for family in FAMILIES:
            answers = ask(self.lab.host, family.world, echo.port, FLOWS // 2, AT_ONCE)
            self.assertEqual((answers.answered, answers.errors), (FLOWS // 2, []), family.name)
        before = host.report()

        def still() -> bool:
            nonlocal before
            earlier, before = before, host.report()
            flows = before["engine"]["flows"]
            return bool(flows == earlier["engine"]["flows"] and not flows["open"])

        waitUntil(still, STILL, "nothing moves")
        self.assertEqual(echo.accepted(), FLOWS)
        rules = before["verdicts"]["rules"]
        self.assertEqual(before["verdicts"]["verdicts"].get("proxy"), FLOWS, rules)
        self.assertEqual(rules.get("local-proxy", 0), own * FLOWS, rules)
        self.assertEqual(before["engine"]["flows"]["refused"], 0)
        self.assertEqual(before["processes"]["misses"], 0)
        return host

    def test_microsocks(self) -> None:
        """A proxy with a thread for each connection."""
        self.crowd("microsocks", 1)

    def test_dante(self) -> None:
        """A proxy whose processes hand connections over to each other."""
        self.needDante()
        self.crowd("dante", 1)

    def test_ssh(self) -> None:
        """C{ssh -D}, whose connection was there before the daemon."""
        self.crowd("ssh", 0)

    def test_go(self) -> None:
        """A proxy in one process with few threads."""
        self.crowd("go", 1)


class WithoutRecordChecks(CrowdChecks):
    """Without the rights for the record, as on older kernels: nothing is ever guessed."""

    prefix = UNRECORDED

    def crowd(self, kind: str, own: int) -> RoutedHost:
        """The same, and the log says what is missing."""
        host = super().crowd(kind, own)
        self.assertIn("New sockets cannot be recorded", host.output())
        return host


engines(globals(), CrowdChecks)
engines(globals(), WithoutRecordChecks)
del CrowdChecks, WithoutRecordChecks
