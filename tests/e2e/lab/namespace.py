"""
One network namespace, and sockets inside it for the test itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence

from tests.e2e.lab.process import PATIENCE, run

_CLONE_NEWNET = 0x40000000
_OURS = re.compile(r"nt(\d+)x\d+-\w+")
_libc = ctypes.CDLL(None, use_errno=True)

SYSCTLS = {
    # A new namespace has what the machine's own has, which may be a host of containers.
    "net.ipv4.ip_forward": "0",
    "net.ipv6.conf.all.forwarding": "0",
    # Thousands of short connections would remain in TIME_WAIT and use up the ports.
    "net.ipv4.tcp_max_tw_buckets": "10",
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.ip_local_port_range": "1024 65000",
    # The answer to a marked packet arrives on another interface than the one its sender is
    # routed to.
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    # There is no router here, so nothing should wait for one.
    "net.ipv6.conf.all.accept_ra": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    # Nobody else has our addresses, and duplicate detection would cost a second.
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    # Every refusal must be reported, even the seventh within a second.
    "net.ipv4.icmp_ratelimit": "0",
    "net.ipv6.icmp.ratelimit": "0",
}


def _setns(fd: int) -> None:
    """Move the calling thread, and only it, to the namespace C{fd}."""
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Namespace:
    """A network namespace with a name, as for C{ip netns}."""

    def __init__(self, name: str) -> None:
        """@raise LabError: it cannot be made."""
        self.name = name
        run(["ip", "netns", "add", name])
        self._fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        self.ip("link set lo up")
        self.run(["sysctl", "-q", "-w", *(f"{key}={value}" for key, value in SYSCTLS.items())])

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command that runs C{argv} in this namespace, with its own C{/sys}."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(
        self,
        argv: Sequence[str],
        timeout: float = PATIENCE,
        check: bool = True,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in this namespace, like L{tests.e2e.lab.process.run}."""
        return run(self.argv(argv), timeout, check, stdin)

    def ip(self, *commands: str, version: str = "") -> None:
        """
        Run C{ip} commands (without the leading C{ip}) in order, in one process.

        @param version: C{"-6"} if the addresses of a command do not show that it is about
            IPv6.
        """
        argv = ["ip", "-n", self.name, *version.split(), "-batch", "-"]
        run(argv, stdin="".join(f"{line}\n" for line in commands))

    def nft(self, script: str) -> None:
        """Load an nft script."""
        self.run(["nft", "-f", "-"], stdin=script)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in this namespace meanwhile; what it opens stays there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self._fd)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)

    def makeSocket(
        self, family: int, kind: int = socket.SOCK_STREAM, protocol: int = 0
    ) -> socket.socket:
        """A socket in this namespace, whichever thread uses it."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def connect(
        self, address: tuple[str, int], timeout: float = PATIENCE, mark: int = 0
    ) -> socket.socket:
        """
        A TCP connection from this namespace.

        @param timeout: seconds, for the connect and for every call after it.
        @param mark: SO_MARK, or 0.
        @raise OSError: the error of connect(2).
        """
        sock = self.makeSocket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        try:
            sock.settimeout(timeout)
            if mark:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            sock.connect(address)
            # While an ICMP error is closing a socket, Python does not see the error yet; only
            # a socket that has a peer is connected.
            try:
                sock.getpeername()
            except OSError:
                sock.recv(1)  # Raises the error of connect(2).
                raise
        except BaseException:
            sock.close()
            raise
        return sock

    def listening(self, port: int) -> bool:
        """Whether anything listens on TCP C{port}, on any address."""
        state = ("0A", f":{port:04X}")
        with self.entered():
            for path in ("/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"):
                with open(path) as table:
                    for line in table:
                        fields = line.split()
                        if fields[3] == state[0] and fields[1].endswith(state[1]):
                            return True
        return False

    def interfaces(self) -> set[str]:
        """The names of the interfaces."""
        with self.entered():
            return {name for _, name in socket.if_nameindex()}

    def processes(self) -> list[int]:
        """The pids of the processes in this namespace."""
        return _processesIn(self.name)

    def remove(self) -> None:
        """End the processes that still run here, then remove the namespace."""
        os.close(self._fd)
        _removeByName(self.name)


class Host(Namespace):
    """
    The test's own namespace, with the methods of the others.  It is for looking around and
    for running programs there; nothing here changes its routes.
    """

    def __init__(self) -> None:
        self.name = "the host"
        self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def argv(self, argv: Sequence[str]) -> list[str]:
        """C{argv} itself."""
        return list(argv)

    def ip(self, *commands: str, version: str = "") -> None:
        """As in the other namespaces."""
        run(["ip", *version.split(), "-batch", "-"], stdin="".join(f"{x}\n" for x in commands))

    def processes(self) -> list[int]:
        """None: the processes here are not ours."""
        return []

    def remove(self) -> None:
        """Close the namespace."""
        os.close(self._fd)


def _processesIn(name: str) -> list[int]:
    me = os.getpid()  # `ip netns pids` would list us while a thread is in the namespace.
    done = run(["ip", "netns", "pids", name], check=False)
    if done.returncode != 0:
        # It is gone already.
        return []
    return [pid for pid in map(int, done.stdout.split()) if pid != me]


def _removeByName(name: str) -> None:
    for pid in _processesIn(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run(["ip", "netns", "del", name], check=False)


def removeLeftovers() -> list[str]:
    """
    Remove what killed runs left behind: namespaces whose name contains the pid of a process
    that is gone.

    @return: their names.
    """
    gone: list[str] = []
    try:
        names = os.listdir("/run/netns")
    except FileNotFoundError:
        return gone
    for name in names:
        found = _OURS.fullmatch(name)
        if found and not os.path.exists(f"/proc/{found.group(1)}"):
            _removeByName(name)
            gone.append(name)
    return gone
