"""
Tests of what tools/install.sh does before it removes anything, with a shell script in place
of nanotun; the tests with the real one are in L{tests.e2e.test_install}.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests import ROOT

INSTALLER = ROOT / "tools" / "install.sh"

NANOTUN = """#!/bin/sh
echo "$@" >>"$0.calls"
[ ! -e "$0.fails" ] || { echo "nanotun: it cannot be undone."; exit 1; }
"""


class UninstallTests(SynchronousTestCase):
    """An installation of one program, with a directory in place of /run/nanotun."""

    def setUp(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("the script asks for root")
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()
        self.runDir = self.directory / "run"
        self.script = self.directory / "install.sh"
        self.script.write_text(INSTALLER.read_text().replace("/run/nanotun", str(self.runDir)))
        self.lib = self.directory / "usr/lib/nanotun"
        (self.lib / "bin").mkdir(parents=True)
        self.nanotun = self.lib / "bin/nanotun"
        # Outside of what is removed.
        self.log = self.directory / "calls"
        self.nanotun.write_text(NANOTUN.replace("$0.calls", str(self.log)))
        self.nanotun.chmod(0o755)
        self.config = self.directory / "etc/nanotun.yaml"
        self.config.parent.mkdir()
        self.config.write_text("proxy: socks5://192.0.2.1\n")

    def uninstall(self, status: int = 0) -> str:
        """Run the script, which must end with this status; returns what it prints."""
        done = subprocess.run(
            ["/bin/sh", str(self.script), "uninstall"],
            env={
                "PATH": os.environ["PATH"],
                "PREFIX": str(self.directory / "usr"),
                "SYSCONFDIR": str(self.config.parent),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=20,
        )
        self.assertEqual(done.returncode, status, done.stdout)
        return done.stdout

    def told(self) -> list[str]:
        """How nanotun was called."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def test_closed(self) -> None:
        """What a crash has left is undone first, a closed kill switch too."""
        self.runDir.mkdir()
        (self.runDir / "journal.json").write_text("{}")
        self.assertIn("nanotun is removed.", self.uninstall())
        self.assertEqual(self.told(), [f"recover --run-dir {self.runDir}"])
        self.assertFalse(self.lib.exists())
        self.assertTrue(self.config.exists())

    def test_otherRunDir(self) -> None:
        """A runDir of the configuration's is looked into as well."""
        self.config.write_text("runDir: /srv/run\nproxy: socks5://192.0.2.1\n")
        self.uninstall()
        self.assertEqual(self.told(), [f"recover --config {self.config}"])

    def test_nothing(self) -> None:
        """Where nothing is left, nothing is undone."""
        self.uninstall()
        self.assertEqual(self.told(), [])

    def test_notUndone(self) -> None:
        """If it cannot be undone, nothing is removed: nobody could open a kill switch any more."""
        Path(f"{self.nanotun}.fails").touch()
        # A daemon from elsewhere that has changed no routes has a lock there, and no journal.
        for config, files in (("", ["journal.json"]), ("", ["lock"]), ("runDir: /srv/run\n", [])):
            self.config.write_text(config)
            shutil.rmtree(self.runDir, ignore_errors=True)
            for name in files:
                self.runDir.mkdir()
                (self.runDir / name).touch()
            said = self.uninstall(1)
            self.assertIn("nanotun: it cannot be undone.\nNot everything is undone, so", said)
            self.assertTrue(self.nanotun.exists())
