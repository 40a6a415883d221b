"""
Tests of tools/readable.py, which lets other users read the checkout under test.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import readable
import run_tests

#: Prints a file as another user.
_AS_OTHER = "import os, sys; os.setgid(65534); os.setuid(65534); print(open(sys.argv[1]).read())"


def needMounts() -> None:
    """Skip where this process can have no mounts of its own, or become no other user."""
    if os.geteuid() != 0:
        raise SkipTest("only root can become another user")
    if not readable.mayMount():
        raise SkipTest("root may mount nothing here")


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

    def test_hasClosed(self) -> None:
        """Files and directories that others cannot read are found, but not among what is kept."""
        self.assertFalse(readable.hasClosed(self.inner))
        for path, wrong in (("f", 0o600), ("d", 0o744), ("d/below/f", 0o640), ("dist/f", None)):
            place = self.inner / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if path == "d":
                place.mkdir()
            else:
                place.write_text("")
            place.chmod(wrong or 0)
            self.assertEqual(readable.hasClosed(self.inner), wrong is not None, path)
            place.chmod(0o755)

    def test_files(self) -> None:
        """
        So it is where the files themselves are closed, by a umask of 077.  What is written to what
        is kept is there afterwards.
        """
        needMounts()
        if not re.search(r"\toverlay$", Path("/proc/filesystems").read_text(), re.M):
            raise SkipTest("the kernel has no overlay file system")
        self.inner.chmod(0o700)
        self.file.chmod(0o600)
        (self.inner / "below").mkdir(0o700)
        (self.inner / "below" / "link").symlink_to("../.file")
        (self.inner / "dist").mkdir(0o700)
        self.patch(readable, "ROOT", self.inner)
        self.patch(run_tests, "makeDirectory", lambda: None)
        argv = [sys.executable, "-c", "open('dist/made', 'w').close();" + _AS_OTHER, "below/link"]
        done = subprocess.run(
            readable.command(argv), capture_output=True, text=True, cwd=self.inner
        )
        self.assertEqual((done.stdout, done.stderr), ("hello\n", ""))
        self.assertTrue((self.inner / "dist" / "made").exists())
        for place, mode in ((self.inner, 0o700), (self.file, 0o600), (self.inner / "dist", 0o700)):
            self.assertEqual(place.stat().st_mode & 0o777, mode)
        self.assertNotIn(str(self.outer), Path("/proc/self/mountinfo").read_text())

    def test_open(self) -> None:
        """With mounts of its own, others read what they could not; outside nothing changes."""
        needMounts()
        self.patch(readable, "ROOT", self.inner)
        argv = [sys.executable, "-c", _AS_OTHER, str(self.inner / "link")]
        self.assertNotEqual(subprocess.run(argv, stderr=subprocess.DEVNULL).returncode, 0)
        done = subprocess.run(readable.command(argv), capture_output=True, text=True)
        self.assertEqual((done.stdout, done.stderr), ("hello\n", ""))
        self.assertEqual(self.outer.stat().st_mode & 0o777, 0o700)
        self.assertNotIn(str(self.outer), Path("/proc/self/mountinfo").read_text())

    def test_nothing(self) -> None:
        """Where everybody can read everything, the program runs as it is."""
        self.patch(readable, "opened", lambda paths: iter(()))
        self.assertEqual(readable.command(["true", "1"]), ["true", "1"])
