"""
Fakes of processes, sockets and cgroups.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from ipaddress import ip_address
from typing import NamedTuple

from zope.interface import implementer

from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.owners.interfaces import ICgroups, IProcesses, ISockets
from nanotun.owners.names import namesOf
from nanotun.owners.values import FlowSocket, OpenConnection, Process, ProcStat, Program

_images = itertools.count(0x7FFC00000000, 4096)


@implementer(IProcesses)
class FakeProcesses:
    """
    Processes in memory.

    @ivar now: seconds since this machine's start.
    @ivar table: the processes, by pid.
    @ivar files: for each pid, the inodes of its sockets by descriptor; 0 for other files.
    @ivar devices: the result of L{devicesAt}, by pid.
    @ivar busy: the pids of processes that run all the time.
    @ivar lines: the processes' command lines, by pid.
    @ivar ran: how many turns on a processor a process had, by pid.
    @ivar looks: the pids with which L{program} and L{process} were called.
    @ivar addresses: the result of L{ownAddresses}.
    @ivar failure: raised by L{newest}, if set.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.table: dict[int, Process] = {}
        self.files: dict[int, dict[int, int]] = {}
        self.lines: dict[int, tuple[str, ...]] = {}
        self.looks: list[int] = []
        self.addresses = frozenset({"127.0.0.1", "::1"})
        self.failure: OSError | None = None
        self.devices: dict[int, frozenset[str]] = {}
        self.busy: set[int] = set()
        self.ran: dict[int, int] = defaultdict(int)
        self._newest = 1

    def spawn(
        self,
        pid: int,
        path: str,
        parent: int = 1,
        uid: int = 1000,
        session: int = 1,
        cgroup: str = "/",
        arguments: tuple[str, ...] = (),
        command: str = "",
    ) -> int:
        """
        Start a process, now.

        @param command: the kernel's name for it, if not the executable's.
        @return: C{pid}.
        """
        self._newest = pid
        image = next(_images)
        self._set(pid, path, parent, uid, session, cgroup, arguments, command, self.now, image)
        self.files[pid] = {0: 0, 1: 0, 2: 0}
        return pid

    def fork(self, pid: int, child: int) -> int:
        """Let a process make a copy of itself."""
        old = self.table[pid]
        stat = old.stat._replace(started=int(self.now * 100), parent=pid)
        self._newest = child
        self.table[child] = old._replace(pid=child, stat=stat)
        self.lines[child] = self.lines[pid]
        self.files[child] = dict(self.files[pid])
        return child

    def execute(self, pid: int, path: str, arguments: tuple[str, ...] = ()) -> None:
        """Let a process become another program."""
        old = self.table[pid]
        stat = old.stat
        self.ran[pid] += 1
        self._set(
            pid, path, stat.parent, old.uids[1], stat.session, old.cgroup, arguments, "",
            stat.started / 100, next(_images),
        )  # fmt: skip

    def _set(
        self,
        pid: int,
        path: str,
        parent: int,
        uid: int,
        session: int,
        cgroup: str,
        arguments: tuple[str, ...],
        command: str,
        started: float,
        image: int,
    ) -> None:
        name = command or path.rpartition("/")[2]
        stat = ProcStat(int(started * 100), image, name[:15].encode(), session, parent)
        names = namesOf(path, name, arguments)
        self.lines[pid] = arguments or (path,)
        self.table[pid] = Process(
            pid, stat, (uid, uid, uid), names, path.rpartition("/")[2], path, cgroup
        )

    def adopt(self, pid: int, parent: int = 1) -> None:
        """Give a process another parent, as if its own had died."""
        process = self.table[pid]
        self.table[pid] = process._replace(stat=process.stat._replace(parent=parent))

    def end(self, pid: int) -> None:
        """Let a process end."""
        del self.table[pid], self.files[pid]
        self.devices.pop(pid, None)

    def open(self, pid: int, inode: int) -> int:
        """Give a process a socket; returns its descriptor, the lowest free number."""
        files = self.files[pid]
        descriptor = next(n for n in itertools.count() if n not in files)
        self.ran[pid] += 1
        files[descriptor] = inode
        return descriptor

    def pids(self, after: int = 0, until: int | None = None) -> list[int]:
        """See L{IProcesses.pids}."""
        return sorted(pid for pid in self.table if pid > after and (until is None or pid <= until))

    def newest(self) -> int:
        """See L{IProcesses.newest}."""
        if self.failure is not None:
            raise self.failure
        return self._newest

    def stat(self, pid: int) -> ProcStat | None:
        """See L{IProcesses.stat}."""
        process = self.table.get(pid)
        return None if process is None else process.stat

    def startOf(self, stat: ProcStat) -> float:
        """See L{IProcesses.startOf}."""
        return stat.started / 100

    def age(self, stat: ProcStat) -> float:
        """See L{IProcesses.age}."""
        return self.now - self.startOf(stat)

    def program(self, pid: int, stat: ProcStat) -> Program:
        """See L{IProcesses.program}."""
        self.looks.append(pid)
        process = self.table.get(pid)
        if process is None:
            return Program(frozenset(), "")
        return Program(process.names, process.path)

    def arguments(self, pid: int) -> list[str]:
        """See L{IProcesses.arguments}."""
        return list(self.lines[pid]) if pid in self.table else []

    def process(self, pid: int) -> Process | None:
        """See L{IProcesses.process}."""
        self.looks.append(pid)
        return self.table.get(pid)

    def details(self, pid: int, stat: ProcStat, program: Program) -> Process | None:
        """See L{IProcesses.details}."""
        process = self.table.get(pid)
        return process and process._replace(stat=stat, names=program.names, path=program.path)

    def asleep(self, pid: int) -> bool:
        """See L{IProcesses.asleep}."""
        return pid in self.table and pid not in self.busy

    def turns(self, pid: int) -> bytes:
        """See L{IProcesses.turns}."""
        return b"%d" % self.ran[pid] if pid in self.table else b""

    def descriptors(self, pid: int) -> list[int]:
        """See L{IProcesses.descriptors}."""
        return sorted(self.files.get(pid, {}))

    def socketAt(self, pid: int, descriptor: int) -> int:
        """See L{IProcesses.socketAt}."""
        return self.files.get(pid, {}).get(descriptor, 0)

    def devicesAt(self, pid: int) -> frozenset[str]:
        """See L{IProcesses.devicesAt}."""
        return self.devices.get(pid, frozenset())

    def ownAddresses(self) -> frozenset[str]:
        """See L{IProcesses.ownAddresses}."""
        return self.addresses


class FakeSocket(NamedTuple):
    """One of L{FakeSockets}; C{remote} is L{None} if there is no peer."""

    protocol: Protocol
    local: Endpoint
    remote: Endpoint | None
    listens: bool
    found: FlowSocket


@implementer(ISockets)
class FakeSockets:
    """
    Sockets in memory.

    @ivar open: all sockets.
    @ivar paths: inodes of unix sockets that listen, by path.
    @ivar failure: raised by every question, if set.
    @ivar closed: whether it is closed.
    """

    def __init__(self) -> None:
        self.open: list[FakeSocket] = []
        self.paths: dict[str, list[int]] = {}
        self.failure: OSError | None = None
        self.closed = True
        self._inodes = itertools.count(5000)

    def add(
        self,
        protocol: Protocol,
        local: Endpoint,
        remote: Endpoint | None = None,
        uid: int = 1000,
        mark: int = 0,
        cgroup: int = 1,
        listens: bool = False,
        cookie: int = 0,
    ) -> int:
        """Open a socket; returns its inode."""
        found = FlowSocket(next(self._inodes), uid, mark, cgroup, remote is not None, cookie)
        self.open.append(FakeSocket(protocol, local, remote, listens, found))
        return found.inode

    def start(self) -> None:
        """See L{ISockets.start}."""
        self._check()
        self.closed = False

    def find(self, flow: Flow) -> FlowSocket | None:
        """See L{ISockets.find}."""
        self._check()
        sharers = self.sharing(flow)
        connected = [found for found in sharers if found.connected]
        return next(iter(connected + sharers), None)

    def sharing(self, flow: Flow) -> list[FlowSocket]:
        """See L{ISockets.sharing}."""
        return [
            each.found
            for each in self.open
            if not self.closed
            and not each.listens
            and each.protocol is flow.protocol
            and _takes(each, flow.source)
            and each.remote in (None, flow.destination)
        ]

    def listener(self, endpoint: Endpoint) -> FlowSocket | None:
        """See L{ISockets.listener}."""
        return next(iter(self._listening(endpoint)), None)

    def listening(self, endpoint: Endpoint) -> list[int]:
        """See L{ISockets.listening}."""
        return [found.inode for found in self._listening(endpoint)]

    def _listening(self, endpoint: Endpoint) -> list[FlowSocket]:
        self._check()
        return [each.found for each in self.open if each.listens and _takes(each, endpoint)]

    def listeningAt(self, path: str) -> list[int]:
        """See L{ISockets.listeningAt}."""
        return self.paths.get(path, [])

    def outward(self) -> list[FlowSocket]:
        """See L{ISockets.outward}."""
        self._check()
        return [
            each.found
            for each in self.open
            if not each.listens
            and not ip_address(each.local.host).is_loopback
            and not each.local.host.startswith(("198.18.", "fdfe:dcba:9876:"))
        ]

    def connections(self) -> list[OpenConnection]:
        """See L{ISockets.connections}."""
        self._check()
        return [
            OpenConnection(each.found.inode, each.local, each.remote)
            for each in self.open
            if each.protocol is Protocol.TCP and each.remote is not None
        ]

    def close(self) -> None:
        """See L{ISockets.close}."""
        self.closed = True

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure


def _takes(each: FakeSocket, endpoint: Endpoint) -> bool:
    any_ = "::" if ip_address(endpoint.host).version == 6 else "0.0.0.0"
    return each.local.port == endpoint.port and each.local.host in (endpoint.host, any_)


@implementer(ICgroups)
class FakeCgroups:
    """
    Cgroups in memory.

    @ivar paths: the cgroups' paths, by id.
    @ivar processes: the pids in each cgroup, by path.
    """

    def __init__(self) -> None:
        self.mount = "/sys/fs/cgroup"
        self.paths = {1: "/"}
        self.processes: dict[str, list[int]] = {}

    def pathOf(self, identity: int) -> str:
        """See L{ICgroups.pathOf}."""
        return self.paths.get(identity, "")

    def members(self, path: str) -> list[int] | None:
        """See L{ICgroups.members}."""
        return self.processes.get(path)
