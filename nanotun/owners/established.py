"""
Connections that are older than nanotun.

Once the routes lead into the tunnel, the packets of a connection that was open before would
enter it too, where nobody knows it, and it would be reset.  A socket with our mark stays
outside, so the sockets of excluded processes, and of a proxy on this machine, are marked
before any route is set.  The kernel hands out another process's socket by
pidfd_getfd(2), of Linux 5.6.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable

from twisted.logger import Logger

from nanotun.addresses import SOCKET_MARK
from nanotun.owners.interfaces import IProcesses, ISockets
from nanotun.owners.syscalls import takeDescriptor

#: Gives a socket a mark, the last argument: gets a pid, a descriptor there, and the inode of
#: the socket that should be at it; returns whether it still was.  Raises OSError.
Marker = Callable[[int, int, int, int], bool]

#: The process, or its file, has gone since we looked.
_GONE = (errno.ESRCH, errno.EBADF, errno.EINVAL)


class Established:
    """
    Keeps connections of excluded processes outside of the tunnel.

    @ivar kept: where the sockets with our mark are, as pid and descriptor, by inode.
    @param excluded: returns the pids of these processes, or raises OSError.
    @param mark: L{markSocket}.
    @param ownPid: os.getpid; our own sockets have a mark or do not, as they were made.
    """

    _log = Logger()

    def __init__(
        self,
        processes: IProcesses,
        sockets: ISockets,
        excluded: Callable[[], list[int]],
        mark: Marker,
        ownPid: Callable[[], int],
    ) -> None:
        self.kept: dict[int, tuple[int, int]] = {}
        self._processes = processes
        self._sockets = sockets
        self._excluded = excluded
        self._mark = mark
        self._ownPid = ownPid
        # The errno that was logged last: what fails once fails at the next call too.
        self._told: int | None = 0

    def keep(self) -> None:
        """
        Mark the sockets by which excluded processes talk to other machines, but for those
        that have another mark.  An error is logged: without a mark the connections end, and
        nothing else is lost.
        """
        try:
            pids = self._excluded()
            marks = {found.inode: found.mark for found in self._sockets.outward()}
        except OSError as error:
            self._failed(error)
            return
        count = 0
        failure = None
        for pid in pids:
            for descriptor in self._processes.descriptors(pid) if pid != self._ownPid() else ():
                inode = self._processes.socketAt(pid, descriptor)
                mark = marks.get(inode)
                if mark == SOCKET_MARK:
                    # Since an earlier start, which may have ended by a crash.
                    self.kept[inode] = pid, descriptor
                elif mark == 0:
                    try:
                        if self._mark(pid, descriptor, inode, SOCKET_MARK):
                            marks[inode] = SOCKET_MARK
                            self.kept[inode] = pid, descriptor
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

    def release(self) -> None:
        """
        Take the marks off again, so that the next start can decide anew.  Without our rules
        that changes nothing for the connections.
        """
        for inode in list(self.kept):
            self._unmark(inode)

    def handOver(self, successor: Established | None) -> None:
        """
        Leave the sockets to what another configuration excludes.  Connections stay as they
        are until they end, but a socket without a peer is used for others too: its mark is
        taken off if its process is not excluded any more.

        @param successor: started; L{None} if nothing is excluded.
        """
        try:
            excluded = set() if successor is None else set(successor._excluded())
            loose = {found.inode for found in self._sockets.outward() if not found.connected}
        except OSError as error:
            self._failed(error)
            return
        for inode, (pid, _) in list(self.kept.items()):
            if pid not in excluded and inode in loose:
                self._unmark(inode)
        if successor is not None:
            successor.kept.update(self.kept)

    def _unmark(self, inode: int) -> None:
        pid, descriptor = self.kept.pop(inode)
        # By now the socket may be closed.
        with contextlib.suppress(OSError):
            self._mark(pid, descriptor, inode, 0)

    def _failed(self, error: OSError) -> None:
        if error.errno == self._told:
            return
        self._told = error.errno
        self._log.info(
            "Connections of excluded processes that are open already may end now ({error}): "
            "keeping them takes Linux 5.6 and CAP_SYS_PTRACE.",
            error=error.strerror,
        )


def markSocket(pid: int, descriptor: int, inode: int, mark: int) -> bool:
    """Give another process's socket a mark, see L{Marker}."""
    with takeDescriptor(pid, descriptor) as taken:
        # The process may have opened another file there meanwhile.
        if os.fstat(taken.fileno()).st_ino != inode:
            return False
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    return True
