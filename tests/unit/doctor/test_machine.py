"""Tests of L{nanotun.doctor.machine}."""

from __future__ import annotations

import os

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

    def test_found(self) -> None:
        """A process is found by the device's whole name."""
        self.process(10)
        self.process(11, "nano01")
        self.write("proc/net/dev", "")
        self.assertEqual(self.machine.holders("nano0"), [Holder(10, "prog", "")])
        self.assertEqual(self.machine.holders("nano1"), [])

    def test_runDir(self) -> None:
        """A nanotun is known by the lock that it keeps open."""
        self.process(10)
        (self.root / "proc/10/fd").mkdir()
        (self.root / "proc/10/fd/1").symlink_to("/dev/null")
        (self.root / "proc/10/fd/4").symlink_to("/srv/x/lock")
        self.assertEqual(self.machine.holders("nano0"), [Holder(10, "prog", "/srv/x")])

    def test_elsewhere(self) -> None:
        """The device of that name in another network namespace is another device."""
        self.process(10, inside=False)
        self.assertEqual(self.machine.holders("nano0"), [])

    def test_unreadable(self) -> None:
        """Processes that have ended meanwhile are left out."""
        self.write("proc/12/comm", "gone")
        self.assertEqual(self.machine.holders("nano0"), [])
