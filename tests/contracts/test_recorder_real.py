"""
Tests for L{nanotun.owners.recorder} with this machine's own kernel, in a control group of the
tests.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.owners.makers import Makers
from nanotun.owners.processes import ProcProcesses
from nanotun.owners.recorder import SO_COOKIE, Recorder
from nanotun.owners.sockets import KernelSockets
from nanotun.owners.syscalls import LinuxBpf
from nanotun.owners.values import Made
from tests import ROOT
from tests.e2e.lab.record import needRecord

#: The group, in the hierarchy's root.
GROUP = f"nanotun-record-{os.getpid()}"

#: linux/bpf.h.
PROG_QUERY = 16
SOCK_CREATE = 2

#: Has its own sockets recorded in the group that it is in, says so, and waits.
DAEMON = """
import sys
from nanotun.owners.recorder import Recorder
from tests.contracts.test_recorder_real import GroupBpf
recorder = Recorder(GroupBpf())
recorder.start()
print(recorder.works, flush=True)
sys.stdin.read()
"""

#: Tells its pid and the cookies of four sockets.
MAKER = f"""
import os, socket, struct
print(os.getpid())
for family in (socket.AF_INET, socket.AF_INET6):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        made = socket.socket(family, kind)
        print(*struct.unpack("=Q", made.getsockopt(socket.SOL_SOCKET, {SO_COOKIE}, 8)))
"""


class GroupBpf(LinuxBpf):
    """The real kernel, with the tests' group as the root."""

    def root(self) -> int:
        """The group that this process is in."""
        top = super().root()
        try:
            with open("/proc/self/cgroup") as groups:
                (path,) = (line[4:].strip() for line in groups if line.startswith("0::/"))
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=top)
        finally:
            os.close(top)


def write(text: str, name: str, folder: int) -> None:
    """Write to a file in an open folder."""
    descriptor = os.open(name, os.O_WRONLY, dir_fd=folder)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


class RecorderRealTests(SynchronousTestCase):
    """L{Recorder}."""

    def setUp(self) -> None:
        """This process is in the group until the test ends."""
        needRecord()
        try:
            self.top = LinuxBpf().root()
        except OSError as error:
            raise SkipTest(f"there are no control groups: {error}") from None
        self.addCleanup(os.close, self.top)
        with open("/proc/self/cgroup") as groups:
            home = next((line[4:].strip() for line in groups if line.startswith("0::/")), "")
        try:
            os.mkdir(GROUP, dir_fd=self.top)
        except OSError as error:
            raise SkipTest(f"no control group can be made: {error}") from None
        self.addCleanup(os.rmdir, GROUP, dir_fd=self.top)
        write(str(os.getpid()), f"{GROUP}/cgroup.procs", self.top)
        procs = os.path.join(home, "cgroup.procs")
        self.addCleanup(write, str(os.getpid()), procs, self.top)
        self.recorder = Recorder(GroupBpf())
        self.addCleanup(self.recorder.stop)

    def attached(self) -> int:
        """How many programs the group has."""
        folder = os.open(GROUP, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.top)
        query = ctypes.create_string_buffer(struct.pack("=4I", folder, SOCK_CREATE, 0, 0), 64)
        library = ctypes.CDLL(None, use_errno=True)
        number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
        try:
            self.assertEqual(library.syscall(number, PROG_QUERY, query, len(query)), 0)
        finally:
            os.close(folder)
        return int(struct.unpack_from("=I", query, 24)[0])

    @contextlib.contextmanager
    def daemon(self, *before: str) -> Iterator[subprocess.Popen[str]]:
        """Another process that records; killed at the end."""
        child = subprocess.Popen(
            [*before, sys.executable, "-c", DAEMON],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            assert child.stdout is not None
            self.assertEqual(child.stdout.readline(), "True\n")
            yield child
        finally:
            child.kill()
            child.communicate()

    def test_children(self) -> None:
        """
        Sockets of another process, of TCP and UDP, IPv4 and IPv6, are recorded as its own,
        in our network namespace and in another one.
        """
        self.recorder.start()
        self.assertTrue(self.recorder.works)
        for before in ([], ["unshare", "--net"]):
            told = subprocess.run(
                [*before, sys.executable, "-c", MAKER],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout.split()
            pid, *cookies = map(int, told)
            makers = [self.recorder.maker(cookie) for cookie in cookies]
            self.assertEqual([made and made.pid for made in makers], [pid] * 4)
            times = [made.born for made in makers if made]
            self.assertEqual(times, sorted(times))

    def test_cookie(self) -> None:
        """The cookie that sock_diag gives for a flow's socket leads to its maker."""
        self.recorder.start()
        sockets = KernelSockets("nonexistent0")
        sockets.start()
        self.addCleanup(sockets.close)
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(family, kind) as there, socket.socket(family, kind) as here:
                    there.bind((host, 0))
                    if kind == socket.SOCK_STREAM:
                        there.listen()
                    here.connect(there.getsockname())
                    ends = (Endpoint(*each.getsockname()[:2]) for each in (here, there))
                    protocol = Protocol.TCP if kind == socket.SOCK_STREAM else Protocol.UDP
                    found = sockets.find(Flow(1, protocol, *ends))
                    assert found is not None
                    made = self.recorder.maker(found.cookie)
                    self.assertEqual(made and made.pid, os.getpid())

    def test_times(self) -> None:
        """
        A socket is younger than the process that made it, by the same clock, however soon
        after its start that was; and a pid that is used again is noticed by that.
        """
        self.recorder.start()
        processes = ProcProcesses()
        makers = Makers(self.recorder.maker, processes)
        code = f"{MAKER}\nimport sys\nsys.stdout.flush(); sys.stdin.read()"
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(child.communicate)
        assert child.stdout is not None
        pid, *cookies = (int(child.stdout.readline()) for _ in range(5))
        self.assertEqual([makers.pidOf(cookie) for cookie in cookies], [pid] * 4)
        made = self.recorder.maker(cookies[0])
        stat = processes.stat(pid)
        assert made is not None and stat is not None
        self.assertTrue(0 <= made.born - processes.startOf(stat) < 10)

    def test_older(self) -> None:
        """Nothing is known of a socket that is older than the record."""
        with socket.socket() as made:
            cookie = made.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
            self.recorder.start()
            self.assertIsNone(self.recorder.maker(*struct.unpack("=Q", cookie)))

    def test_ended(self) -> None:
        """Nothing is attached any more after the stop, or after a death without one."""
        self.assertEqual(self.attached(), 0)
        self.recorder.start()
        self.assertEqual(self.attached(), 1)
        self.assertFalse(os.get_inheritable(self.recorder._link))
        self.recorder.stop()
        self.assertEqual(self.attached(), 0)
        with self.daemon():
            self.assertEqual(self.attached(), 1)
        self.assertEqual(self.attached(), 0)

    def test_two(self) -> None:
        """Two daemons record at the same time, each for itself."""
        self.recorder.start()
        with self.daemon(), socket.socket() as made:
            self.assertEqual(self.attached(), 2)
            cookie = made.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
            found = self.recorder.maker(*struct.unpack("=Q", cookie))
            assert isinstance(found, Made)
            self.assertEqual(found.pid, os.getpid())

    def test_hidden(self) -> None:
        """Where control groups are mounted nowhere, as below ip netns exec, it works too."""
        hide = 'umount --recursive --lazy /sys; exec "$@"'
        with self.daemon("unshare", "--mount", "sh", "-c", hide, "sh"):
            self.assertEqual(self.attached(), 1)
