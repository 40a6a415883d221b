"""
Tests for L{nanotun.linux.cgroups}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.cgroups import cgroupMount, findMount, unitOf

TEXT = (
    "36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"
    "41 31 0:38 / /sys/fs/my\\040cgroup rw shared:4 - cgroup2 cgroup2 rw\n"
)


class MountTests(SynchronousTestCase):
    """Tests for L{findMount} and L{cgroupMount}."""

    def test_found(self) -> None:
        """The mount of version 2 is found beside those of version 1, with its blank."""
        self.assertEqual(findMount(TEXT), "/sys/fs/my cgroup")
        self.assertEqual(findMount(TEXT.splitlines()[0]), "")
        self.assertEqual(findMount("24 30 0:22 / /cg rw - cgroup cgroup rw\nx\n"), "")

    def test_hidden(self) -> None:
        """What lies over it, or over a folder on the way, hides it; nothing else does."""
        tree = (
            "22 1 8:1 / / rw - ext4 /dev/vda rw\n"
            "23 22 0:21 / /sys rw - sysfs sysfs rw\n"
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
            "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        )
        for parent, point, hidden in (
            ("41", "/sys/fs/cgroup/unified", True),
            ("31", "/sys/fs/cgroup", True),
            ("23", "/sys/fs", True),
            ("22", "/sys", False),  # It lies under the other one.
            ("23", "/sys", True),
            ("22", "/", True),
            ("41", "/sys/fs/cgroup/unified/below", False),
            ("31", "/sys/fs/cgroup/uni", False),
            ("23", "/sys/kernel", False),
        ):
            other = f"50 {parent} 0:50 / {point} rw - tmpfs tmpfs rw\n"
            found = "" if hidden else "/sys/fs/cgroup/unified"
            for text in (tree + other, other + tree):
                self.assertEqual(findMount(text), found, other)

    def test_another(self) -> None:
        """One that is visible is taken where another is hidden."""
        text = f"{TEXT}50 41 0:50 / /sys/fs/my\\040cgroup rw - tmpfs tmpfs rw\n"
        self.assertEqual(findMount(text), "")
        self.assertEqual(findMount(f"{text}60 22 0:38 / /cg rw - cgroup2 cgroup2 rw\n"), "/cg")

    def test_forged(self) -> None:
        """A mount point with Unicode's own line breaks and blanks makes no line of its own."""
        point = "/home/eve/a\u2028901\u200341\u20030:50\u2003/\u2003/sys/fs/my\\040cgroup"
        text = f"{TEXT}50 22 0:50 / {point} rw - tmpfs tmpfs rw\n"
        self.assertEqual(findMount(text), "/sys/fs/my cgroup")

    def test_file(self) -> None:
        """The file is read; without it, and without version 2, there is no mount."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(TEXT)
        self.assertEqual(cgroupMount(path), "/sys/fs/my cgroup")
        self.assertEqual(cgroupMount(self.mktemp()), "")
        cgroupMount()


class UnitOfTests(SynchronousTestCase):
    """L{unitOf}."""

    def test_units(self) -> None:
        """The unit of a process is the innermost service or scope that it is in."""
        for path, unit in (
            ("/system.slice/ssh.service", "ssh.service"),
            ("/system.slice/docker.service/nested/x", "docker.service"),
            ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox.scope",
                "app-firefox.scope",
            ),
            ("/user.slice", ""),
            ("/", ""),
            ("", ""),
        ):
            self.assertEqual(unitOf(path), unit, path)
