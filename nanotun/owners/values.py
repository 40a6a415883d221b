"""
What is known about processes and their sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nanotun.flow import Endpoint


class ProcStat(NamedTuple):
    """
    What C{/proc/pid/stat} (proc(5)) says about a process: cheap to read, and enough to tell
    one process, and one program in it, from the next.

    @ivar started: clock ticks from the machine's start to the process's start.
    @ivar image: where its stack begins, which the kernel chooses anew at each
        execve(2); 0 for threads of the kernel.
    @ivar command: the kernel's name for it, at most 15 bytes.
    @ivar session: the id of its session (setsid(2)).
    @ivar parent: the parent's pid.
    """

    started: int
    image: int
    command: bytes
    session: int
    parent: int


def sameProgram(one: ProcStat, other: ProcStat) -> bool:
    """Whether two readings of one pid are of one process, without an execve(2) in between."""
    # Threads of the kernel change their names according to their work.
    return one[:3] == other[:3] or (one.image == other.image == 0 and one[0] == other[0])


class Program(NamedTuple):
    """
    What a process runs.

    @ivar names: all its names, in the form of L{nanotun.config.selectors.processName}.
    @ivar path: the executable's absolute path, or empty.
    """

    names: frozenset[str]
    path: str


class Process(NamedTuple):
    """
    All that selectors can match.

    @ivar uids: its real, effective and saved user id, in this order; empty if not read.
    @ivar names: all its names, in the form of L{nanotun.config.selectors.processName}.
    @ivar name: its first name, as it is written.
    @ivar path: the executable's absolute path, or empty.
    @ivar cgroup: its path below the root of cgroup version 2, or empty; empty if not read.
    """

    pid: int
    stat: ProcStat
    uids: tuple[int, ...]
    names: frozenset[str]
    name: str
    path: str
    cgroup: str


def outline(pid: int, stat: ProcStat, program: Program) -> Process:
    """
    A process as far as nothing more has to be read of it: without its user ids and cgroup.

    @param stat: read just now.
    @param program: likewise.
    """
    name = stat.command.decode("utf-8", "replace")
    shown = program.path.rpartition("/")[2] or name
    return Process(pid, stat, (), program.names, shown, program.path, "")


class FlowSocket(NamedTuple):
    """
    A socket as the kernel describes it.

    @ivar inode: its number in C{/proc/pid/fd}.
    @ivar uid: of the user who made it.
    @ivar mark: its SO_MARK; 0 if the kernel does not tell us.
    @ivar cgroup: the id of the cgroup (version 2) in which it was made; 0 if the kernel
        does not tell.
    @ivar connected: whether it has a peer, and so is the only socket that receives the
        flow's packets.
    @ivar cookie: the kernel's number for it, which no other socket ever has.
    """

    inode: int
    uid: int
    mark: int
    cgroup: int
    connected: bool
    cookie: int = 0


class Made(NamedTuple):
    """
    What is recorded of a socket.

    @ivar pid: of the process that made it.
    @ivar born: seconds from the machine's start to that.
    """

    pid: int
    born: float


class OpenConnection(NamedTuple):
    """
    A TCP connection of this machine.

    @ivar inode: its socket's.
    """

    inode: int
    local: Endpoint
    remote: Endpoint


class Excluded(NamedTuple):
    """
    A process whose flows bypass the proxy, or one that the user's rules name.

    @ivar text: the selector that excludes it, as it is written, or
        L{nanotun.policy.rules.LOCAL_PROXY}; empty if only rules name it.
    @ivar inherited: whether it is excluded because of an ancestor.
    @ivar settled: whether its cgroup is reliable.  Desktops move programs to a cgroup of
        their own just after their start.
    @ivar selected: the rules' selectors that match it by itself, as they are written.
    """

    process: Process
    text: str
    inherited: bool = False
    settled: bool = False
    selected: frozenset[str] = frozenset()


class SocketHolder(NamedTuple):
    """A process that has a socket listening at the proxy's address."""

    pid: int
    descriptor: int
    inode: int


class Table(NamedTuple):
    """
    The result of one scan.

    @ivar newest: the most recent pid when the scan began; later processes may be missing.
    @ivar stats: of all processes, by pid.
    @ivar excluded: the excluded processes, and those that rules name, by pid.
    @ivar young: pids of processes that may not have reached their execve(2) yet.
    @ivar holders: the processes that are a proxy on this machine.
    """

    newest: int
    stats: Mapping[int, ProcStat]
    excluded: Mapping[int, Excluded]
    young: tuple[int, ...] = ()
    holders: tuple[SocketHolder, ...] = ()


EMPTY = Table(0, {}, {})
