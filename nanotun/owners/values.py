"""
What is known of processes and of their sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class ProcStat(NamedTuple):
    """
    What tells one process, and one program in it, from the next; cheap to read
    (proc(5), C{/proc/pid/stat}).

    @ivar started: clock ticks since the machine's start.
    @ivar image: where its stack begins, which the kernel chooses anew at each
        execve(2); 0 for threads of the kernel.
    @ivar command: the kernel's name for it, at most 15 bytes.
    @ivar session: the id that setsid(2) gave it or a forebear.
    @ivar parent: the parent's pid.
    """

    started: int
    image: int
    command: bytes
    session: int
    parent: int


def sameProgram(one: ProcStat, other: ProcStat) -> bool:
    """Whether two stats at a pid saw one process, with no execve(2) between them."""
    # Threads of the kernel change their names with what they do.
    return one[:3] == other[:3] or (one.image == other.image == 0 and one[0] == other[0])


class Program(NamedTuple):
    """
    What a process runs.

    @ivar names: what it is called, in the form of
        L{nanotun.config.selectors.processName}.
    @ivar path: the executable's absolute path, or empty.
    """

    names: frozenset[str]
    path: str


class Process(NamedTuple):
    """
    All that selectors ask of a process.

    @ivar uids: its real, effective and saved user id, in this order.
    @ivar names: what it is called, in the form of
        L{nanotun.config.selectors.processName}.
    @ivar name: what it is called first, as it is written.
    @ivar path: the executable's absolute path, or empty.
    @ivar cgroup: its path below the root of cgroup version 2, or empty.
    """

    pid: int
    stat: ProcStat
    uids: tuple[int, ...]
    names: frozenset[str]
    name: str
    path: str
    cgroup: str


class FlowSocket(NamedTuple):
    """
    A socket as the kernel tells of it.

    @ivar inode: what C{/proc/pid/fd} calls it by.
    @ivar uid: who made it.
    @ivar mark: its SO_MARK; 0 where we may not know it.
    @ivar cgroup: the id of the cgroup, of version 2, that it was made in; 0 if the
        kernel does not say.
    @ivar connected: whether it has a peer, and so is the only one that gets the
        flow's packets.
    """

    inode: int
    uid: int
    mark: int
    cgroup: int
    connected: bool


class Excluded(NamedTuple):
    """
    A process whose flows go past the proxy.

    @ivar text: the selector, as it is written, or L{nanotun.policy.rules.LOCAL_PROXY}.
    @ivar inherited: whether it is so for a forebear's sake.
    @ivar settled: whether its cgroup is one to go by.  Desktops move programs to a
        cgroup of their own just after their start.
    """

    process: Process
    text: str
    inherited: bool = False
    settled: bool = False


class SocketHolder(NamedTuple):
    """A process that has the socket which the proxy's address leads to."""

    pid: int
    descriptor: int
    inode: int


class Table(NamedTuple):
    """
    What one scan has found.

    @ivar newest: the last pid that was given when the scan began; who came later may
        be missing.
    @ivar stats: of all processes, by pid.
    @ivar excluded: those that are, by pid.
    @ivar young: pids of processes that may not have come to their execve(2) yet.
    @ivar holders: who is a proxy on this machine.
    """

    newest: int
    stats: Mapping[int, ProcStat]
    excluded: Mapping[int, Excluded]
    young: tuple[int, ...] = ()
    holders: tuple[SocketHolder, ...] = ()


EMPTY = Table(0, {}, {})
