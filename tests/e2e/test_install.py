"""
make install and make uninstall: the script behind them, with other prefixes.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.e2e.case import LabCase
from tests.e2e.lab.daemon import START_SECONDS, answers, writeConfig
from tests.e2e.lab.process import PROJECT_ROOT, Child, waitUntil
from tests.e2e.lab.topology import IPV4
from tests.e2e.test_daemon import NOWHERE

INSTALLER = PROJECT_ROOT / "tools" / "install.sh"

#: Everything installed except the code, below PREFIX and SYSCONFDIR.
FILES = {
    "etc/default/nanotun",
    "etc/fish/completions/nanotun.fish",
    "etc/init.d/nanotun",
    "etc/nanotun.yaml",
    "usr/bin/nanotun",
    "usr/lib/systemd/system/nanotun.service",
    "usr/share/bash-completion/completions/nanotun",
    "usr/share/man/man8/nanotun.8",
    "usr/share/nanotun/grafana.json",
    "usr/share/nanotun/prometheus-alerts.yml",
    "usr/share/zsh/site-functions/_nanotun",
}
#: The same with the system's own PREFIX, /usr, of which fish knows a directory for packages.
PACKAGED = FILES - {"etc/fish/completions/nanotun.fish"} | {
    "usr/share/fish/vendor_completions.d/nanotun.fish"
}
KEPT = {"etc/default/nanotun", "etc/nanotun.yaml"}


#: Installs nanotun below $1 on a copy of this machine's files, uses what an administrator uses,
#: and removes it.  In F{$2/upper} is the difference then.
REAL = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/whole"
mount -t overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" overlay "$2/whole"
mount -t proc proc "$2/whole/proc"
mount --rbind /dev "$2/whole/dev"
mount -t tmpfs tmpfs "$2/whole/run"
mount -t tmpfs tmpfs "$2/whole/tmp"
chroot "$2/whole" sh -ec 'cd "$1"
    tools/install.sh install "$2"
    update-rc.d nanotun defaults
    systemctl enable nanotun
    nanotun --version
    nanotun recover
    tools/install.sh uninstall
    ls -A /run' sh "$1" "$3" 2>&1
cd "$2/upper"
find . -mindepth 1 ! -path "./${1#/}/*" -printf '= %P %y\n'
"""


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of everything below a directory."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            os.readlink(path).encode()
            if path.is_symlink()
            else b""
            if path.is_dir()
            else path.read_bytes(),
        )
        for path in root.rglob("*")
    }


class InstallTests(LabCase):
    """Installations below the test's own directory, on a machine without a network."""

    seconds = 400

    def setUp(self) -> None:
        """Make the directory."""
        super().setUp()
        # A short path without special characters, like an administrator's choice.
        self.root = Path(f"/tmp/nanotun-install-{os.getpid()}")
        self.root.mkdir(mode=0o755)
        self.addCleanup(shutil.rmtree, self.root)

    def installer(self, *arguments: object, **variables: object) -> tuple[int, str]:
        """Run the script; return its exit status and output."""
        done = subprocess.run(
            ["unshare", "--net", INSTALLER, *map(str, arguments)],
            env={
                "PATH": os.environ["PATH"],
                "PREFIX": str(self.root / "usr"),
                "SYSCONFDIR": str(self.root / "etc"),
                **{name: str(value) for name, value in variables.items()},
            },
            cwd=PROJECT_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout

    def install(self, **variables: object) -> str:
        """Install nanotun; return the script's output."""
        status, said = self.installer("install", sys.executable, **variables)
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
        environment = {"PATH": os.environ["PATH"]}
        said = subprocess.run(
            [command, "--version"], env=environment, cwd="/", capture_output=True, text=True
        )
        self.assertRegex(said.stdout, r"^nanotun [0-9.]+\n$")
        daemon = self.directory / "daemon"
        child = Child(
            self.lab.app.argv(
                [
                    str(self.root / "usr" / "lib" / "nanotun" / "bin" / "twistd"),
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
        self.assertEqual(self.files(), PACKAGED)
        self.assertEqual(os.readlink(self.root / "usr/bin/nanotun"), "/usr/lib/nanotun/bin/nanotun")
        places = [str(place).encode() for place in (self.root, PROJECT_ROOT)]
        telling = [
            name
            for name, (_, content) in tree(self.root).items()
            if any(place in content for place in places)
        ]
        self.assertEqual(telling, [])
        modules = self.root / "usr" / "lib" / "nanotun" / "lib"
        (code,) = modules.glob("python3*/site-packages/nanotun/__pycache__/flow.*.pyc")
        self.assertTrue(b"/usr/lib/nanotun/lib/python3" in code.read_bytes(), code)
        (plugins,) = modules.glob("python3*/site-packages/twisted/plugins/dropin.cache")
        self.assertTrue(b"nanotun_plugin" in plugins.read_bytes(), plugins)
        first = (self.root / "usr/lib/nanotun/bin/nanotun").read_text().splitlines()[0]
        self.assertEqual(first, "#!/usr/lib/nanotun/bin/python")

    def test_left(self) -> None:
        """What was there before is there after an installation and its removal, and no more."""
        for name in ("usr/share/man", "usr/lib", "etc/rc2.d"):
            (self.root / name).mkdir(parents=True)
        (self.root / "usr" / "lib" / "theirs").write_text("theirs\n")
        places = {"DESTDIR": self.root, "PREFIX": "/usr", "SYSCONFDIR": "/etc"}
        before = tree(self.root)
        # Twice, as the second time the directories are there already.
        for _ in range(2):
            self.install(**places)
        status, said = self.installer("uninstall", **places)
        self.assertEqual(status, 0, said)
        after = tree(self.root)
        self.assertEqual(after.keys() - before.keys(), {*KEPT, "etc/default"})
        self.assertEqual({name: after.get(name) for name in before}, before)

    def test_real(self) -> None:
        """On a whole machine, nothing is left but what is the administrator's."""
        for program in ("update-rc.d", "systemctl"):
            if shutil.which(program, path="/usr/sbin:/usr/bin") is None:
                raise SkipTest(f"there is no {program}")
        place = self.directory / "machine"
        place.mkdir()
        unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        done = subprocess.run(
            [*unshare, "bash", "-c", REAL, "real", PROJECT_ROOT, place, sys.executable],
            env={"PATH": f"/usr/local/bin:{os.environ['PATH']}:/usr/sbin:/sbin"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"\nnanotun [0-9.]+\n")
        files = {
            line.split()[1]
            for line in done.stdout.splitlines()
            if line.startswith("= ") and not line.endswith(" d")
        }
        self.assertEqual(files, KEPT, done.stdout)
        made = [
            line.split()[1]
            for line in done.stdout.splitlines()
            if line.startswith("= ")
            and line.endswith(" d")
            and not os.path.isdir("/" + line.split()[1])
        ]
        self.assertEqual(made, [], done.stdout)

    def test_mistakes(self) -> None:
        """An impossible installation is one sentence, and changes nothing."""
        usage = "usage: tools/install.sh {install PYTHON [BASE]|uninstall}\n"
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
            self.installer("install", python),
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
        for action in (["install", "python"], ["uninstall"]):
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
