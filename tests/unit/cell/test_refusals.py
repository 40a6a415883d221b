"""Tests of L{nanotun.cell.refusals}, on imitated machines."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from nanotun.cell.refusals import APPARMOR, SWITCHES, Refusals, Switch
from nanotun.errors import DeviceError, RoutingError
from nanotun.linux.users import nameOf

BEGIN = "an ordinary user gets no network for a command here (words"


class RefusalsTests(SynchronousTestCase):
    """L{Refusals}."""

    def setUp(self) -> None:
        """A machine that allows everything."""
        self.proc = Path(self.mktemp())
        (self.proc / "self").mkdir(parents=True)
        self.write("self/status", "Name:\tx\nSeccomp:\t0\n")
        self.write("self/mountinfo", "1 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
        for switch in SWITCHES:
            self.set(switch, switch.allows)
        self.node = self.proc / "tun"
        self.node.touch(0o600)
        self.refusals = Refusals(str(self.proc), str(self.node))

    def write(self, path: str, text: str) -> None:
        """Write a file of procfs."""
        place = self.proc / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def set(self, switch: Switch, value: str) -> None:
        """Set a sysctl."""
        self.write(f"sys/{switch.name.replace('.', '/')}", f"{value}\n")

    def test_switches(self) -> None:
        """Each switch is named with its value, and with the command that sets another."""
        for switch in SWITCHES:
            self.set(switch, switch.forbids)
            self.assertEqual(
                self.refusals.ofNamespaces("words"),
                f"{BEGIN}, because {switch.name} is {switch.forbids}); set it with 'sudo sysctl -w "
                f"{switch.name}={switch.allows}', or run nanotun by sudo.",
            )
            self.set(switch, switch.allows)

    def test_others(self) -> None:
        """A filter and a chroot are found, and what has no known reason is a sentence, too."""
        end = "run nanotun by sudo."
        self.assertEqual(self.refusals.ofNamespaces("words"), f"{BEGIN}); {end}")
        self.write("self/mountinfo", "1 1 8:1 / /home rw - ext4 /dev/sda1 rw\n")
        self.assertIn("to nobody in a chroot); run", self.refusals.ofNamespaces("words"))
        self.write("self/status", "Seccomp:\t2\n")
        self.assertIn("a seccomp profile forbids it", self.refusals.ofNamespaces("words"))
        # A kernel that has none of this.
        nowhere = Refusals(str(self.proc / "nowhere"))
        self.assertIn(f"chroot); run nanotun outside of it, or {end}", nowhere.ofNamespaces("x"))

    def test_explained(self) -> None:
        """In a namespace an error is itself, unless AppArmor left no right to do anything there."""
        error = RoutingError("it cannot be mounted (Permission denied).")
        self.assertEqual(self.refusals.explained(error), str(error))
        self.set(APPARMOR, APPARMOR.forbids)
        self.assertEqual(
            self.refusals.explained(error),
            "an ordinary user gets a network for a command here, but may change nothing in it (it "
            f"cannot be mounted (Permission denied); that is because {APPARMOR.name} is 1); set it "
            f"with 'sudo sysctl -w {APPARMOR.name}=0', or run nanotun by sudo.",
        )

    def test_node(self) -> None:
        """A node that is missing, or closed to the user, is the reason that there is no device."""
        error = DeviceError("no device.")
        self.assertEqual(self.refusals.explained(error), "no device.")
        self.patch(os, "access", lambda path, mode: False)
        self.assertEqual(
            self.refusals.explained(error),
            f"{nameOf(os.geteuid())} may not read and write {self.node} (its mode is 0600); run "
            f"'sudo chmod 0666 {self.node}', as it is on most systems, or run nanotun by sudo.",
        )
        self.node.unlink()
        self.assertEqual(
            self.refusals.explained(error),
            f"there is no {self.node}; run 'sudo modprobe tun', or run nanotun by sudo.",
        )
        other = RoutingError("no routes.")
        self.assertEqual(self.refusals.explained(other), "no routes.")
