"""Tests of L{nanotun.daemon.privileges}."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.daemon import privileges as module
from nanotun.daemon.privileges import CAPABILITIES, Privileges, makePrivileges, needed
from nanotun.flow import Endpoint
from nanotun.interfaces import IPart
from nanotun.log.format import formatText

SETTINGS = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "h")}, None)
ALL = (1 << 41) - 1
NET_ADMIN = 1 << 12


class FakeKernel:
    """A kernel that knows 41 capabilities."""

    def __init__(self, have: int = ALL) -> None:
        self.have = self.bounding = have
        self.noNew = False
        self.threadCount = 1
        self.refused = ""

    def permitted(self) -> int:
        """See L{nanotun.daemon.privileges.Kernel.permitted}."""
        return self.have

    def keep(self, capabilities: int) -> None:
        """See L{nanotun.daemon.privileges.Kernel.keep}."""
        self._check("keep", not capabilities & ~self.have)
        self.have = capabilities

    def unbind(self, number: int) -> None:
        """See L{nanotun.daemon.privileges.Kernel.unbind}."""
        self._check("unbind", bool(self.have >> 8 & 1))
        if number > 40:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.bounding &= ~(1 << number)

    def noNewPrivileges(self) -> None:
        """See L{nanotun.daemon.privileges.Kernel.noNewPrivileges}."""
        self._check("noNewPrivileges", True)
        self.noNew = True

    def threads(self) -> int:
        """See L{nanotun.daemon.privileges.Kernel.threads}."""
        return self.threadCount

    def _check(self, name: str, allowed: bool) -> None:
        if name == self.refused or not allowed:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))


class NeededTests(SynchronousTestCase):
    """L{needed}."""

    def test_needed(self) -> None:
        """A daemon keeps the capabilities that its settings need, and no others."""
        routes = replace(SETTINGS, autoDefaultRoute=True)
        logged = replace(SETTINGS, flowLog="/var/lib/nanotun/flows.db")
        told = replace(SETTINGS, logFlows=True, metrics=Endpoint("127.0.0.1", 9198))
        shown = replace(SETTINGS, web="/run/nanotun/web.sock")
        for settings, owners, foreign, expected in (
            (SETTINGS, False, False, set()),
            (SETTINGS, False, True, {"DAC_OVERRIDE"}),
            (SETTINGS, True, False, {"SYS_PTRACE", "DAC_READ_SEARCH"}),
            (routes, False, False, {"NET_RAW", "SYS_PTRACE", "DAC_READ_SEARCH"}),
            (logged, False, False, {"SYS_PTRACE", "DAC_READ_SEARCH"}),
            (told, False, False, set()),
            (shown, False, False, {"SYS_PTRACE", "DAC_READ_SEARCH"}),
        ):
            self.assertEqual(needed(settings, owners, foreign), expected | {"NET_ADMIN"})
        self.assertEqual(needed(SETTINGS, False, False, True), {"NET_ADMIN", "NET_RAW"})

    def test_secret(self) -> None:
        """A secret file that is another user's alone can be read again at a reload."""
        self.patch(module, "hasForeign", lambda read, written: "/run/secrets/proxy" in read)
        dropped = frozenset({"DAC_OVERRIDE"})
        for environment, kept in (
            ({}, False),
            ({"NANOTUN_PROXY_FILE": "/run/secrets/proxy"}, True),
        ):
            self.patch(os, "environ", environment)
            privileges = makePrivileges(SETTINGS, {}, "", False, False)
            self.assertEqual(not privileges.lacking(dropped), kept)

    def test_numbers(self) -> None:
        """The numbers are those of the kernel's header."""
        header = Path("/usr/include/linux/capability.h")
        if not header.exists():
            raise SkipTest("there are no kernel headers")
        numbers = re.findall(r"^#define CAP_(\w+)\s+(\d+)$", header.read_text(), re.M)
        known = {name: int(number) for name, number in numbers}
        self.assertEqual({name: known[name] for name in CAPABILITIES}, CAPABILITIES)


class PrivilegesTests(SynchronousTestCase):
    """L{Privileges}."""

    def setUp(self) -> None:
        self.kernel = FakeKernel()
        self.privileges = Privileges(frozenset({"NET_ADMIN"}), self.kernel)

    def start(self, kernel: FakeKernel) -> list[str]:
        """Start the part with a kernel; returns the warnings."""
        privileges = Privileges(frozenset({"NET_ADMIN"}), kernel)
        with capturedLogs() as events:
            privileges.start()
            privileges.stop()
        return [
            formatText(event).split("] ", 1)[1]
            for event in events
            if event["log_level"] is LogLevel.warn
        ]

    def test_interface(self) -> None:
        """It is a part of the daemon."""
        verifyObject(IPart, self.privileges)

    def test_keep(self) -> None:
        """Needed capabilities are kept, and all others are dropped, for children too."""
        self.assertEqual(self.start(self.kernel), [])
        self.assertEqual((self.kernel.have, self.kernel.bounding), (NET_ADMIN, NET_ADMIN))
        self.assertTrue(self.kernel.noNew)

    def test_container(self) -> None:
        """Capabilities that the process lacks are not asked for; the rest is kept."""
        kernel = FakeKernel(1 << 10)
        self.assertEqual(self.start(kernel), [])
        self.assertEqual(kernel.have, 0)
        self.assertTrue(kernel.noNew)

    def test_refused(self) -> None:
        """A kernel that refuses is one warning, which says what to do."""
        for call in ("keep", "unbind", "noNewPrivileges"):
            kernel = FakeKernel()
            kernel.refused = call
            self.assertEqual(
                self.start(kernel),
                [
                    "Capabilities cannot be given up (Operation not permitted): nanotun keeps "
                    "all that root has. Let its unit or container allow capset and prctl.\n"
                ],
            )

    def test_threads(self) -> None:
        """A warning counts the threads that exist already, as they keep all capabilities."""
        self.kernel.threadCount = 3
        self.assertEqual(
            self.start(self.kernel),
            [
                "Threads that were there before nanotun keep all capabilities: 2. Start it "
                "without what makes them.\n"
            ],
        )

    def test_lacking(self) -> None:
        """It names the needed capabilities that were dropped."""
        self.assertEqual(self.privileges.lacking(frozenset({"NET_ADMIN", "NET_RAW"})), {"NET_RAW"})


SCRIPT = """
import subprocess, threading
from nanotun.daemon.privileges import LinuxKernel, Privileges
Privileges(frozenset({"NET_ADMIN", "SYS_PTRACE"}), LinuxKernel()).start()
def show():
    print(open("/proc/thread-self/status").read())
thread = threading.Thread(target=show)
thread.start()
thread.join()
print(subprocess.check_output(["/bin/cat", "/proc/self/status"], text=True))
"""


class RealKernelTests(SynchronousTestCase):
    """L{nanotun.daemon.privileges.LinuxKernel}."""

    def test_real(self) -> None:
        """Threads and children that are started after the drop have no more capabilities."""
        if os.geteuid() != 0:
            raise SkipTest("only root has capabilities")
        output = subprocess.check_output([sys.executable, "-c", SCRIPT], text=True)
        expected = f"{NET_ADMIN | 1 << 19:016x}"
        for name in ("CapPrm", "CapEff", "CapBnd"):
            self.assertEqual(re.findall(rf"{name}:\t(\w+)", output), [expected] * 2, name)
        for name in ("CapInh", "CapAmb"):
            self.assertEqual(re.findall(rf"{name}:\t(\w+)", output), ["0" * 16] * 2, name)
        self.assertEqual(re.findall(r"NoNewPrivs:\t(\d)", output), ["1", "1"])
