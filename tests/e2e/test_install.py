"""
make install and make uninstall: the script behind them, with other prefixes.
"""

from __future__ import annotations

import os
import shutil
import site
import stat
import subprocess
import sys
from pathlib import Path

from tests.e2e.case import LabCase
from tests.e2e.lab.daemon import START_SECONDS, answers, writeConfig
from tests.e2e.lab.process import PROJECT_ROOT, Child, waitUntil
from tests.e2e.lab.topology import IPV4
from tests.e2e.test_daemon import NOWHERE

INSTALLER = PROJECT_ROOT / "tools" / "install.sh"

#: Everything installed except the code, below PREFIX and SYSCONFDIR.
FILES = {
    "etc/default/nanotun",
    "etc/init.d/nanotun",
    "etc/nanotun.yaml",
    "usr/bin/nanotun",
    "usr/lib/systemd/system/nanotun.service",
    "usr/share/bash-completion/completions/nanotun",
    "usr/share/fish/vendor_completions.d/nanotun.fish",
    "usr/share/man/man8/nanotun.8",
    "usr/share/nanotun/grafana.json",
    "usr/share/nanotun/prometheus-alerts.yml",
    "usr/share/zsh/site-functions/_nanotun",
}
KEPT = {"etc/default/nanotun", "etc/nanotun.yaml"}


class InstallTests(LabCase):
    """
    Installations below the test's own directory.  nanotun's dependencies are not downloaded
    again but found where the tests find them.
    """

    seconds = 180
    wheel: Path | None = None

    def setUp(self) -> None:
        """Build the wheel, once for all tests."""
        super().setUp()
        # A short path without special characters, like an administrator's choice.
        self.root = Path(f"/tmp/nanotun-install-{os.getpid()}")
        self.root.mkdir(mode=0o755)
        self.addCleanup(shutil.rmtree, self.root)
        if InstallTests.wheel is None:
            wheels = self.directory / "wheels"
            pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
            subprocess.run([*pip, "-w", wheels, PROJECT_ROOT], check=True)
            (InstallTests.wheel,) = wheels.glob("nanotun-*.whl")

    def installer(self, *arguments: object, **variables: object) -> tuple[int, str]:
        """Run the script; return its exit status and output."""
        done = subprocess.run(
            [INSTALLER, *map(str, arguments)],
            env={
                "PATH": os.environ["PATH"],
                "PREFIX": str(self.root / "usr"),
                "SYSCONFDIR": str(self.root / "etc"),
                "PIP_NO_DEPS": "1",
                "PIP_NO_INDEX": "1",
                "PYTHONPATH": site.getsitepackages()[0],
                **{name: str(value) for name, value in variables.items()},
            },
            cwd=PROJECT_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout

    def install(self, **variables: object) -> str:
        """Install nanotun; return the script's output."""
        status, said = self.installer("install", sys.executable, self.wheel, **variables)
        self.assertEqual(status, 0, said)
        return said

    def files(self) -> set[str]:
        """The installed files, except the code."""
        return {
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if not path.is_dir() and "lib/nanotun/" not in str(path)
        }

    def test_installed(self) -> None:
        """
        The installed files are in their places, only root can write them, and the tunnel
        works.
        """
        self.install()
        self.assertEqual(self.files(), FILES)
        for path in self.root.rglob("*"):
            if not path.is_symlink():
                status = path.stat()
                self.assertEqual((status.st_uid, status.st_mode & 0o022), (0, 0), path)
        config = self.root / "etc" / "nanotun.yaml"
        self.assertEqual(stat.S_IMODE(config.stat().st_mode), 0o600)
        self.assertIn("\nlogDir: /var/log/nanotun\n", config.read_text())
        command = self.root / "usr" / "bin" / "nanotun"
        environment = {"PYTHONPATH": site.getsitepackages()[0], "PATH": os.environ["PATH"]}
        said = subprocess.run(
            [command, "--version"], env=environment, cwd="/", capture_output=True, text=True
        )
        self.assertRegex(said.stdout, r"^nanotun [0-9.]+\n$")
        script = (
            "import nanotun, sys; assert nanotun.__file__.startswith(sys.prefix), nanotun\n"
            "from twisted.scripts.twistd import run; run()"
        )
        daemon = self.directory / "daemon"
        child = Child(
            self.lab.app.argv(
                [
                    str(self.root / "usr" / "lib" / "nanotun" / "bin" / "python"),
                    "-c",
                    script,
                    "-n",
                    "--pidfile=",
                    "nanotun",
                    "--config",
                    str(writeConfig(daemon, {"proxy": NOWHERE})),
                ]
            ),
            daemon / "stdout.log",
            environment,
            cwd=Path("/"),
        )
        self.addCleanup(child.stop)
        waitUntil(
            lambda: child.status() is not None or answers(self.lab.app, IPV4),
            START_SECONDS,
            "the gateway answers",
        )
        self.assertIsNone(child.status(), child.output())
        self.assertEqual(
            self.installer("uninstall"),
            (
                1,
                f"nanotun runs as process {child.pid}; stop it first: systemctl disable --now "
                "nanotun, or without systemd: service nanotun stop\n",
            ),
        )
        self.assertIn(f"Process {child.pid} still runs the old one; restart it:", self.install())
        child.stop()
        unit = (self.root / "usr/lib/systemd/system/nanotun.service").read_text()
        self.assertIn(f"ExecStart={self.root}/usr/lib/nanotun/bin/twistd -n ", unit)
        self.assertIn(f"--config {config}", unit)
        self.assertNotIn("/usr/local", unit)
        init = (self.root / "etc/init.d/nanotun").read_text()
        self.assertIn(f"\nLIBDIR={self.root}/usr/lib/nanotun\nCONFIG={config}\n", init)

    def test_again(self) -> None:
        """A second installation replaces the code, and keeps the configuration."""
        self.install()
        for name in KEPT:
            (self.root / name).write_text("mine\n")
        old = self.root / "usr" / "lib" / "nanotun" / "old"
        old.touch()
        said = self.install()
        self.assertIn(f"{self.root}/etc/nanotun.yaml is there already and stays as it is.\n", said)
        self.assertFalse(old.exists())
        self.assertEqual(self.files(), FILES)
        for name in KEPT:
            self.assertEqual((self.root / name).read_text(), "mine\n")
        links = {
            "etc/systemd/system/multi-user.target.wants/nanotun.service": (
                self.root / "usr/lib/systemd/system/nanotun.service"
            ),
            "etc/rc2.d/S01nanotun": Path("../init.d/nanotun"),
            "etc/rc6.d/K01nanotun": Path("../init.d/nanotun"),
        }
        for name, target in links.items():
            (self.root / name).parent.mkdir(parents=True)
            (self.root / name).symlink_to(target)
        status, said = self.installer("uninstall")
        self.assertEqual(status, 0, said)
        self.assertIn("nanotun is removed. What is left is yours:", said)
        self.assertEqual(self.files(), KEPT)
        self.assertFalse((self.root / "usr" / "lib" / "nanotun").exists())

    def test_package(self) -> None:
        """For a package, everything is below DESTDIR, and no file mentions DESTDIR."""
        self.install(DESTDIR=self.root, PREFIX="/usr", SYSCONFDIR="/etc")
        self.assertEqual(self.files(), FILES)
        self.assertEqual(os.readlink(self.root / "usr/bin/nanotun"), "/usr/lib/nanotun/bin/nanotun")
        telling = [
            path
            for path in self.root.rglob("*")
            if path.is_file() and str(self.root).encode() in path.read_bytes()
        ]
        self.assertEqual(telling, [])
        first = (self.root / "usr/lib/nanotun/bin/nanotun").read_text().splitlines()[0]
        self.assertEqual(first, "#!/usr/lib/nanotun/bin/python")

    def test_mistakes(self) -> None:
        """An impossible installation is one sentence, and changes nothing."""
        usage = "usage: tools/install.sh {install PYTHON WHEEL|uninstall}\n"
        self.assertEqual(self.installer(), (1, usage))
        for path in ("/a b", "/a;b", "/a'b"):
            sentence = f"A path of letters, digits and / . _ + - is needed, not {path}.\n"
            self.assertEqual(self.installer("uninstall", PREFIX=path), (1, sentence))
        self.assertEqual(
            self.installer("uninstall", SYSCONFDIR="etc"),
            (1, "An absolute path is needed, not etc.\n"),
        )
        self.assertEqual(
            self.installer("uninstall"),
            (1, f"There is no nanotun in {self.root}/usr/lib/nanotun; say where with PREFIX=.\n"),
        )
        python = self.root / "python"
        base = self.root / "base"
        python.write_text(f"#!/bin/sh\necho {base}\n")
        python.chmod(0o755)
        base.touch()
        os.chown(base, 1000, 1000)
        self.assertEqual(
            self.installer("install", python, self.wheel),
            (
                1,
                f"The Python {base} belongs to another user than root, who could change what runs "
                "as root; build with: make clean build PYTHON=/usr/bin/python3\n",
            ),
        )
        self.assertEqual(self.files(), {"python", "base"})

    def test_notRoot(self) -> None:
        """Without root, only an installation into DESTDIR is possible."""
        script = self.root / "install.sh"
        shutil.copy(INSTALLER, script)
        for action in (["install", "python", "wheel"], ["uninstall"]):
            done = subprocess.run(
                ["setpriv", "--reuid=65534", "--clear-groups", "--regid=65534", script, *action],
                capture_output=True,
                text=True,
                cwd="/",
            )
            self.assertEqual(
                (done.returncode, done.stderr),
                (1, f"Only root may do that; try: sudo make {action[0]}\n"),
            )
