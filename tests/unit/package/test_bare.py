"""
Tests of tools/bare.py, apart from making roots: C{make bare} does that.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import bare


class BareTests(SynchronousTestCase):
    """L{bare}."""

    def test_unknown(self) -> None:
        """The name of no release gets a sentence with those there are."""
        with self.assertRaisesRegex(bare.Failure, "no DISTRO=sid; .* bookworm .*trixie.*noble"):
            bare.check("sid")

    def test_notRoot(self) -> None:
        """Without root it says so."""
        self.patch(os, "geteuid", lambda: 1000)
        with self.assertRaisesRegex(bare.Failure, "as root"):
            bare.check("trixie")

    def test_missing(self) -> None:
        """A program that is missing here gets a sentence with its package."""
        self.patch(os, "geteuid", lambda: 0)
        self.patch(os, "environ", {"PATH": "/nowhere"})
        self.patch(bare, "TOOLS", {"no-such-program": "some-package"})
        with self.assertRaisesRegex(bare.Failure, "apt-get install some-package"):
            bare.check("trixie")

    def run_(self, *commands: str) -> subprocess.CompletedProcess[str]:
        """What the script of these commands does."""
        return subprocess.run(["sh", "-c", bare.script(commands)], capture_output=True, text=True)

    def test_commands(self) -> None:
        """Commands run one after the other, until one fails, whose status counts."""
        done = self.run_("echo it\\'s", "cd /; exit 3", "echo never")
        self.assertEqual((done.returncode, done.stdout), (3, "it's\n"))
        self.assertEqual(done.stderr, "bare: echo it\\'s\nbare: cd /; exit 3\n")
        self.assertEqual(self.run_("cd /", f"[ $PWD = {os.getcwd()} ]").returncode, 0)

    def test_contained(self) -> None:
        """The status is the program's; nothing of it is left when a signal interrupts it."""
        if os.geteuid() != 0:
            self.skipTest("only root has mounts of its own")
        self.assertEqual(bare.contained(["sh", "-c", "exit 7"], os.environ), 7)
        pids = Path(self.mktemp())

        class Interrupting(subprocess.Popen[bytes]):
            """Interrupted as soon as the program runs."""

            def wait(self, timeout: float | None = None) -> int:
                if not pids.exists() and self.poll() is None:
                    while not pids.exists() or not pids.read_text().endswith("\n"):
                        pass
                    raise bare.Interrupted
                return super().wait(timeout)

        self.patch(subprocess, "Popen", Interrupting)
        # The pid outside, as /proc is that of outside.
        show = "while read -r key value; do [ $key != Pid: ] || echo $value; done"
        nested = f"sleep 1000 & {show} </proc/self/status >{pids}; exec sleep 1000"
        with self.assertRaises(bare.Interrupted):
            bare.contained(["sh", "-c", nested], os.environ)
        # Nothing is left but perhaps an entry in the table, until this machine's init sees it.
        with contextlib.suppress(FileNotFoundError):
            self.assertEqual(Path("/proc", pids.read_text().strip(), "cmdline").read_text(), "")

    def test_environment(self) -> None:
        """Commands see a login's variables, those about this network, and no others."""
        self.patch(os, "environ", {"CI": "true", "SECRET": "x", "HOME": "/home/me"})
        found = bare.environment()
        self.assertEqual((found["CI"], found["HOME"]), ("true", "/root"))
        self.assertNotIn("SECRET", found)
