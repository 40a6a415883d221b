"""
Tests of what is built for other machines, and of what is said where nothing can be built.  The
builds themselves are C{make wheel} and C{make test-wheel}.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

from setuptools.command.bdist_wheel import bdist_wheel
from twisted.trial.unittest import SynchronousTestCase

from nanotun.doctor.local import PYTHON_MIN
from tests import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import golang
import nanotun_build
import wheels


class CheckMachineTests(SynchronousTestCase):
    """L{golang.checkMachine}."""

    def compiler(self, said: str) -> str:
        """Make a compiler that fails with these words; return its path."""
        path = Path(self.mktemp()).resolve()
        path.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
        path.chmod(0o755)
        return str(path)

    def said(self, compiler: str) -> str:
        """The sentence for a machine whose C{CC} is this."""
        self.patch(os, "environ", {**os.environ, "CC": compiler})
        return str(self.assertRaises(RuntimeError, golang.checkMachine))

    def test_none(self) -> None:
        """Without any compiler the sentence names the packages; a CC that is missing is named."""
        self.assertEqual(
            self.said("/nowhere/cc -O2"),
            "Building nanotun needs a C compiler, and /nowhere/cc -O2, which CC names, is not "
            "there: install gcc and libc6-dev (Fedora: gcc and glibc-devel).",
        )
        self.patch(os, "environ", {"PATH": "/nowhere"})
        self.assertEqual(
            str(self.assertRaises(RuntimeError, golang.checkMachine)),
            "Building nanotun needs a C compiler, and there is none: install gcc and libc6-dev "
            "(Fedora: gcc and glibc-devel).",
        )

    def test_headers(self) -> None:
        """The sentence about missing headers names the first one and the package."""
        for said in (
            "<stdin>:6:10: fatal error: stdlib.h: No such file or directory",
            "<stdin>:6:10: fatal error: 'stdlib.h' file not found".replace("'", '"'),
        ):
            self.assertEqual(
                self.said(self.compiler(said)),
                "Building nanotun needs the C library's headers, and stdlib.h is missing: "
                "install libc6-dev (Fedora: glibc-devel).",
            )

    def test_broken(self) -> None:
        """Of a compiler that fails otherwise, its own reason is told."""
        compiler = self.compiler("collect2: fatal error: cannot find ld")
        self.assertEqual(
            self.said(compiler),
            f"Building nanotun needs a C compiler, and {compiler} does not work (collect2: fatal "
            "error: cannot find ld): install gcc and libc6-dev (Fedora: gcc and glibc-devel).",
        )

    def test_musl(self) -> None:
        """On musl, the sentence says why it cannot work, and what does."""

        def confstr(name: str) -> str:
            # As musl has no such thing.
            raise OSError(errno.EINVAL, "Invalid argument")

        for answer in (confstr, lambda name: None, lambda name: ""):
            self.patch(os, "confstr", answer)
            self.assertEqual(
                str(self.assertRaises(RuntimeError, golang.checkMachine)),
                "nanotun needs glibc, and this system has musl, which cannot load Go's shared "
                "libraries (golang/go#54805): use the container image instead, see "
                "docs/containers.md.",
            )
        self.assertTrue((ROOT / "docs").is_dir())

    def test_beforeDownloads(self) -> None:
        """pip is told by the first question that it asks, with the sentence alone."""

        def refuse() -> None:
            raise RuntimeError("It cannot be built here.")

        self.patch(golang, "checkMachine", refuse)
        for hook in (
            nanotun_build.get_requires_for_build_wheel,
            nanotun_build.get_requires_for_build_editable,
        ):
            self.assertEqual(self.assertRaises(SystemExit, hook).code, "It cannot be built here.")


class PlatformWheelTests(SynchronousTestCase):
    """L{nanotun_build.PlatformWheel}."""

    def setUp(self) -> None:
        self.command = nanotun_build.PlatformWheel(nanotun_build.PlatformDistribution())

    def test_tag(self) -> None:
        """A wheel is for every Python 3; manylinux2014 is there by its newer name as well."""
        for platform, tag in (
            ("linux_x86_64", "linux_x86_64"),
            ("manylinux2014_x86_64", "manylinux2014_x86_64.manylinux_2_17_x86_64"),
            ("manylinux2014_aarch64", "manylinux2014_aarch64.manylinux_2_17_aarch64"),
        ):
            self.patch(bdist_wheel, "get_tag", lambda _, p=platform: ("cp311", "cp311", p))
            self.assertEqual(self.command.get_tag(), ("py3", "none", tag))

    def test_modes(self) -> None:
        """The files' modes are not those of the checkout, nor of the umask."""
        self.patch(bdist_wheel, "write_wheelfile", lambda *_: None)
        root = Path(self.mktemp())
        for name in ("nanotun/a.py", "nanotun/engine/lib.so", "nanotun.dist-info/WHEEL"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch(mode=0o600)
        self.command.write_wheelfile(str(root / "nanotun.dist-info"))
        modes = {p.name: p.stat().st_mode & 0o777 for p in root.rglob("*") if p.is_file()}
        self.assertEqual(modes, {"a.py": 0o644, "lib.so": 0o755, "WHEEL": 0o644})


class PackTests(SynchronousTestCase):
    """L{wheels.pack}."""

    def packed(self, umask: int, time: int) -> bytes:
        """An archive of two files, as somebody with this umask has made them at this time."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        for name, mode in (("setup.py", 0o666), ("run.sh", 0o777)):
            (folder / name).write_text(name)
            (folder / name).chmod(mode & ~umask)
            os.utime(folder / name, (time, time))
        path = folder.with_suffix(".tar.gz")
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, "nanotun-1")
        wheels.pack(path, 1700000000)
        with tarfile.open(path) as archive:
            modes = {each.name: each.mode for each in archive}
        self.assertEqual(
            modes, {"nanotun-1": 0o755, "nanotun-1/run.sh": 0o755, "nanotun-1/setup.py": 0o644}
        )
        return path.read_bytes()

    def test_same(self) -> None:
        """The source is the same, whoever packs it, and whenever."""
        self.assertEqual(self.packed(0o077, 1), self.packed(0o002, 1600000000))


class WheelBuildTests(SynchronousTestCase):
    """L{wheels}: what goes into a build."""

    def test_environment(self) -> None:
        """A build gets the commit's time, Zig for the oldest glibc, and no flags of the user's."""
        self.patch(
            os,
            "environ",
            {"PATH": "/bin", "GOFLAGS": "-race", "GOAMD64": "v4", "CGO_LDFLAGS": "-lm"},
        )
        self.patch(wheels, "commitTime", lambda: "1700000000")
        self.patch(importlib.util, "find_spec", lambda name: object())
        for machine, name in (("x86_64", "amd64"), ("aarch64", "arm64")):
            self.assertEqual(
                wheels.environmentFor(machine),
                {
                    "PATH": "/bin",
                    "CC": f"{sys.executable} -m ziglang cc -target {machine}-linux-gnu.2.17",
                    "CGO_CFLAGS": "-O2",
                    "GOAMD64": "v1",
                    "GOARM64": "v8.0",
                    "GOARCH": name,
                    "SOURCE_DATE_EPOCH": "1700000000",
                },
            )

    def test_noZig(self) -> None:
        """Without Zig, the sentence says what brings it."""
        self.patch(importlib.util, "find_spec", lambda name: None)
        error = self.assertRaises(RuntimeError, wheels.environmentFor, "x86_64")
        self.assertIn("make wheel", str(error))

    def test_time(self) -> None:
        """SOURCE_DATE_EPOCH comes first; without it and without git there is a sentence."""
        self.patch(os, "environ", {"PATH": "/nowhere", "SOURCE_DATE_EPOCH": "17"})
        self.assertEqual(wheels.commitTime(), "17")
        del os.environ["SOURCE_DATE_EPOCH"]
        self.assertIn("SOURCE_DATE_EPOCH=", str(self.assertRaises(RuntimeError, wheels.commitTime)))

    def test_noPaths(self) -> None:
        """The library has no path of the builder's, no build id and no debug information."""
        commands: list[list[str]] = []

        def run(command: list[str], **_: object) -> None:
            commands.append(command)
            Path(command[command.index("-o") + 1]).touch()

        self.patch(golang, "findGo", lambda: "go")
        self.patch(golang, "checkMachine", lambda: None)
        self.patch(subprocess, "run", run)
        golang.buildLibrary(Path(self.mktemp(), "lib.so"))
        (command,) = commands
        for wanted in ("-trimpath", "-buildvcs=false"):
            self.assertIn(wanted, command)
        (link,) = (each for each in command if each.startswith("-ldflags="))
        for wanted in ("-buildid=", "-s", "-w", "-extldflags=-Wl,--strip-all"):
            self.assertIn(wanted, link.removeprefix("-ldflags=").split())

    def test_repaired(self) -> None:
        """A wheel for a newer system than its name says, or that is repaired, is an error."""
        dist = Path(self.mktemp())
        dist.mkdir()
        self.patch(wheels, "DIST", dist)
        error = self.assertRaises(RuntimeError, wheels.check, "x86_64")
        self.assertIn("There is no wheel for x86_64", str(error))
        (dist / "nanotun-1-py3-none-manylinux2014_x86_64.whl").touch()
        # What is repaired gets another name.
        self.patch(subprocess, "run", lambda *_, **__: None)
        for platform, sentence in (
            ("linux_x86_64", "nanotun-1-py3-none-manylinux2014_x86_64.whl needs more than glibc"),
            ("manylinux_2_28_x86_64", "needs more than glibc 2.17"),
            ("manylinux_2_5_x86_64", "auditwheel repair changes nanotun-1-py3"),
        ):
            said = f'consistent with the following\nplatform tag: "{platform}".\n'
            self.patch(subprocess, "check_output", lambda *_, said=said, **__: said)
            error = self.assertRaises(RuntimeError, wheels.check, "x86_64")
            self.assertIn(sentence, str(error))


class PythonVersionTests(SynchronousTestCase):
    """The oldest Python."""

    def test_one(self) -> None:
        """Everything that names it names the same one, and the newest is not older than 3.14."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        oldest = ".".join(map(str, PYTHON_MIN))
        self.assertEqual(project["project"]["requires-python"], f">={oldest}")
        self.assertEqual(project["tool"]["mypy"]["python_version"], oldest)
        self.assertEqual(f"py{oldest.replace('.', '')}", project["tool"]["ruff"]["target-version"])
        classifiers = "\n".join(project["project"]["classifiers"])
        self.assertEqual(
            re.findall(r"Python :: (3\.\d+)", classifiers), ["3.11", "3.12", "3.13", "3.14"]
        )
        bootstrap = (ROOT / "tools" / "bootstrap.sh").read_text()
        self.assertIn(f"nanotun needs Python {oldest} or newer", bootstrap)
        self.assertIn(f"sys.version_info < {PYTHON_MIN}", bootstrap)


class SmokeTests(SynchronousTestCase):
    """tests/smoke.py, which make test-wheel runs in an emulator."""

    def test_here(self) -> None:
        """It works on this machine, and with each stack it says what it has carried."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests" / "smoke.py")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
            timeout=300,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        for stack in ("gvisor", "simple"):
            self.assertIn(f"{stack}: TCP, 8192 bytes up and 49152 down; UDP,", done.stdout)
