"""Tests of L{nanotun.doctor.machine}."""

from __future__ import annotations

import json
import os
import shutil
import socket

from nanotun.doctor.machine import Holder
from tests.unit.doctor.doctor_cases import CheckCase


class HoldersTests(CheckCase):
    """L{Machine.holders}."""

    def setUp(self) -> None:
        """A machine with one network namespace and no process."""
        super().setUp()
        self.write("proc/self/ns/net", "")

    def process(self, pid: int, device: str = "nano0", inside: bool = True) -> None:
        """A process that has a TUN device open."""
        self.write(f"proc/{pid}/comm", "prog\n")
        self.write(f"proc/{pid}/fdinfo/3", "pos:\t0\nflags:\t02\n")
        self.write(f"proc/{pid}/fdinfo/7", f"pos:\t0\nflags:\t02\niff:\t{device}\n")
        (self.root / f"proc/{pid}/ns").mkdir()
        if inside:
            os.link(self.root / "proc/self/ns/net", self.root / f"proc/{pid}/ns/net")
        else:
            self.write(f"proc/{pid}/ns/net", "")

    def opens(self, pid: int, *targets: str) -> None:
        """The process has these files open."""
        folder = self.root / f"proc/{pid}/fd"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for number, target in enumerate(targets):
            (folder / str(number)).symlink_to(target)

    def test_found(self) -> None:
        """A process is found by the device's whole name."""
        self.process(10)
        self.process(11, "nano01")
        self.write("proc/net/dev", "")
        self.assertEqual(self.machine.holders("nano0"), [Holder(10, "prog", "")])
        self.assertEqual(self.machine.holders("nano1"), [])

    def test_runDir(self) -> None:
        """A nanotun is known by the lock that it keeps open, which names it."""
        self.process(10)
        self.opens(10, "/dev/null", "/srv/x/lock")
        self.write("srv/x/lock", json.dumps({"pid": 10}))
        self.assertEqual(self.machine.holders("nano0"), [Holder(10, "prog", "/srv/x")])

    def test_socket(self) -> None:
        """Where the lock could not be written to, the control socket beside it tells."""
        self.process(10)
        self.opens(10, "/srv/x/lock")
        self.write("srv/x/lock", "")
        control = socket.socket(socket.AF_UNIX)
        self.addCleanup(control.close)
        fd = os.open(self.root / "srv/x", os.O_PATH)
        self.addCleanup(os.close, fd)
        control.bind(f"/proc/self/fd/{fd}/control.sock")
        self.assertEqual(self.machine.holders("nano0"), [Holder(10, "prog", "/srv/x")])

    def test_otherLocks(self) -> None:
        """The lock of another program does not make it a nanotun."""
        self.process(10)
        self.opens(10, "/srv/x/lock")
        for text in ("", "10", "{}", "[]", json.dumps({"pid": 11}), "[" * 100_000):
            self.write("srv/x/lock", text)
            self.assertEqual(self.machine.holders("nano0"), [Holder(10, "prog", "")], text[:20])
        self.write("srv/x/control.sock", "no socket")
        self.assertEqual(self.machine.holders("nano0"), [Holder(10, "prog", "")])
        self.opens(10, "/srv/\n/lock")
        self.write("srv/\n/lock", json.dumps({"pid": 10}))
        self.assertEqual(self.machine.holders("nano0"), [Holder(10, "prog", "")])

    def test_chosenName(self) -> None:
        """A process cannot steer the terminal by its name."""
        self.process(10)
        self.write("proc/10/comm", "a\n\x1b[2J\u202e.\n")
        (holder,) = self.machine.holders("nano0")
        self.assertEqual(holder.name, "a\\n\\x1b[2J\\u202e.")

    def test_elsewhere(self) -> None:
        """The device of that name in another network namespace is another device."""
        self.process(10, inside=False)
        self.assertEqual(self.machine.holders("nano0"), [])

    def test_runs(self) -> None:
        """A program runs if a process has its name, whole."""
        self.write("proc/10/comm", "ssh\n")
        self.assertEqual([self.machine.runs(name) for name in ("ssh", "sshd")], [True, False])

    def test_unreadable(self) -> None:
        """Processes that have ended meanwhile are left out."""
        self.write("proc/12/comm", "gone")
        self.assertEqual(self.machine.holders("nano0"), [])
