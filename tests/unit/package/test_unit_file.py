"""Tests of etc/systemd/nanotun.service with systemd's own tools; systemd need not run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.daemon.privileges import CAPABILITIES
from tests import ROOT

UNIT = ROOT / "etc" / "systemd" / "nanotun.service"

#: Of 10; a unit without any restriction has 9.6.  The rest is root with NET_ADMIN and
#: SYS_PTRACE, on the host's network, with /dev/net/tun and the /proc of all processes, and
#: with pidfd_getfd(2), without which open connections of excluded processes would end.
EXPOSURE_LIMIT = 3.3


class UnitTests(SynchronousTestCase):
    """The unit."""

    def setUp(self) -> None:
        self.text = UNIT.read_text()

    def analyze(self, *arguments: str) -> str:
        """
        Run systemd-analyze on a copy of the unit whose programs exist.

        @return: its output.
        """
        found = shutil.which("systemd-analyze")
        if found is None:
            raise SkipTest("there is no systemd-analyze")
        copy = Path(self.mktemp()).resolve()
        copy.mkdir()
        unit = copy / "nanotun.service"
        unit.write_text(re.sub(r"/usr/local/lib/nanotun/bin/\w+", "/bin/true", self.text))
        done = subprocess.run(
            [found, *arguments, str(unit)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def test_verify(self) -> None:
        """systemd-analyze verify has no complaint."""
        self.assertEqual(self.analyze("verify", "--man=no"), "")

    def test_security(self) -> None:
        """systemd-analyze security finds no more exposure than a TUN daemon needs."""
        said = self.analyze("security", "--offline=true", "--no-pager")
        found = re.search(r"Overall exposure level for nanotun.service: ([0-9.]+)", said)
        assert found is not None, said
        self.assertLessEqual(float(found[1]), EXPOSURE_LIMIT)

    def test_capabilities(self) -> None:
        """
        It grants exactly the capabilities that the daemon may keep, except DAC_OVERRIDE, and
        the one that begins the record of sockets.
        """
        found = re.search(r"^CapabilityBoundingSet=(.*)$", self.text, re.M)
        assert found is not None
        granted = {name.removeprefix("CAP_") for name in found[1].split()}
        self.assertEqual(granted, set(CAPABILITIES) - {"SETPCAP", "DAC_OVERRIDE"} | {"BPF"})

    def test_paths(self) -> None:
        """Its paths are those that make install replaces."""
        installer = (ROOT / "tools" / "install.sh").read_text()
        self.assertIn("ExecStart=/usr/local/lib/nanotun/bin/twistd -n ", self.text)
        self.assertIn("--config /etc/nanotun.yaml", self.text)
        for part in ("s|/usr/local/lib/nanotun|", "s|/etc/nanotun\\.yaml|"):
            self.assertIn(part, installer)
