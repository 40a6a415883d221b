"""
Tests of the tools that make the installed environment and the Debian package.  Whole
installations are in tests/e2e/test_install.py; C{make test-deb} takes packages through their
life.
"""

from __future__ import annotations

import os
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import deb
import environment


class EnvironmentTests(SynchronousTestCase):
    """L{environment}: the parts that pip does not do."""

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def test_dependencies(self) -> None:
        """What nanotun needs is found, however deep, and what its developers need is not."""
        names = {found.name.lower() for found in environment.dependencies("nanotun")}
        self.assertTrue({"twisted", "zope.interface", "hyperframe", "mdurl"} <= names, names)
        self.assertFalse({"nanotun", "pip", "mypy", "ruff"} & names)

    def test_missing(self) -> None:
        """A package that is missing is named, with the cure."""
        with self.assertRaises(environment.EnvironmentFault) as caught:
            environment._need("nosuchpackage>=1")
        self.assertEqual(
            str(caught.exception),
            f"nosuchpackage is missing in {sys.prefix}; make it anew: make clean build",
        )

    def test_pack(self) -> None:
        """A wheel has the package's files and nothing that pip has added."""
        installed = distribution("psutil")
        wheel = environment.pack(installed, self.directory)
        self.assertRegex(wheel.name, rf"^psutil-{installed.version}-[a-z0-9.]+-[a-z0-9.]+-.*\.whl$")
        names = zipfile.ZipFile(wheel).namelist()
        info = f"psutil-{installed.version}.dist-info"
        self.assertIn("psutil/__init__.py", names)
        self.assertIn(f"{info}/METADATA", names)
        self.assertNotIn(f"{info}/INSTALLER", names)
        self.assertEqual([name for name in names if name.endswith(".pyc") or ".." in name], [])
        record = zipfile.ZipFile(wheel).read(f"{info}/RECORD").decode()
        self.assertEqual([line.split(",")[0] for line in record.splitlines()], names)

    def test_settle(self) -> None:
        """Nothing says where an environment was made, and the hashes of commands are right."""
        fresh = self.directory / "fresh"
        info = fresh / "lib" / "python3.99" / "site-packages" / "x.dist-info"
        for folder in (info, fresh / "bin", fresh / "include"):
            folder.mkdir(parents=True)
        (fresh / "bin" / "activate").touch()
        (fresh / "bin" / "x").write_text(f"#!{fresh}/bin/python\n")
        (fresh / "pyvenv.cfg").write_text(f"command = python -m venv {fresh}\n")
        (info / "RECORD").write_text("../../../bin/x,sha256=old,1\nx/__init__.py,sha256=same,2\n")
        environment.settle(fresh, Path("/usr/lib/x"))
        self.assertEqual(os.listdir(fresh / "bin"), ["x"])
        self.assertEqual((fresh / "bin" / "x").read_text(), "#!/usr/lib/x/bin/python\n")
        self.assertEqual(
            (fresh / "pyvenv.cfg").read_text(), "command = python -m venv /usr/lib/x\n"
        )
        self.assertEqual(
            (info / "RECORD").read_text(),
            "../../../bin/x,sha256=ERLIKrBLFJS8aSAfMCAWJ3li9NRRUiOXtycpd_z0CIw,24\n"
            "x/__init__.py,sha256=same,2\n",
        )


class DebianPackageTests(SynchronousTestCase):
    """L{deb}: what it writes into the package itself."""

    def test_suffix(self) -> None:
        """The version says for which system a package is; other systems get a sentence."""
        self.assertEqual(deb.suffix({"ID": "debian", "VERSION_ID": "12"}), "~deb12u1")
        self.assertEqual(deb.suffix({"ID": "ubuntu", "VERSION_ID": "24.04"}), "~ubuntu24.04.1")
        with self.assertRaises(deb.Fault) as caught:
            deb.suffix({"ID": "fedora", "VERSION_ID": "44"})
        self.assertEqual(
            str(caught.exception), "This is fedora 44; packages are made on Debian and Ubuntu."
        )

    def test_changelog(self) -> None:
        """The changelog has the version and the given time."""
        said = deb.changelog("1.0-1~deb12u1", "bookworm", 0)
        self.assertTrue(said.startswith("nanotun (1.0-1~deb12u1) bookworm; urgency=medium\n"))
        self.assertTrue(said.endswith("  Thu, 01 Jan 1970 00:00:00 +0000\n"), said)

    def test_copyrights(self) -> None:
        """Each part's licence is there; long ones that every Debian has are named."""
        tree = Path(self.mktemp())
        site = tree / "usr/lib/nanotun/lib/python3.99/site-packages"
        licences = {"short": "Do as you like.\n", "long": "  Apache License\n" + "words\n" * 999}
        for name, text in licences.items():
            info = site / f"{name}-1.dist-info"
            (info / "licenses").mkdir(parents=True)
            (info / "METADATA").write_text(f"Name: {name}\nVersion: 1\nAuthor: A. N. Other\n")
            (info / "licenses" / "LICENSE").write_text(text)
            (info / "RECORD").write_text(f"{info.name}/licenses/LICENSE,,\n")
        said = deb.copyrights(tree)
        self.assertIn("\nshort 1, by A. N. Other\n", said)
        self.assertIn("\nDo as you like.\n", said)
        self.assertIn("\nAs /usr/share/common-licenses/Apache-2.0 says;", said)
        self.assertNotIn("words", said)
        (site / "short-1.dist-info" / "RECORD").write_text("")
        with self.assertRaises(deb.Fault) as caught:
            deb.copyrights(tree)
        self.assertIn("short says nothing of its licence", str(caught.exception))
