"""
Where lines go beside the L{files by date<nanotun.logfile>}: the terminal, and the file
that C{twistd --logfile} names.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Mapping

from twisted.python.logfile import LogFile

STDERR = 2

#: Seconds that one line may wait for a stderr that takes no more: a terminal held by
#: Ctrl-S, a pipe that nobody reads.  What follows is lost until it takes lines again;
#: the tunnel must not stand still for it.
STALL_LIMIT = 0.2


class Terminal:
    """
    The stderr that nanotun was started with, kept through twistd's fork.

    It has to be let go of once the daemon has started: whoever waits for the
    end of its output (a pipe, ssh) would wait for ever.
    """

    def __init__(self, fd: int = STDERR) -> None:
        self._poll = select.poll()
        self._stalled = False
        try:
            self._fd = os.dup(fd)
        except OSError:  # Started with stderr closed.
            self._fd = -1
        else:
            self._poll.register(self._fd, select.POLLOUT)

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
        try:
            if self._poll.poll(0 if self._stalled else STALL_LIMIT * 1000):
                self._stalled = False
                os.write(self._fd, text.encode("utf-8", "backslashreplace"))
            else:
                self._stalled = True
        except OSError:
            return

    def release(self) -> None:
        """Close it.  What is written from here on is lost."""
        if self._fd >= 0:
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
