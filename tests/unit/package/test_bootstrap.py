"""
Tests of tools/bootstrap.sh, which brings what the tests run.
"""

from __future__ import annotations

import importlib
import re

from twisted.trial.unittest import SynchronousTestCase

from tests import ROOT
from tests.e2e.case import PROGRAMS

#: What comes with another program's package.
BESIDE = {
    "/usr/bin/python3": "python3",
    "busctl": "systemd-analyze",
    "capinfos": "tshark",
    "ldns-keygen": "ldns-signzone",
    "ssh-keygen": "ssh",
    "sysctl": "ps",
}

#: What no Debian or Ubuntu is without.
ALWAYS = {"apt-get", "setpriv", "unshare"}


class BootstrapTests(SynchronousTestCase):
    """The Debian packages that C{make test} installs."""

    def test_programs(self) -> None:
        """
        Each program without which an end-to-end test skips is there after C{make test} has
        installed what is missing.
        """
        needed = set(PROGRAMS)
        for file in sorted((ROOT / "tests" / "e2e").glob("test_*.py")):
            module = importlib.import_module(f"tests.e2e.{file.stem}")
            for each in vars(module).values():
                if isinstance(each, type):
                    needed.update(getattr(each, "programs", ()))
        script = (ROOT / "tools" / "bootstrap.sh").read_text()
        brought = set(re.findall(r"^ *want [\w.-]+ ([\w.-]+)$", script, re.MULTILINE))
        brought |= ALWAYS | {"python3"}
        self.assertIn("wget", needed)
        self.assertEqual({BESIDE.get(each, each) for each in needed} - brought, set())
