"""
C{make run}, as a user runs it.
"""

from __future__ import annotations

import subprocess
import sys

from tests.e2e.case import LabCase
from tests.e2e.lab.namespace import Namespace, removeLeftovers
from tests.e2e.lab.process import run
from tests.e2e.lab.topology import FAMILIES

DEMO = [sys.executable, "-m", "tests.e2e.demo"]


class DemoTests(LabCase):
    """The demonstration says the truth, and leaves nothing behind."""

    seconds = 120

    def test_inNamespaces(self) -> None:
        """Without a proxy it shows both engines over both IP versions and cleans up."""
        done = run(DEMO, timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(done.stdout.count("SHA-256 right"), 4)
        self.assertEqual(done.stdout.count("answered by the stack"), 4)
        for family in FAMILIES:
            self.assertEqual(done.stdout.count(f"which saw {family.proxyOutside}"), 2)
        self.assertEqual(removeLeftovers(), [])

    def _withProxy(self, machine: Namespace, url: str) -> subprocess.CompletedProcess[str]:
        proxy = ["--proxy", "socks5://127.0.0.1:1080"]
        return machine.run([*DEMO, *proxy, "--url", url], timeout=60, check=False)

    def test_ownProxy(self) -> None:
        """With a proxy on this machine, it fetches through it, and the machine's routes stay."""
        web = self.webServer()
        machine = self.lab.proxy  # Plays the user's machine.
        self.dante(internal=("127.0.0.1",))
        look = ["sh", "-c", "ip route show table all; ip -6 route show table all; ip rule; ip addr"]
        before = machine.run(look).stdout
        for family in FAMILIES:
            done = self._withProxy(machine, family.url(web.port, "/bytes/1000000"))
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertEqual(done.stdout.count("HTTP 200, 1,000,000 bytes"), 2)
        self.assertEqual(machine.run(look).stdout, before)

    def test_proxyFails(self) -> None:
        """A URL that cannot be fetched is one sentence and a status other than 0."""
        self.dante(internal=("127.0.0.1",))
        done = self._withProxy(self.lab.proxy, FAMILIES[0].url(1, "/"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("make run: http://10.77.2.2:1/ through", done.stdout)
        self.assertNotIn("Traceback", done.stdout)
