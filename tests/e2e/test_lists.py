"""
Rules that take networks and countries from files, while the files change.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.countryfile import countries
from tests.e2e.case import TunnelCase, enginesAndFamilies
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import CONNECT_SECONDS, Daemon
from tests.e2e.test_reload import echo


class ListChecks(TunnelCase):
    """A rule that refuses what a file names."""

    def setUp(self) -> None:
        super().setUp()
        self.port = self.peer(echo).port
        self.proxy = self.dante()
        self.path = Path(self.directory, "list")
        bits = 128 if ":" in self.family.world else 32
        self.world = f"{self.family.world}/{bits}"

    def start(self, **values: object) -> Daemon:
        """A daemon with one rule."""
        rule = {"to": "reject", **values}
        countryFile = str(self.path) if "countries" in rule else ""
        return self.daemon(proxy=self.proxy.url(), rules=[rule], countryFile=countryFile)

    def reload(self, daemon: Daemon) -> str:
        """What C{nanotun reload} says."""
        done = say("reload", "--run-dir", str(daemon.directory / "run"))
        return done.stdout + done.stderr

    def assertProxied(self) -> None:
        """A new flow goes through the proxy."""
        before = len(self.proxy.connects())
        with self.connect(self.port) as sock:
            self.assertEchoes(sock)
        self.assertEqual(len(self.proxy.connects()), before + 1)

    def assertRefused(self) -> None:
        """A new flow is refused at once, and the proxy hears nothing of it."""
        before = self.proxy.connects()
        error, seconds = self.connectError(self.port)
        self.assertNotEqual(error, 0)
        self.assertLess(seconds, CONNECT_SECONDS / 4)
        self.assertEqual(self.proxy.connects(), before)

    def test_networks(self) -> None:
        """
        Another version of a list decides once the configuration was read again; a list that is
        broken, or that others can write to, changes nothing.
        """
        self.path.write_text("# nobody yet\n192.0.2.1\n")
        daemon = self.start(networks=f"file:{self.path}")
        self.assertProxied()
        self.assertEqual(self.reload(daemon), "Nothing has changed.\n")
        self.path.write_text(f"192.0.2.1\n{self.world}\n")
        self.assertProxied()
        self.assertEqual(self.reload(daemon), "Changed: rules.\n")
        self.assertRefused()
        self.path.write_text("<html>404</html>\n")
        self.assertIn(f"{self.path} is no list of networks", self.reload(daemon))
        self.assertRefused()
        self.path.write_text("192.0.2.1\n")
        self.path.chmod(0o666)
        self.assertIn("can be written by others", self.reload(daemon))
        self.assertRefused()
        self.path.chmod(0o644)
        self.assertEqual(self.reload(daemon), "Changed: rules.\n")
        self.assertProxied()
        self.assertEndsWell(daemon)

    def test_countries(self) -> None:
        """A file of countries decides, and goes on to if somebody empties it meanwhile."""
        self.path.write_bytes(countries({self.world: "DE"}))
        daemon = self.start(countries=["DE"])
        self.assertRefused()
        os.truncate(self.path, 0)
        self.assertRefused()
        self.assertIn("is no MaxMind DB", self.reload(daemon))
        self.assertRefused()
        self.path.write_bytes(countries({self.world: "AT"}))
        self.assertEqual(self.reload(daemon), "Changed: rules.\n")
        self.assertProxied()
        self.assertEndsWell(daemon)


enginesAndFamilies(globals(), ListChecks)
# Otherwise trial would run the base class, too.
del ListChecks
