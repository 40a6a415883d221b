"""
From a socket to the process that made it, by the kernel's record.
"""

from __future__ import annotations

from collections.abc import Callable

from nanotun.owners.interfaces import IProcesses
from nanotun.owners.values import Made, ProcStat

#: Programs that make sockets for services that they start, which have them afterwards: who
#: made such a socket says nothing.
MANAGERS = frozenset((b"systemd", b"init", b"inetd", b"xinetd"))


class Makers:
    """
    Only says what is certain: a process that has ended may have left its socket to another
    one, and its pid too.

    @param recorded: what is recorded of the socket with a cookie; see
        L{nanotun.owners.recorder.Recorder.maker}.
    """

    def __init__(self, recorded: Callable[[int], Made | None], processes: IProcesses) -> None:
        self._recorded = recorded
        self._processes = processes

    def find(self, cookie: int) -> tuple[int, ProcStat] | None:
        """
        The process that made a socket, and what it is now.

        @param cookie: the kernel's number for the socket; 0 if that is not known.
        @return: L{None} if that is unknown, or it is not the socket's user.
        """
        made = self._recorded(cookie)
        stat = None if made is None else self._processes.stat(made.pid)
        if made is None or stat is None or stat.command in MANAGERS:
            return None
        if self._processes.startOf(stat) > made.born:
            # Another process has its pid now.
            return None
        return made.pid, stat

    def pidOf(self, cookie: int) -> int:
        """
        The pid of the process that made a socket; 0 where L{find} says L{None}.

        @param cookie: as for L{find}.
        """
        found = self.find(cookie)
        return 0 if found is None else found[0]
