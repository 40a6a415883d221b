"""
Tests for L{nanotun.routing.firewall.resolvconf} and for what
L{nanotun.linux.resolvconf} knows of such files.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import RoutingError
from nanotun.linux.resolvconf import ResolvConf, findWritten, readResolvConf
from nanotun.routing.firewall.resolvconf import ResolvConfFile, fileOf, fromRecord, isContainers
from tests.unit.routing.test_host import settings

DOCKER = "# by Docker\nnameserver 127.0.0.11\nsearch corp.example\noptions edns0 ndots:0\n"


class ResolvConfFileTests(SynchronousTestCase):
    """L{ResolvConfFile}."""

    def setUp(self) -> None:
        """Make a file as Docker does."""
        self.path = Path(self.mktemp())
        self.path.write_text(DOCKER)
        self.change = ResolvConfFile("/run/nanotun", str(self.path))

    def test_applied(self) -> None:
        """The relay is the only server, in the same file; search domains and options stay."""
        inode = self.path.stat().st_ino
        self.assertFalse(self.change.holds())
        self.change.apply()
        self.assertTrue(self.change.holds())
        lines = [each for each in self.path.read_text().splitlines() if each[0] != "#"]
        self.assertEqual(
            lines, ["nameserver 198.18.0.1", "search corp.example", "options edns0 ndots:0"]
        )
        self.change.apply()
        self.change.undo()
        self.assertEqual(self.path.read_text(), DOCKER)
        self.assertEqual(self.path.stat().st_ino, inode)
        self.change.undo()
        self.assertEqual(self.path.read_text(), DOCKER)

    def test_exact(self) -> None:
        """Whatever was there comes back, byte for byte."""
        for before in ("", "\n", "nameserver 9.9.9.9", "#nanotun: x\r\n\n; \udcff\n\n"):
            with open(self.path, "w", errors="surrogateescape", newline="") as file:
                file.write(before)
            self.change.apply()
            self.assertTrue(self.change.holds())
            self.change.undo()
            with open(self.path, errors="surrogateescape", newline="") as file:
                self.assertEqual(file.read(), before)

    def test_changed(self) -> None:
        """What another program writes meanwhile is what is put back."""
        self.change.apply()
        self.path.write_text("nameserver 10.0.0.1\n")
        self.assertFalse(self.change.holds())
        self.change.apply()
        self.change.undo()
        self.assertEqual(self.path.read_text(), "nameserver 10.0.0.1\n")

    def test_ready(self) -> None:
        """A file that names the relay alone is left as it is."""
        self.path.write_text("nameserver 198.18.0.1\n")
        self.assertTrue(self.change.holds())
        self.change.apply()
        self.change.undo()
        self.assertEqual(self.path.read_text(), "nameserver 198.18.0.1\n")

    def test_system(self) -> None:
        """What reads the file for this machine's servers gets those from before."""
        self.change.apply()
        found = readResolvConf(str(self.path))
        self.assertEqual(found, ResolvConf(("127.0.0.11",), ("corp.example",)))

    def test_refused(self) -> None:
        """A file that cannot be written, or is missing, fails the start with the cure."""
        self.patch(os, "open", self.refuse)
        sentence = str(self.assertRaises(RoutingError, self.change.apply))
        self.assertIn("Read-only file system", sentence)
        self.assertIn("nameserver 198.18.0.1", sentence)
        self.path.unlink()
        self.assertRaises(RoutingError, self.change.apply)
        self.assertFalse(self.change.holds())
        self.change.undo()

    def test_undoRefused(self) -> None:
        """If it cannot be put back, the error says how to do that by hand."""
        self.change.apply()
        self.patch(os, "open", self.refuse)
        self.assertIn("sed -n", str(self.assertRaises(RoutingError, self.change.undo)))

    def refuse(self, *arguments: Any) -> int:
        """Open nothing."""
        raise OSError(30, os.strerror(30))

    def test_journal(self) -> None:
        """Another process makes the change from its record; a path elsewhere is none."""
        record = json.loads(json.dumps(ResolvConfFile("/run/n").record()))
        self.assertEqual(fromRecord(record).describe(), ResolvConfFile("/run/n").describe())
        self.assertRaises(ValueError, fromRecord, {**record, "path": "/etc/passwd"})

    def test_whose(self) -> None:
        """The file says which daemon wrote it."""
        self.change.apply()
        found = findWritten(self.path.read_text())
        self.assertEqual((found and found.runDir, found and found.before), ("/run/nanotun", DOCKER))
        self.assertIsNone(findWritten(DOCKER))


class MountedFileTests(SynchronousTestCase):
    """When the file is written at all."""

    def setUp(self) -> None:
        """Make the /proc of a container."""
        self.root = Path(self.mktemp())
        for each in ("self", "1"):
            self.root.joinpath("proc", each, "ns").mkdir(parents=True)
            self.root.joinpath("proc", each, "ns", "net").symlink_to("/etc/passwd")
        self.mounts("/etc/resolv.conf")

    def mounts(self, path: str) -> None:
        """Have something mounted there."""
        line = f"400 300 0:50 /x {path} rw - ext4 /dev/vda rw\n"
        self.root.joinpath("proc", "self", "mountinfo").write_text(line)

    def test_container(self) -> None:
        """It is one file that is mounted where the first process has the same network."""
        self.assertTrue(isContainers("/etc/resolv.conf", str(self.root)))
        self.mounts("/etc")
        self.assertFalse(isContainers("/etc/resolv.conf", str(self.root)))

    def test_named(self) -> None:
        """In a network namespace of its own, ip-netns(8) leaves the machine's file."""
        net = self.root / "proc" / "1" / "ns" / "net"
        net.unlink()
        self.assertFalse(isContainers("/etc/resolv.conf", str(self.root)))
        net.symlink_to("/etc/group")
        self.assertFalse(isContainers("/etc/resolv.conf", str(self.root)))

    def test_readOnly(self) -> None:
        """One that cannot be written is left alone unless it names a server on the loopback."""
        path = os.path.abspath(self.mktemp())
        self.mounts(path)
        self.patch(os, "access", lambda *_: False)
        for server, wanted in (("10.0.0.1", 0), ("127.0.0.11", 1), ("::1", 1), ("fe80::1%eth0", 0)):
            Path(path).write_text(f"nameserver {server}\n")
            self.assertEqual(len(fileOf(settings(), path, str(self.root))), wanted, server)

    def test_settings(self) -> None:
        """It is left alone if the settings say so, or if the tunnel is for some programs."""
        path = os.path.abspath(self.mktemp())
        self.mounts(path)
        Path(path).touch()
        for given, wanted in (
            ({}, 1),
            ({"resolvConf": "off"}, 0),
            ({"onlyProcesses": ["uid:0"]}, 0),
        ):
            files = fileOf(settings(**given), path, str(self.root))
            self.assertEqual(len(files), wanted, given)
