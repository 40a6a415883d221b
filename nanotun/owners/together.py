"""
The processes of many flows at once, for whoever lists them: one dump of the kernel's sockets and
one sweep of C{/proc/*/fd}.  A lookup of its own for each flow would read the same links again and
again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from nanotun.flow import Flow, Protocol
from nanotun.linux.cgroups import unitOf
from nanotun.owners.interfaces import IProcesses
from nanotun.owners.sockdiag import Answer, packAddress
from nanotun.owners.sockets import KernelSockets
from nanotun.owners.values import FlowSocket

_NOWHERE = bytes(16)

#: RFC 4291, section 2.5.5.2.
_MAPPED = b"\0" * 10 + b"\xff\xff"


class FlowProcess(NamedTuple):
    """
    The process that has a flow's socket.

    @ivar uid: of the socket's user.
    @ivar name: of its program, as it is written.
    @ivar path: the executable's absolute path, or empty.
    @ivar unit: the systemd unit, or empty.
    @ivar names: all its names, in the form of L{nanotun.config.selectors.processName}.
    """

    pid: int
    uid: int
    name: str
    path: str
    unit: str
    names: frozenset[str]


class _Ends(NamedTuple):
    """
    The two ends of a socket.

    @ivar local: its address: 16 bytes, of which IPv4 uses the first four.
    @ivar remote: the peer's; all zero, with port 0, if it has none.
    """

    protocol: Protocol
    family: int
    local: bytes
    localPort: int
    remote: bytes
    remotePort: int


class FlowProcesses:
    """
    Finds them.  Blocking, for the commands.

    @param sockets: started.
    """

    def __init__(self, sockets: KernelSockets, processes: IProcesses) -> None:
        self._sockets = sockets
        self._processes = processes

    def find(self, flows: Collection[Flow], apart: Collection[int] = ()) -> dict[int, FlowProcess]:
        """
        Find the processes of flows of this machine.

        @param apart: pids of processes whose flows these cannot be.
        @return: by the flows' ids; those of other machines, and those that have ended, have none.
        @raise OSError: the kernel cannot be asked.
        """
        wanted = self._socketsOf(flows)
        pids = self._holders({each.inode for found in wanted.values() for each in found}, apart)
        known: dict[tuple[int, int], FlowProcess | None] = {}
        result = {}
        for number, found in wanted.items():
            having = {pids[each.inode] for each in found if each.inode in pids}
            if len(having) != 1:
                # Several programs receive at that port, and either may have sent it.
                continue
            key = having.pop(), found[0].uid
            if key not in known:
                known[key] = self._described(*key)
            process = known[key]
            if process is not None:
                result[number] = process
        return result

    def _socketsOf(self, flows: Iterable[Flow]) -> dict[int, list[FlowSocket]]:
        """The sockets that may be a flow's, by the flows' ids."""
        dumps: dict[Protocol, dict[_Ends, list[FlowSocket]]] = {}
        result = {}
        for number, protocol, source, destination in flows:
            if protocol not in dumps:
                dumps[protocol] = self._dump(protocol)
            family, local = packAddress(source.host)
            remote = packAddress(destination.host)[1]
            ends = _Ends(protocol, family, local, source.port, remote, destination.port)
            found = next(filter(None, map(dumps[protocol].get, _possible(ends))), None)
            if found:
                result[number] = found
        return result

    def _dump(self, protocol: Protocol) -> dict[_Ends, list[FlowSocket]]:
        dump: dict[_Ends, list[FlowSocket]] = {}
        for answer in self._sockets.everything(protocol):
            if answer.socket.inode:
                dump.setdefault(_endsOf(answer, protocol), []).append(answer.socket)
        return dump

    def _holders(self, inodes: set[int], apart: Collection[int]) -> dict[int, int]:
        """The processes that have some sockets, by the sockets' inodes."""
        found: dict[int, int] = {}
        if not inodes:
            return found
        socketAt = self._processes.socketAt
        for pid in self._processes.pids():
            if pid in apart:
                continue
            for descriptor in self._processes.descriptors(pid):
                inode = socketAt(pid, descriptor)
                if inode in inodes:
                    # Of several that share it the oldest, which has most likely made it.
                    found.setdefault(inode, pid)
            if len(found) == len(inodes):
                break
        return found

    def _described(self, pid: int, uid: int) -> FlowProcess | None:
        process = self._processes.process(pid)
        if process is None:
            return None
        unit = unitOf(process.cgroup)
        return FlowProcess(pid, uid, process.name, process.path, unit, process.names)


def _endsOf(answer: Answer, protocol: Protocol) -> _Ends:
    family, local, remote = answer.family, answer.local, answer.remote
    if family == AF_INET6 and local.startswith(_MAPPED):
        family, local, remote = AF_INET, local[12:].ljust(16, b"\0"), remote[12:].ljust(16, b"\0")
    return _Ends(protocol, family, local, answer.localPort, remote, answer.remotePort)


def _possible(ends: _Ends) -> Iterable[_Ends]:
    """What the socket of a flow may be bound and connected to, the most exact first."""
    yield ends
    if ends.protocol is Protocol.UDP:
        alone = ends._replace(remote=_NOWHERE, remotePort=0)
        yield alone
        yield alone._replace(local=_NOWHERE)
        # A socket of IPv6 that is bound to no address may send IPv4 as well.
        yield alone._replace(local=_NOWHERE, family=AF_INET6)
