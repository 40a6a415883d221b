"""
Where lines go beside the L{files by date<nanotun.log.file>}: the terminal, and the file
that C{twistd --logfile} names.
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

#: Seconds that one line may wait for a stderr that takes no more: a terminal held by
#: Ctrl-S, a pipe that nobody reads.  What follows is lost until it takes lines again;
#: the tunnel must not stand still for it.
STALL_LIMIT = 0.2
PAUSE = 0.002  #: Seconds between two tries meanwhile.


class Terminal:
    """
    The stderr that nanotun was started with, kept through twistd's fork.

    It has to be let go of once the daemon has started: whoever waits for the
    end of its output (a pipe, ssh) would wait for ever.
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
        Get a way of our own to what C{fd} is, on which a write does not wait: to set that
        on C{fd} itself would set it for the shell, too.
        """
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))
            self._fd = self._socket.fileno()
        elif stat.S_ISREG(mode):
            # Opened anew it would begin at its first byte; it does not wait anyway.
            self._fd = os.dup(fd)
        else:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                self._fd = os.open(f"/proc/self/fd/{fd}", flags)
            except OSError:  # Another user's terminal, as after su.
                self._fd = os.dup(fd)

    def isJournal(self, environment: Mapping[str, str]) -> bool:
        """Whether this is the systemd journal, by C{JOURNAL_STREAM} of systemd.exec(5)."""
        try:
            status = os.fstat(self._fd)
        except OSError:
            return False
        return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"

    def write(self, text: str) -> None:
        """Write whole lines, if anybody listens."""
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
        """Write what can be written in L{STALL_LIMIT}; returns the rest."""
        end = time.monotonic() + (0 if self._stalled else STALL_LIMIT)
        while data:
            if not self._poll.poll(max(0, end - time.monotonic()) * 1000):
                break
            try:
                data = data[self._sendNow(data) :]
            except BlockingIOError:
                # A terminal that has a little room says that it has some.
                if time.monotonic() >= end:
                    break
                time.sleep(PAUSE)
        return data

    def _sendNow(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        return os.write(self._fd, data)

    def release(self) -> None:
        """Close it.  What is written from here on is lost."""
        if self._socket is not None:
            self._socket.close()
        elif self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def openLogfile(path: str, foreground: bool) -> Callable[[str], None]:
    """
    What C{twistd --logfile} means, in nanotun's format.

    @return: a sink for lines.
    @raise SystemExit: with one sentence.
    """
    if path == "-":
        if not foreground:
            raise SystemExit("nanotun: --logfile=- needs -n: a daemon has no stdout.")
        stdout = sys.stdout  # Now: twistd replaces it soon.

        def writeOut(text: str) -> None:
            stdout.write(text)
            stdout.flush()

        return writeOut
    try:
        # Rotating renames the file.  As root, that would be the end of /dev/null.
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
