"""
The sinks beside the L{files by date<nanotun.log.file>}: the terminal, and the file of
C{twistd --logfile}.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping

from twisted.python.logfile import LogFile

STDERR = 2

#: Seconds that one line may wait for a stderr that is full: a terminal held by Ctrl-S, a
#: pipe that nobody reads.  The lines after it are lost until there is room again, because
#: the tunnel waits with them.
STALL_LIMIT = 0.2
PAUSE = 0.002  #: Seconds between two attempts to write that line.


class Terminal:
    """
    The stderr that nanotun was started with, kept open across twistd's fork.

    It has to be closed once the daemon has started: a program that reads until the end of
    its output (a pipe, ssh) would wait for ever.
    """

    def __init__(self, fd: int = STDERR) -> None:
        self._poll = select.poll()
        self._stalled = self._cut = False
        self._socket: socket.socket | None = None
        self._fd = -1
        try:
            self._open(fd)
        except OSError:  # Started with stderr closed.
            return
        self._poll.register(self._fd, select.POLLOUT)

    def _open(self, fd: int) -> None:
        """
        Open the file of C{fd} again for writes that do not block.  To make C{fd} itself
        non-blocking would change it for the shell, too.
        """
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))
            self._fd = self._socket.fileno()
        elif stat.S_ISREG(mode):
            # Opened again it would be written from its first byte; it never blocks.
            self._fd = os.dup(fd)
        else:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                self._fd = os.open(f"/proc/self/fd/{fd}", flags)
            except OSError:  # Another user's terminal, as after su.
                self._fd = os.dup(fd)

    def isJournal(self, environment: Mapping[str, str]) -> bool:
        """Whether this is the systemd journal: see C{JOURNAL_STREAM} in systemd.exec(5)."""
        try:
            status = os.fstat(self._fd)
        except OSError:
            return False
        return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"

    def write(self, text: str) -> None:
        """Write whole lines, if stderr is open and has room."""
        if self._fd < 0:
            return
        data = text.encode("utf-8", "backslashreplace")
        if self._cut:
            data = b"\n" + data
        try:
            rest = self._send(data)
        except OSError:
            return
        self._stalled = bool(rest)
        if len(rest) < len(data):
            self._cut = self._stalled

    def _send(self, data: bytes) -> bytes:
        """Write what can be written within L{STALL_LIMIT}, and return the rest."""
        end = time.monotonic() + (0 if self._stalled else STALL_LIMIT)
        while data:
            if not self._poll.poll(max(0, end - time.monotonic()) * 1000):
                break
            try:
                data = data[self._sendNow(data) :]
            except BlockingIOError:
                # poll says there is room, but it is too little for this write.
                if time.monotonic() >= end:
                    break
                time.sleep(PAUSE)
        return data

    def _sendNow(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        return os.write(self._fd, data)

    def release(self) -> None:
        """Close it.  Lines written afterwards are lost."""
        if self._socket is not None:
            self._socket.close()
        elif self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def openLogfile(path: str, foreground: bool) -> Callable[[str], None]:
    """
    Open the file of C{twistd --logfile}.

    @param path: C{-} for stdout.
    @param foreground: whether twistd does not fork.
    @return: writes a line.
    @raise SystemExit: it cannot be opened; with one sentence.
    """
    if path == "-":
        if not foreground:
            raise SystemExit("nanotun: --logfile=- needs -n: a daemon has no stdout.")
        stdout = sys.stdout  # Kept, because twistd replaces it.

        def writeOut(text: str) -> None:
            stdout.write(text)
            stdout.flush()

        return writeOut
    try:
        # Rotation renames the file, and as root it could rename /dev/null.
        special = os.path.exists(path) and not os.path.isfile(path)
        file = LogFile.fromFullPath(path, **({"rotateLength": None} if special else {}))
    except OSError as error:
        raise SystemExit(
            f"nanotun: --logfile {path} cannot be written ({error.strerror}); choose another file."
        ) from None

    def write(text: str) -> None:
        file.write(text.encode("utf-8", "backslashreplace"))
        file.flush()

    return write
