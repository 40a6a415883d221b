"""
What this package asks of the operating system, in two small interfaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from nanotun.flow import Endpoint, Flow
    from nanotun.owners.values import FlowSocket, Process, ProcStat, Program


class IProcesses(Interface):
    """
    The machine's processes.  A process may end at any moment: what is asked of one
    that is gone is answered as said, and nothing raises.  Called on the reactor's thread
    and, by scans, on another at the same time.
    """

    def pids(after: int = 0, until: int | None = None) -> list[int]:
        """
        All pids above C{after} and not above C{until}; threads have none.  Costs what the
        answer is long.
        """

    def newest() -> int:
        """The number that was given last to a process or thread of this machine."""

    def stat(pid: int) -> ProcStat | None:
        """A short look, some microseconds; L{None} if it is gone."""

    def age(stat: ProcStat) -> float:
        """Seconds since a process's start."""

    def program(pid: int, stat: ProcStat) -> Program:
        """What a process runs, some ten microseconds; nothing if it is gone."""

    def process(pid: int) -> Process | None:
        """A long look, a tenth of a millisecond; L{None} if it is gone."""

    def asleep(pid: int) -> bool:
        """Whether it has one thread only, which does not run at the moment."""

    def turns(pid: int) -> bytes:
        """
        What is another each time that a process with one thread gets a processor; empty
        if that cannot be told, or it is gone.
        """

    def descriptors(pid: int) -> list[int]:
        """Its open file descriptors, ascending; none if it is gone."""

    def socketAt(pid: int, descriptor: int) -> int:
        """The inode of the socket there, or 0 if there is no socket."""

    def ownAddresses() -> frozenset[str]:
        """This machine's addresses, in their canonical text form."""


class ISockets(Interface):
    """
    The sockets of the network namespace that we are in.  Called on the reactor's thread.
    """

    def start() -> None:
        """
        Begin.

        @raise OSError: this kernel, or who confines us, has it otherwise.
        """

    def find(flow: Flow) -> FlowSocket | None:
        """
        Find the socket of a flow of this machine, which may be connecting still.

        @raise OSError: it cannot be asked for now.
        """

    def sharing(flow: Flow) -> list[FlowSocket]:
        """
        All sockets that could have sent a UDP flow's packets.

        @raise OSError: as from C{find}.
        """

    def listener(endpoint: Endpoint) -> int:
        """
        The inode of a TCP socket that would take a connection to C{endpoint} now, or 0.
        Where several share the port it is always the same one of them.

        @raise OSError: as from C{find}.
        """

    def listening(endpoint: Endpoint) -> list[int]:
        """
        The inodes of the TCP sockets that take connections to C{endpoint}, which is
        an address of this machine.

        @raise OSError: as from C{find}.
        """

    def listeningAt(path: str) -> list[int]:
        """The inodes of the unix sockets that take connections to C{path}."""

    def close() -> None:
        """End; may be called twice."""


class ICgroups(Interface):
    """The tree of cgroups, of version 2.  Called on the reactor's thread."""

    mount = Attribute("Where it is mounted; empty if there is none.")

    def pathOf(identity: int) -> str:
        """
        The path, below the root, of the cgroup with this id; empty if it is not known,
        or gone.
        """

    def members(path: str) -> list[int] | None:
        """The pids in the cgroup at C{path}; L{None} if it cannot be read."""
