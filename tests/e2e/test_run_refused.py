"""
What an ordinary user of C{nanotun run} is told on machines that do not allow it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.e2e.lab.cell import Done, nanotun
from tests.e2e.lab.ordinary import asOrdinary
from tests.e2e.lab.process import PATIENCE, PROJECT_ROOT, waitUntil
from tests.e2e.run_case import NOWHERE, RunCase

FILTERED = [sys.executable, "-I", "-B", str(PROJECT_ROOT / "tests/e2e/lab/filtered.py")]

RUN = (nanotun(), "run", "--proxy", NOWHERE, "--", "echo", "ran")

BEGIN = "nanotun: an ordinary user gets no network for a command here"

SWITCHES = """\
mount -t tmpfs -o mode=755 tmpfs /proc/sys/kernel
echo {value} >/proc/sys/kernel/{name}
"""
"""The kernel of another distribution."""

STRIPPED = """\
cp /usr/bin/unshare "$(dirname "$0")/real"
cat >"$(dirname "$0")/stripped" <<END
#!/bin/sh
for word; do
    set -- "\\$@" "\\$word"
    [ "\\$word" = slave ] && set -- "\\$@" setpriv --ambient-caps -all --inh-caps -all
    shift
done
exec "$(dirname "$0")/real" "\\$@"
END
chmod 755 "$(dirname "$0")/stripped"
mount --bind "$(dirname "$0")/stripped" /usr/bin/unshare
"""
"""A user namespace without capabilities, as AppArmor leaves to ordinary users of Ubuntu."""


CHANGED = """\
mount -t tmpfs -o mode=755 tmpfs /mnt
for each in /*; do
    [ -d "$each" ] && [ ! -L "$each" ] && [ "$each" != /mnt ] || continue
    mkdir -p "/mnt/root$each"
    mount --rbind "$each" "/mnt/root$each"
done
cp -P /bin /lib* /sbin /mnt/root 2>/dev/null || true
"""
"""A directory with all that there is."""


class RefusedUserTests(RunCase):
    """One sentence says what forbids it and how that is changed, and names sudo."""

    def told(self, *prefix: str, mode: int | None = 0o666, more: str = "") -> str:
        """What is said after a failed start."""
        program = asOrdinary(self.directory, mode, more)
        return self.sentence(self.launch([program, *prefix, *RUN]).done())

    def sentence(self, done: Done) -> str:
        """The only line that was said."""
        self.assertEqual((done.status, done.out), (125, ""), done.err)
        self.assertEqual(done.err.count("\n"), 1, done.err)
        return done.err.strip()

    def test_filtered(self) -> None:
        """A seccomp profile."""
        self.assertEqual(
            self.told(*FILTERED),
            f"{BEGIN} (unshare failed: Operation not permitted, most likely because a seccomp "
            "profile forbids it, as containers have one); start the container with --security-opt "
            "seccomp=unconfined, or run nanotun by sudo.",
        )

    def test_switches(self) -> None:
        """A kernel's switch, named with its value."""
        for name, value, allows in (
            ("unprivileged_userns_clone", 0, 1),
            ("apparmor_restrict_unprivileged_userns", 1, 0),
        ):
            more = SWITCHES.format(name=name, value=value)
            self.assertEqual(
                self.told(*FILTERED, more=more),
                f"{BEGIN} (unshare failed: Operation not permitted, because kernel.{name} is "
                f"{value}); set it with 'sudo sysctl -w kernel.{name}={allows}', or run nanotun by "
                "sudo.",
            )

    def test_limit(self) -> None:
        """The limit of user namespaces, by the kernel's own refusal."""
        program = asOrdinary(self.directory, None)
        # Only a program that is started by its root has that namespace's capabilities.
        script = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
        whole = ["sh", "-c", 'read go && exec "$@"', "sh", "sh", "-c", script, "sh"]
        running = self.launch(["unshare", "--user", *whole, program, *RUN])
        here = os.readlink("/proc/self/ns/user")
        place = Path(f"/proc/{running.pid}")
        waitUntil(
            lambda: os.readlink(place / "ns/user") != here, PATIENCE, "its namespace is there"
        )
        for name in ("uid_map", "gid_map"):
            (place / name).write_text("0 0 65536\n")
        self.assertEqual(
            self.sentence(running.done("go\n")),
            f"{BEGIN} (unshare failed: No space left on device, because user.max_user_namespaces "
            "is 0); set it with 'sudo sysctl -w user.max_user_namespaces=10000', or run nanotun by "
            "sudo.",
        )

    def test_chroot(self) -> None:
        """A chroot, in which the kernel allows it to nobody."""
        program = asOrdinary(self.directory, more=CHANGED)
        text = Path(program).read_text()
        Path(program).write_text(text.replace("exec setpriv", "exec chroot /mnt/root setpriv"))
        self.assertEqual(
            self.sentence(self.launch([program, *RUN]).done()),
            f"{BEGIN} (unshare failed: Operation not permitted, because the kernel allows it to "
            "nobody in a chroot); run nanotun outside of it, or run nanotun by sudo.",
        )

    def test_powerless(self) -> None:
        """AppArmor, which allows the namespace and nothing in it."""
        name = "apparmor_restrict_unprivileged_userns"
        said = self.told(more=STRIPPED + SWITCHES.format(name=name, value=1))
        self.assertRegex(
            said,
            r"\Ananotun: an ordinary user gets a network for a command here, but may change "
            r"nothing in it \(the command's own files cannot be mounted .*\Z",
        )
        self.assertIn(f"that is because kernel.{name} is 1); set it with 'sudo sysctl -w", said)

    def test_noNode(self) -> None:
        """A missing /dev/net/tun."""
        self.assertEqual(
            self.told(mode=0),
            "nanotun: there is no /dev/net/tun; run 'sudo modprobe tun', or run nanotun by sudo.",
        )

    def test_closedNode(self) -> None:
        """One that the user may not open."""
        self.assertEqual(
            self.told(mode=0o600),
            "nanotun: nobody may not read and write /dev/net/tun (its mode is 0600); run 'sudo "
            "chmod 0666 /dev/net/tun', as it is on most systems, or run nanotun by sudo.",
        )
