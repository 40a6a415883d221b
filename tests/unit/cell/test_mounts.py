"""Tests of L{nanotun.cell.mounts}, with a tool that copies instead of mounting."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from nanotun.cell.mounts import CellMounts, findTool, runTool
from nanotun.errors import RoutingError


class Tool:
    """
    Stands for mount(8) and umount(8): a bind mount is a copy, a tmpfs an empty directory.

    @ivar calls: all of them.
    @ivar refuse: a word in the arguments of what fails.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.refuse = ""

    def __call__(self, *arguments: str) -> None:
        self.calls.append(arguments)
        if self.refuse and self.refuse in arguments:
            raise RoutingError("refused.")
        target = Path(arguments[-1])
        if "--bind" in arguments and Path(arguments[-2]).is_file():
            # Another inode, as with a mount.
            target.unlink()
            shutil.copy(arguments[-2], target)
        elif "tmpfs" in arguments:
            shutil.rmtree(target)
            target.mkdir()

    def mountedOn(self) -> list[str]:
        """The targets of all mounts."""
        return [call[-1] for call in self.calls if call[0] == "mount"]


class MountCase(SynchronousTestCase):
    """Provides a root directory to mount in."""

    def setUp(self) -> None:
        """Make the directory, without a resolv.conf."""
        self.root = Path(self.mktemp()).resolve()
        for directory in ("etc", "mnt", "run", "var", "sys/class/net", "sys/devices/virtual/net"):
            (self.root / directory).mkdir(parents=True)
        (self.root / "var/run").symlink_to("../run")
        self.tool = Tool()
        self.mounts = CellMounts(self.tool, str(self.root))

    def write(self, path: str, text: str) -> Path:
        """Write a file below the root."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file


class ApplyTests(MountCase):
    """L{CellMounts.apply}."""

    def test_plain(self) -> None:
        """A plain resolv.conf is covered, and the temporary mount is removed."""
        file = self.write("etc/resolv.conf", "nameserver 192.0.2.1\nsearch lab\n")
        self.assertEqual(self.mounts.apply(), [])
        self.assertIn("nameserver 198.18.0.1\n", file.read_text())
        self.assertIn("search lab\n", file.read_text())
        self.assertNotIn("192.0.2.1", file.read_text())
        stage = str(self.root / "mnt")
        mounted = self.tool.mountedOn().count(stage)
        self.assertEqual(self.tool.calls.count(("umount", "-l", stage)), mounted)

    def test_wholeFirst(self) -> None:
        """Under fake-ip, resolv.conf also says what becomes of names without a dot."""
        file = self.write("etc/resolv.conf", "search lab\n")
        mounts = CellMounts(self.tool, str(self.root), wholeFirst=True)
        mounts.apply()
        self.assertTrue(file.read_text().endswith("\nsearch lab\noptions ndots:0\n"))

    def test_link(self) -> None:
        """A link into a masked directory gets a new file as its target."""
        self.write("run/systemd/resolve/stub-resolv.conf", "nameserver 127.0.0.53\nsearch x\n")
        self.write("run/systemd/resolve/io.systemd.Resolve", "")
        link = self.root / "etc/resolv.conf"
        link.symlink_to("../run/systemd/resolve/stub-resolv.conf")
        self.assertEqual(self.mounts.apply(), [])
        self.assertIn("nameserver 198.18.0.1\nnameserver fdfe:dcba:9876::1\n", link.read_text())
        self.assertIn("search x", link.read_text())
        self.assertEqual(os.listdir(self.root / "run/systemd/resolve"), ["stub-resolv.conf"])

    def test_otherLink(self) -> None:
        """Any other link is followed, and its target is covered."""
        file = self.write("run/resolvconf/resolv.conf", "nameserver 192.0.2.1\n")
        (self.root / "etc/resolv.conf").symlink_to("../run/resolvconf/resolv.conf")
        self.mounts.apply()
        self.assertIn("198.18.0.1", file.read_text())

    def test_missing(self) -> None:
        """A missing file and a dangling link give one sentence."""
        (note,) = self.mounts.apply()
        self.assertIn("There is no /etc/resolv.conf to be replaced", note)
        (self.root / "etc/resolv.conf").symlink_to("../run/nowhere/resolv.conf")
        self.assertEqual(self.mounts.apply(), [note])

    def test_sockets(self) -> None:
        """Each directory of a daemon that looks up names is masked once."""
        self.write("etc/resolv.conf", "")
        for name in ("nscd", "systemd/resolve", "avahi-daemon"):
            self.write(f"run/{name}/socket", "")
        self.mounts.apply()
        for name in ("nscd", "systemd/resolve", "avahi-daemon"):
            directory = self.root / "run" / name
            self.assertEqual(os.listdir(directory), [])
            self.assertEqual(self.tool.mountedOn().count(str(directory)), 1)

    def test_nsswitch(self) -> None:
        """nsswitch.conf is covered only if it has a source that asks outside the cell."""
        self.write("etc/resolv.conf", "")
        file = self.write("etc/nsswitch.conf", "hosts: files dns\n")
        self.mounts.apply()
        self.assertNotIn(str(file), self.tool.mountedOn())
        file.write_text("hosts: files resolve dns\n")
        self.mounts.apply()
        self.assertEqual(file.read_text(), "hosts: files dns\n")

    def test_sys(self) -> None:
        """/sys shows the cell's devices; if that mount is refused, it stays as it is."""
        self.write("etc/resolv.conf", "")
        self.mounts.apply()
        self.assertIn(str(self.root / "sys/class/net"), self.tool.mountedOn())
        self.tool.refuse = "sysfs"
        self.tool.calls.clear()
        self.assertEqual(self.mounts.apply(), [])
        self.assertNotIn(str(self.root / "sys/class/net"), self.tool.mountedOn())

    def test_refused(self) -> None:
        """If mounts are refused, that is an error: the machine's name lookup is not used."""
        self.write("etc/resolv.conf", "")
        self.tool.refuse = "--bind"
        self.assertRaises(RoutingError, self.mounts.apply)

    def test_noStage(self) -> None:
        """The error for a missing directory to mount from says which to create."""
        self.write("etc/resolv.conf", "")
        (self.root / "mnt").rmdir()
        error = self.assertRaises(RoutingError, self.mounts.apply)
        self.assertIn("create the directory /mnt", str(error))


class RepairTests(MountCase):
    """L{CellMounts.repair}."""

    def test_replaced(self) -> None:
        """Only a file that the machine has replaced is covered again."""
        file = self.write("etc/resolv.conf", "nameserver 192.0.2.1\n")
        self.mounts.apply()
        self.assertFalse(self.mounts.repair())
        new = self.write("etc/new", "nameserver 192.0.2.2\n")
        new.rename(file)
        self.assertTrue(self.mounts.repair())
        self.assertIn("198.18.0.1", file.read_text())
        self.assertFalse(self.mounts.repair())

    def test_gone(self) -> None:
        """A file that disappeared is covered once it is back."""
        file = self.write("etc/resolv.conf", "")
        self.mounts.apply()
        new = self.write("etc/new", "nameserver 192.0.2.2\n")
        file.unlink()
        self.mounts.repair()
        new.rename(file)
        self.assertTrue(self.mounts.repair())
        self.assertIn("198.18.0.1", file.read_text())


class ToolTests(SynchronousTestCase):
    """L{findTool} and L{runTool}."""

    def test_found(self) -> None:
        """Programs are searched in root's directories only."""
        place = Path(self.mktemp())
        place.mkdir()
        self.assertEqual(findTool("mount", [str(place)]), "")
        (place / "mount").touch(0o755)
        self.assertEqual(findTool("mount", [str(place)]), str(place / "mount"))

    def test_missing(self) -> None:
        """The error for a missing program names its package."""
        error = self.assertRaises(RoutingError, runTool, "no-such-program")
        self.assertIn("the program no-such-program is missing; install the package", str(error))

    def test_failed(self) -> None:
        """The error of a failed program quotes it."""
        runTool("true")
        error = self.assertRaises(RoutingError, runTool, "cat", "/no/such/file")
        self.assertIn("cat: /no/such/file: No such file or directory)", str(error))
        self.assertIn("(status 1)", str(self.assertRaises(RoutingError, runTool, "false")))
