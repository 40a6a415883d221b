"""
What this package asks of the operating system, in three small interfaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from nanotun.flow import Endpoint, Flow
    from nanotun.owners.values import FlowSocket, OpenConnection, Process, ProcStat, Program


class IProcesses(Interface):
    """
    The machine's processes.  A process may end at any moment: each method says what it
    answers then, and none raises.  Called on the reactor's thread and, by scans, on
    another thread at the same time.
    """

    def pids(after: int = 0, until: int | None = None) -> list[int]:
        """
        All pids above C{after} and not above C{until}, without threads.  The cost depends
        on the length of the answer only.
        """

    def newest() -> int:
        """The most recent pid or thread id that the kernel gave out."""

    def stat(pid: int) -> ProcStat | None:
        """What C{/proc/pid/stat} says, in some microseconds; L{None} if the process has ended."""

    def startOf(stat: ProcStat) -> float:
        """
        Seconds from the machine's start to the process's, rounded down to a tick of the
        kernel's: ten milliseconds.
        """

    def age(stat: ProcStat) -> float:
        """Seconds since the process was started."""

    def program(pid: int, stat: ProcStat) -> Program:
        """What a process runs, in some ten microseconds; empty if it has ended."""

    def arguments(pid: int) -> list[str]:
        """A process's command line, cut off after some kilobytes; empty if it has ended."""

    def process(pid: int) -> Process | None:
        """All about a process, in a tenth of a millisecond; L{None} if it has ended."""

    def details(pid: int, stat: ProcStat, program: Program) -> Process | None:
        """
        The rest about a process, in some twenty microseconds; L{None} if it has ended.

        @param stat: read just now.
        @param program: likewise.
        """

    def asleep(pid: int) -> bool:
        """Whether a process has a single thread, which is not running at the moment."""

    def turns(pid: int) -> bytes:
        """
        A value that changes each time a process with a single thread gets a processor;
        empty if the kernel does not tell, or the process has ended.
        """

    def descriptors(pid: int) -> list[int]:
        """A process's open file descriptors, ascending; none if it has ended."""

    def socketAt(pid: int, descriptor: int) -> int:
        """The inode of the socket at a descriptor, or 0 if it is no socket."""

    def devicesAt(pid: int) -> frozenset[str]:
        """
        The names of the TUN devices that a process of our network namespace has open; none if it
        has ended.
        """

    def ownAddresses() -> frozenset[str]:
        """This machine's addresses, in their canonical text form."""


class ISockets(Interface):
    """
    The sockets of our network namespace.  Called on the reactor's thread.
    """

    def start() -> None:
        """
        Open the connection to the kernel.

        @raise OSError: the kernel cannot be asked, or a sandbox does not allow it.
        """

    def find(flow: Flow) -> FlowSocket | None:
        """
        Find the socket of a flow of this machine, which may still be connecting.

        @raise OSError: the kernel cannot be asked now.
        """

    def sharing(flow: Flow) -> list[FlowSocket]:
        """
        All sockets that may have sent a UDP flow's packets.

        @raise OSError: as from C{find}.
        """

    def listener(endpoint: Endpoint) -> FlowSocket | None:
        """
        A TCP socket that would accept a connection to C{endpoint} now.  If several share the
        port, it is always the same one of them.

        @raise OSError: as from C{find}.
        """

    def listening(endpoint: Endpoint) -> list[int]:
        """
        The inodes of all TCP sockets that accept connections to C{endpoint}, an address
        of this machine.

        @raise OSError: as from C{find}.
        """

    def listeningAt(path: str) -> list[int]:
        """The inodes of the unix sockets that accept connections to C{path}."""

    def connections() -> list[OpenConnection]:
        """
        This machine's TCP connections that are established, or that it is trying to open.

        @raise OSError: as from C{find}.
        """

    def outward() -> list[FlowSocket]:
        """
        The sockets whose packets leave for other machines, past our own device: TCP
        connections that are open or being opened, and UDP sockets.

        @raise OSError: as from C{find}.
        """

    def close() -> None:
        """Close the connection to the kernel; may be called twice."""


class ICgroups(Interface):
    """The hierarchy of cgroup version 2.  Called on the reactor's thread."""

    mount = Attribute("Where it is mounted; empty if it is not.")

    def pathOf(identity: int) -> str:
        """
        The path below the root of the cgroup with this id; empty if it is unknown or was
        removed.
        """

    def members(path: str) -> list[int] | None:
        """The pids in the cgroup at C{path}; L{None} if it cannot be read."""
