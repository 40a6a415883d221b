"""
A systemd for one test, with nothing but the unit under test.  It runs as the first process of
namespaces of its own, on a temporary copy of this machine's files.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from nanotun.linux.cgroups import cgroupMount
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, Child, LabError, run, waitUntil

PROGRAM = "/lib/systemd/systemd"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_SECONDS = 60.0

#: Makes the machine: $1 is a directory for it, $2 one with files to add.  In /proc/sys, only
#: net is writable, as it belongs to the namespace; the rest belongs to everybody.
_BOOT = (
    r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cp -a "$2/." "$1/root/"
cd "$1/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs dev
mkdir dev/net dev/shm
for device in null zero full random urandom tty net/tun; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
ip link set lo up
mkdir old
pivot_root . old
umount -l /old
exec env -i container=lab PATH="$PATH" \
    """
    + PROGRAM
    + """ --system --unit=lab.target --log-target=console --show-status=no
"""
)

_TARGET = "[Unit]\nDescription=The laboratory\nDefaultDependencies=no\n"


def cgroups() -> Path | None:
    """The hierarchy of cgroups version 2, if we may make groups there."""
    root = cgroupMount()
    return Path(root) if root and os.access(root, os.W_OK) else None


def missing() -> str:
    """Why no systemd can run here; empty if one can."""
    if not os.path.exists(PROGRAM):
        return f"there is no {PROGRAM}"
    if cgroups() is None:
        return "there are no cgroups of version 2"
    if not re.search(r"\toverlay$", Path("/proc/filesystems").read_text(), re.M):
        return "the kernel has no overlay file system"
    return ""


class MachineSpace(Namespace):
    """The network namespace of a process, for sockets of the test itself."""

    def __init__(self, pid: int) -> None:
        self.name = str(pid)
        self._fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def argv(self, argv: Sequence[str]) -> list[str]:
        """See L{Namespace.argv}."""
        return ["nsenter", f"--net=/proc/{self.name}/ns/net", *argv]

    def remove(self) -> None:
        """Forget it."""
        os.close(self._fd)


class Systemd:
    """A machine with a systemd, which has booted."""

    def __init__(self, directory: Path, files: dict[str, str]) -> None:
        """
        @param directory: for the machine's own use.
        @param files: their content by path; all get mode 600.
        @raise LabError: it does not boot.
        """
        over, place = directory / "files", directory / "machine"
        place.mkdir(parents=True)
        for name, text in {"/etc/systemd/system/lab.target": _TARGET, **files}.items():
            path = over / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o600)
        for folder in over.rglob("*/"):
            if folder.is_dir():
                folder.chmod(0o755)
        root = cgroups()
        assert root is not None
        self._cgroup = root / f"nanotun-lab-{os.getpid()}"
        self._cgroup.mkdir()
        # The first process of its cgroup, which its cgroup namespace then treats as the root.
        enter = f'echo $$ >{self._cgroup}/cgroup.procs && exec "$@"'
        unshare = ["unshare", *"--mount --pid --fork --net --ipc --uts --cgroup".split()]
        boot = ["bash", "-c", _BOOT, "boot", str(place), str(over)]
        self._child = Child(
            ["sh", "-c", enter, "sh", *unshare, "--kill-child", *boot],
            directory / "console.log",
            {"PATH": PATH},
        )
        try:
            waitUntil(self._booted, BOOT_SECONDS, "systemd has booted")
        except LabError as error:
            self.remove()
            raise LabError(f"{error}\n{self._child.output()}") from None

    def _booted(self) -> bool:
        if self._child.status() is not None:
            raise LabError("it ended")
        self._first = self._findFirst()
        return self._first > 0 and self.run("systemctl", "is-active", "lab.target")[0] == 0

    def _findFirst(self) -> int:
        """Its first process's pid outside, once that process is systemd; 0 before."""
        listed = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children")
        for pid in listed.read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(PROGRAM.encode()):
                    return int(pid)
        return 0

    def run(self, *argv: str, timeout: float = 60.0) -> tuple[int, str]:
        """Run a program there; return its exit status and output."""
        enter = ["nsenter", "-t", str(self._first), *"-m -p -n -i -u -C".split()]
        done = run([*enter, "env", "-i", f"PATH={PATH}", *argv], timeout, check=False)
        return done.returncode, done.stdout

    def space(self) -> MachineSpace:
        """Its network namespace, which outlives it as long as it has sockets."""
        return MachineSpace(self._first)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit)[1].strip()

    def isDown(self) -> bool:
        """Whether it has been shut down."""
        return self._child.status() is not None

    def console(self) -> str:
        """The log of systemd."""
        return self._child.output()

    def remove(self) -> None:
        """End the machine."""
        self._child.stop(signal.SIGKILL)
        with contextlib.suppress(LabError):
            waitUntil(self._removeCgroups, PATIENCE, "its cgroups are empty")

    def _removeCgroups(self) -> bool:
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        return not self._cgroup.exists()
