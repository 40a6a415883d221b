"""Tests of the version's one source, and of tools/release.py and tools/sbom.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from nanotun import __version__
from tests import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import golang
import release
import sbom

CHANGELOG = """\
# Changelog

## [1.1.0] - unreleased

### Added

- More.

## [1.0.0] - 2026-12-31

- All.
"""

#: nanotun with a version, as in a file's name or a sentence, but in no address.
NAMED = re.compile(r"\bnanotun[-_ @:=]+v?(\d+\.\d+\.\d+)(?![\w.]*\d)")


class VersionTests(SynchronousTestCase):
    """The version is what nanotun/__init__.py says."""

    def test_package(self) -> None:
        """The package has no version of its own."""
        text = (ROOT / "pyproject.toml").read_text()
        self.assertIn('dynamic = ["version"]', text)
        self.assertIn('version = { attr = "nanotun.__version__" }', text)
        self.assertNotRegex(text, r'(?m)^version = "')

    def test_changelog(self) -> None:
        """The CHANGELOG begins with it, so that every change is told under a version to come."""
        first = re.findall(r"^## \[(.*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
        self.assertEqual(first, __version__)
        release.section((ROOT / "CHANGELOG.md").read_text(), __version__)

    def test_named(self) -> None:
        """No file says another version of nanotun; if docs/nanotun.8 does, run 'make texts'."""
        wrong = []
        for top in (".github", "README.md", "docs", "etc", "nanotun", "netstack", "tools"):
            for path in (ROOT / top, *(ROOT / top).rglob("*")):
                if path.suffix in (".so", ".png", ".pyc") or not path.is_file():
                    continue
                found = set(NAMED.findall(path.read_text()))
                wrong += [f"{path.relative_to(ROOT)}: {each}" for each in found - {__version__}]
        self.assertEqual(wrong, [])
        self.assertIn(f"nanotun {__version__}", (ROOT / "docs" / "nanotun.8").read_text())


class SectionTests(SynchronousTestCase):
    """One version in the CHANGELOG."""

    def test_found(self) -> None:
        """It is the day and the text up to the next version."""
        self.assertEqual(
            release.section(CHANGELOG, "1.1.0"), ("unreleased", "### Added\n\n- More.\n")
        )
        self.assertEqual(release.section(CHANGELOG, "1.0.0"), ("2026-12-31", "- All.\n"))

    def test_missing(self) -> None:
        """A version that is not there is named, with the line to write."""
        for version in ("1.0", "1.1.00", "1x1.0"):
            error = self.assertRaises(release.NotReadyError, release.section, CHANGELOG, version)
            self.assertIn(f"## [{version}] - unreleased", str(error))


class CheckTests(SynchronousTestCase):
    """Commits that can be released, and others."""

    def test_good(self) -> None:
        """A commit without a tag is a rehearsal; one with the version's tag is the release."""
        self.assertIn("rehearsal", release.check("1.1.0", CHANGELOG, [], ["other"]))
        self.assertEqual(
            release.check("1.0.0", CHANGELOG, [], ["v1.0.0", "good"]), "nanotun 1.0.0 of 2026-12-31"
        )

    def test_bad(self) -> None:
        """Changed files, another version's tag, no section and no day are refused."""
        for version, changed, tags, words in (
            ("1.0.0", ["a.py"], ["v1.0.0"], "a.py"),
            ("1.0.0", [], ["v1.0.1"], "v1.0.1"),
            ("1.0.0", [], ["v1.0.0", "v1.0.1"], "v1.0.1"),
            ("1.2.0", [], [], "no section"),
            ("1.1.0", [], ["v1.1.0"], "unreleased"),
        ):
            error = self.assertRaises(
                release.NotReadyError, release.check, version, CHANGELOG, changed, tags
            )
            self.assertIn(words, str(error))


class ArtefactsTests(SynchronousTestCase):
    """What is in dist/."""

    def setUp(self) -> None:
        self.dist = Path(self.mktemp())
        self.dist.mkdir()
        for pattern in release.ARTEFACTS.values():
            name = pattern.format(version="1.0.0").replace("*", "x")
            (self.dist / name).write_text(name)
        (self.dist / "site").mkdir()
        (self.dist / release.SUMS).touch()

    def test_sums(self) -> None:
        """sha256sum agrees with the digests of all files."""
        paths = release.artefacts(self.dist, "1.0.0")
        self.assertEqual(len(paths), len(release.ARTEFACTS))
        (self.dist / release.SUMS).write_text(release.sums(paths))
        check = ["sha256sum", "--strict", "-c", release.SUMS]
        done = subprocess.run(check, cwd=self.dist, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count(": OK\n"), len(paths))

    def test_renamed(self) -> None:
        """A package's tilde is gone from its name, as it is after an upload."""
        (deb,) = self.dist.glob("*deb12*")
        deb.rename(self.dist / "nanotun_1.0.0-1~deb12u1_amd64.deb")
        release.rename(self.dist)
        self.assertIn(
            self.dist / "nanotun_1.0.0-1.deb12u1_amd64.deb",
            release.artefacts(self.dist, "1.0.0"),
        )

    def test_missing(self) -> None:
        """A part that is missing is named."""
        next(self.dist.glob("*aarch64.whl")).unlink()
        error = self.assertRaises(release.NotReadyError, release.artefacts, self.dist, "1.0.0")
        self.assertIn("0 files for the wheel for arm64", str(error))

    def test_others(self) -> None:
        """What another version has left is named."""
        (self.dist / "nanotun-0.9.0.tar.gz").touch()
        error = self.assertRaises(release.NotReadyError, release.artefacts, self.dist, "1.0.0")
        self.assertIn("nanotun-0.9.0.tar.gz", str(error))


class BillTests(SynchronousTestCase):
    """The bill of materials."""

    def test_modules(self) -> None:
        """Go's library and each module is there with version, licence and digest."""
        text = (
            "a.so: go1.26.8\n\tpath\tnanotun/netstack\n\tmod\tnanotun/netstack\t(devel)\t\n"
            "\tdep\tgolang.org/x/sys\tv0.43.0\th1:AAAA\n\tbuild\tGOOS=linux\n"
        )
        found = sbom.modules(text)
        self.assertEqual(
            [each["purl"] for each in found],
            ["pkg:golang/stdlib@1.26.8", "pkg:golang/golang.org/x/sys@v0.43.0"],
        )
        self.assertEqual(found[1]["hashes"], [{"alg": "SHA-256", "content": "000000"}])

    def test_replaced(self) -> None:
        """A module that another stands in for is not there, and the other is."""
        text = (
            "a.so: go1.26.8\n\tdep\tgolang.org/x/sys\tv0.43.0\n"
            "\t=>\tgolang.org/x/time\tv0.15.0\th1:AAAA\n"
        )
        self.assertEqual(
            [each["name"] for each in sbom.modules(text)], ["stdlib", "golang.org/x/time"]
        )

    def test_licence(self) -> None:
        """A module whose licence nobody has looked up is an error."""
        error = self.assertRaises(LookupError, sbom.module, "example.org/x", "v1.0.0")
        self.assertIn("example.org/x", str(error))

    def test_library(self) -> None:
        """The modules in the library are those that netstack/go.mod requires."""
        go = golang.findGo()
        assert go is not None
        text = subprocess.check_output([go, "version", "-m", ROOT / golang.LIBRARY], text=True)
        required = set(re.findall(r"^\t?(?:require )?(\S+\.\S+/\S+) v", self.goMod(), re.MULTILINE))
        names = {each["name"] for each in sbom.modules(text)} - {"stdlib"}
        self.assertTrue(names)
        self.assertEqual(names - required, set())

    def goMod(self) -> str:
        """The text of go.mod."""
        return (ROOT / "netstack" / "go.mod").read_text()

    def test_complete(self) -> None:
        """nanotun is what the bill is about, without a path; it needs packages and its library."""
        ref = "nanotun @ file:///home/somebody/a.whl"
        whole = sbom.complete(
            {
                "metadata": {},
                "components": [{"name": "nanotun", "bom-ref": ref}, {"name": "h11"}],
                "dependencies": [{"ref": ref, "dependsOn": ["h11==1"]}, {"ref": "h11==1"}],
            },
            [sbom.module("stdlib", "1.26.8")],
            0,
        )
        self.assertNotIn("somebody", str(whole))
        self.assertEqual(whole["metadata"]["timestamp"], "1970-01-01T00:00:00Z")
        self.assertEqual(
            {each["ref"]: each["dependsOn"] for each in whole["dependencies"]},
            {
                "h11==1": [],
                sbom.NANOTUN_REF: ["h11==1", sbom.LIBRARY_REF],
                sbom.LIBRARY_REF: ["pkg:golang/stdlib@1.26.8"],
            },
        )
