"""
L{nanotun.routing.firewall.resolved} with busctl and a real bus, on which
L{tests.e2e.lab.resolved} plays systemd-resolved.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.errors import RoutingError
from nanotun.routing.firewall.firewall import firewallKinds
from nanotun.routing.firewall.resolved import FOLDER, ResolvedLink, isRunning
from nanotun.routing.firewall.tools import SystemTools
from nanotun.routing.interfaces import IChange
from tests.contracts.firewall import ChangeContract
from tests.e2e.lab import resolved
from tests.e2e.lab.process import PATIENCE, Child, run, waitUntil

CONFIG = """\
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


class BusTools(SystemTools):
    """A machine on which systemd-resolved has run."""

    def exists(self, path: str) -> bool:
        """Find a program as on that machine."""
        return path == FOLDER or super().exists(path)


def missing() -> str:
    """Why this cannot run here; empty if it can."""
    for program in ("busctl", "dbus-daemon", resolved.PYTHON):
        if shutil.which(program) is None:
            return f"there is no {program}"
    if run([resolved.PYTHON, "-c", "import jeepney"], check=False).returncode:
        return f"{resolved.PYTHON} has no jeepney"
    return ""


class ResolvedBusTests(ChangeContract, SynchronousTestCase):
    """L{ResolvedLink} on a bus."""

    def setUp(self) -> None:
        """Start a bus and the stand-in."""
        reason = missing()
        if reason:
            raise SkipTest(reason)
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir(parents=True)
        # The path of a unix socket may have 107 bytes.
        self.socket = f"/tmp/nanotun-bus-{os.getpid()}"
        self.addCleanup(Path(self.socket).unlink, missing_ok=True)
        config = self.directory / "bus.conf"
        config.write_text(CONFIG.format(socket=self.socket))
        argv = ["dbus-daemon", "--nofork", "--print-address", f"--config-file={config}"]
        bus = self.start("bus", *argv)
        waitUntil(lambda: self.socket in bus.output(), PATIENCE, "the bus listens")
        self.tools = BusTools(environment=self.environment())
        self.service = self.startService()

    def environment(self) -> dict[str, str]:
        """The environment that leads to the bus."""
        return {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.socket}"}

    def start(self, name: str, *argv: str) -> Child:
        """Start a program."""
        child = Child(argv, self.directory / f"{name}.log", {**os.environ, **self.environment()})
        self.addCleanup(child.stop)
        return child

    def startService(self) -> Child:
        """Start the stand-in."""
        assert resolved.__file__
        service = self.start("resolved", resolved.PYTHON, resolved.__file__)
        waitUntil(lambda: isRunning(self.tools) and service.output(), PATIENCE, "it is there")
        return service

    def makeChange(self) -> IChange:
        """The link of the loopback, which always exists."""
        return ResolvedLink(self.tools, "lo")

    def remake(self, change: IChange) -> IChange:
        """Make the change from its record."""
        return firewallKinds(self.tools)[change.kind](change.record())

    def state(self) -> str:
        """What the stand-in was told and has not forgotten."""
        return self.service.output().splitlines()[-1]

    def test_hung(self) -> None:
        """A stand-in that does not answer delays a change for a second, not for D-Bus's 25."""
        change = self.makeChange()
        change.apply()
        os.kill(self.service.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, self.service.pid, signal.SIGCONT)
        begun = time.monotonic()
        for _ in range(3):
            self.assertTrue(change.holds())
        self.assertLess(time.monotonic() - begun, 20)

    def links(self) -> dict[str, Any]:
        """The calls, by link and method."""
        links: dict[str, Any] = json.loads(self.state())
        return links

    def test_told(self) -> None:
        """It is told both addresses of the gateway, for all names."""
        self.makeChange().apply()
        (link,) = self.links().values()
        self.assertEqual(
            link,
            {
                "SetLinkDNS": [
                    [2, [198, 18, 0, 1]],
                    [10, [0xFD, 0xFE, 0xDC, 0xBA, 0x98, 0x76, *[0] * 9, 1]],
                ],
                "SetLinkDomains": [[".", True]],
                "SetLinkDefaultRoute": True,
                "SetLinkDNSOverTLS": "no",
            },
        )

    def test_asked(self) -> None:
        """The stand-in says what it was told, as systemd-resolved does, in the same types."""
        self.makeChange().apply()
        (link,) = map(int, self.links())
        v4 = [2, [198, 18, 0, 1]]
        v6 = [10, [0xFD, 0xFE, 0xDC, 0xBA, 0x98, 0x76, *[0] * 9, 1]]
        for name, kind, expected in (
            ("DNSEx", "a(iiayqs)", [[link, *v4, 0, ""], [link, *v6, 0, ""]]),
            ("DNS", "a(iiay)", [[link, *v4], [link, *v6]]),
            ("Domains", "a(isb)", [[link, ".", True]]),
        ):
            self.assertEqual(
                self.property("", resolved.MANAGER, name), {"type": kind, "data": expected}
            )
        self.assertEqual(
            self.property(f"/link/_3{link}", resolved.LINK, "DefaultRoute"),
            {"type": "b", "data": True},
        )

    def property(self, path: str, interface: str, name: str) -> object:
        """What busctl says of a property."""
        argv = ["busctl", "--system", "--json=short", "call", resolved.NAME]
        argv += [f"/org/freedesktop/resolve1{path}", "org.freedesktop.DBus.Properties", "Get"]
        command = ["env", *(f"{key}={value}" for key, value in self.environment().items())]
        (found,) = json.loads(run([*command, *argv, "ss", interface, name]).stdout)["data"]
        return found

    def test_restarted(self) -> None:
        """After a restart, in which it has forgotten everything, it is told again."""
        change = self.makeChange()
        change.apply()
        self.service.stop()
        self.assertTrue(change.holds())
        self.service = self.startService()
        self.assertFalse(change.holds())
        change.apply()
        self.assertTrue(change.holds())

    def test_noBus(self) -> None:
        """Without a bus there is nothing to tell, and nothing to undo."""
        tools = BusTools(environment={"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"})
        self.assertFalse(isRunning(tools))
        change = ResolvedLink(tools, "lo")
        change.apply()
        self.assertTrue(change.holds())
        change.undo()

    def test_refused(self) -> None:
        """A refused call is an error with its reason."""
        change = ResolvedLink(self.tools, "lo", lambda name: 999999)
        error = self.assertRaises(RoutingError, change.apply)
        self.assertIn("Link 999999 not known", str(error))
