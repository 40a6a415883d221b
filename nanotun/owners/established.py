"""
Connections that are older than nanotun.

Once the routes lead into the tunnel, the packets of a connection that was open before would
enter it too, where nobody knows it, and it would be reset.  A socket with our mark stays
outside, so the sockets of excluded processes, and of a proxy on this machine, are marked
before any route is set.  The kernel hands out another process's socket by
pidfd_getfd(2), of Linux 5.6.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from twisted.logger import Logger

from nanotun.addresses import SOCKET_MARK
from nanotun.owners.interfaces import IProcesses, ISockets
from nanotun.owners.syscalls import takeDescriptor

#: Marks a socket: gets a pid, a descriptor there and the inode of the socket that should be
#: at it; returns whether it still was.  Raises OSError.
Marker = Callable[[int, int, int], bool]

#: The process, or its file, has gone since we looked.
_GONE = (errno.ESRCH, errno.EBADF, errno.EINVAL)


class Established:
    """
    Keeps connections of excluded processes outside of the tunnel.

    @param excluded: returns the pids of these processes, or raises OSError.
    @param mark: L{markSocket}.
    """

    _log = Logger()

    def __init__(
        self,
        processes: IProcesses,
        sockets: ISockets,
        excluded: Callable[[], list[int]],
        mark: Marker,
    ) -> None:
        self._processes = processes
        self._sockets = sockets
        self._excluded = excluded
        self._mark = mark
        # The errno that was logged last: what fails once fails at the next call too.
        self._told: int | None = 0

    def keep(self) -> None:
        """
        Mark the sockets by which excluded processes talk to other machines.  An error is
        logged: without a mark the connections end, and nothing else is lost.
        """
        try:
            pids = self._excluded()
            wanted = self._sockets.outward()
        except OSError as error:
            self._failed(error)
            return
        count = 0
        failure = None
        for pid in pids:
            for descriptor in self._processes.descriptors(pid):
                inode = self._processes.socketAt(pid, descriptor)
                if inode not in wanted:
                    continue
                try:
                    if self._mark(pid, descriptor, inode):
                        wanted -= {inode}
                        count += 1
                except OSError as error:
                    if error.errno not in _GONE:
                        failure = error
        if failure is not None:
            self._failed(failure)
        if count:
            self._log.info(
                "Open sockets of excluded processes, or of a proxy on this machine, that stay "
                "outside of the tunnel: {count}",
                count=count,
            )

    def _failed(self, error: OSError) -> None:
        if error.errno == self._told:
            return
        self._told = error.errno
        self._log.info(
            "Connections of excluded processes that are open already may end now ({error}): to "
            "keep them takes Linux 5.6 and CAP_SYS_PTRACE.",
            error=error.strerror,
        )


def markSocket(pid: int, descriptor: int, inode: int) -> bool:
    """
    Give another process's socket our mark, see L{Marker}.
    """
    with takeDescriptor(pid, descriptor) as taken:
        # The process may have opened another file there meanwhile.
        if os.fstat(taken.fileno()).st_ino != inode:
            return False
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, SOCKET_MARK)
    return True
