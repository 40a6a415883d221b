"""
Tests of tools/readable.py, which lets other users read the checkout under test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import readable

#: Prints a file as another user.
_AS_OTHER = "import os, sys; os.setgid(65534); os.setuid(65534); print(open(sys.argv[1]).read())"


class ReadableTests(SynchronousTestCase):
    """L{readable}."""

    def setUp(self) -> None:
        """A file in a directory in a directory that only its owner may enter."""
        self.outer = Path(tempfile.mkdtemp(dir="/tmp")).resolve()
        self.addCleanup(subprocess.run, ["rm", "-rf", str(self.outer)], check=True)
        self.inner = self.outer / "home" / "with space"
        self.inner.mkdir(parents=True)
        self.outer.chmod(0o700)
        (self.outer / "home").chmod(0o755)
        self.inner.chmod(0o711)
        self.file = self.inner / ".file"
        self.file.write_text("hello")
        (self.inner / "link").symlink_to(".file")

    def test_closed(self) -> None:
        """Those on the way that others cannot read are found, the outermost first."""
        found = readable.closed([self.inner])
        self.assertEqual(
            [each for each in found if self.outer in (each, *each.parents)],
            [self.outer, self.inner],
        )

    def test_open(self) -> None:
        """With mounts of its own, others read what they could not; outside nothing changes."""
        if os.geteuid() != 0:
            raise SkipTest("only root can become another user")
        self.patch(readable, "ROOT", self.inner)
        argv = [sys.executable, "-c", _AS_OTHER, str(self.inner / "link")]
        self.assertNotEqual(subprocess.run(argv, stderr=subprocess.DEVNULL).returncode, 0)
        done = subprocess.run(readable.command(argv), capture_output=True, text=True)
        self.assertEqual((done.stdout, done.stderr), ("hello\n", ""))
        self.assertEqual(self.outer.stat().st_mode & 0o777, 0o700)
        self.assertNotIn(str(self.outer), Path("/proc/self/mountinfo").read_text())

    def test_nothing(self) -> None:
        """Where everybody can read everything, the program runs as it is."""
        self.patch(readable, "closed", lambda paths: [])
        self.assertEqual(readable.command(["true", "1"]), ["true", "1"])
