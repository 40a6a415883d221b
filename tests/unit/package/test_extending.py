"""Tests of docs/extending.md: its example, installed and asked."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import HandshakeError, UpstreamError, UpstreamRefused
from nanotun.flow import Endpoint
from nanotun.upstream.schemes.table import BUILT_IN
from tests import ROOT
from tests.extending import PAGE, exampleFiles, installExample
from tests.unit.upstream.handshake_cases import ScriptCase, survives

COMMAND = "import sys; from nanotun.console import main; sys.exit(main())"
DESTINATION = Endpoint("example.org", 443)


class ExampleTests(SynchronousTestCase):
    """The example, installed by pip into a directory of its own."""

    def setUp(self) -> None:
        """Install it."""
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()
        self.site = installExample(self.directory)

    def nanotun(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command where the example is installed."""
        path = os.pathsep.join((str(self.site), str(ROOT)))
        return subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments],
            env={**os.environ, "PYTHONPATH": path},
            cwd=self.directory,
            capture_output=True,
            text=True,
        )

    def write(self, proxy: str) -> str:
        """The path of a configuration with this proxy."""
        config = self.directory / "nanotun.yaml"
        config.write_text(f"proxy: {proxy}\n")
        config.chmod(0o600)
        return str(config)

    def test_commands(self) -> None:
        """The commands that read a configuration know the scheme as they know the others."""
        done = self.nanotun("check", self.write("line://proxy.example"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("line://proxy.example:7070", done.stdout)
        done = self.nanotun("explain", "tcp", "1.1.1.1:443", "--config", self.write("line://h"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("through the proxy", done.stdout)
        for wrong, complaint in (
            ("line://ann@h", "no user name, because line has no log-in"),
            ("line://h?fast=1", "must end after the port"),
            ("lime://h", "reject://, line://, not lime://"),
        ):
            done = self.nanotun("check", self.write(wrong))
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
            self.assertIn(complaint, done.stderr)


class ExampleHandshakeTests(ScriptCase):
    """The handshake of the example."""

    def setUp(self) -> None:
        """Import it."""
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "nanotun_line.py").write_text(exampleFiles()["nanotun_line.py"])
            sys.path.insert(0, directory)
            try:
                self.module: Any = import_module("nanotun_line")
            finally:
                sys.path.remove(directory)
                sys.modules.pop("nanotun_line", None)

    def handshake(self) -> Any:
        """A handshake for L{DESTINATION}."""
        return self.module.LineHandshake(DESTINATION, "line://h:7070")

    def test_granted(self) -> None:
        """What follows the answer is left over, and a lost connection is dialled again."""
        self.wholly = False
        handshake = self.handshake()
        self.play(handshake, b"CONNECT example.org 443\n", (b"OK\nhello", b""))
        self.assertEqual((handshake.done, handshake.leftover), (True, b"hello"))
        handshake = self.handshake()
        self.assertEqual(handshake.proceed(None), b"CONNECT example.org 443\n")
        self.assertTrue(handshake.resumable)
        self.assertEqual(handshake.receive(b"O"), b"")
        self.assertFalse(handshake.resumable)

    def test_refused(self) -> None:
        """A refusal, nonsense and a name that cannot be sent are told apart."""
        text = self.fails(UpstreamRefused, self.handshake(), b"closed\n")
        self.assertIn("line://h:7070 refused example.org:443: b'closed'", text)
        self.fails(HandshakeError, self.handshake(), b"x" * 201)
        line = self.module.LineHandshake
        self.assertRaises(UpstreamError, line, Endpoint("a\nb", 80), "line://h:7070")

    def test_mutated(self) -> None:
        """Whatever the proxy sends ends in an error of nanotun's, or waits."""
        survives(8, [b"OK\n220 hello", b"no such host\n"], self.handshake, 2000)


class PageTests(SynchronousTestCase):
    """What docs/extending.md says."""

    def test_short(self) -> None:
        """The example stays one that is read at once."""
        files = exampleFiles()
        self.assertEqual(
            list(files),
            ["nanotun_line.py", "twisted/plugins/nanotun_line_plugin.py", "pyproject.toml"],
        )
        lines = [line for line in files["nanotun_line.py"].splitlines() if line.strip()]
        self.assertLess(len(lines), 45)

    def test_arguments(self) -> None:
        """The table has every argument of an entry."""
        page = PAGE.read_text()
        for name in vars(BUILT_IN[0]):
            if name != "name":
                self.assertIn(f"`{name.strip('_')}", page)

    def test_links(self) -> None:
        """Files that the page names exist."""
        for name in (
            "README.md",
            "nanotun/interfaces/scheme.py",
            "nanotun/interfaces/upstream.py",
            "nanotun/upstream/schemes",
            "tests/unit/upstream/handshake_cases.py",
        ):
            self.assertIn(f"(../{name})", PAGE.read_text())
            self.assertTrue((ROOT / name).exists(), name)
