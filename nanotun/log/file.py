"""
Log files by date: C{nanotun-2026-11-22.log}, and C{nanotun-2026-11-22.1.log},
C{.2.log} and so on for what the day filled before.

Logging is never a reason to stop the tunnel, so nothing here raises: while the
directory cannot be written to, lines are lost, and one sentence says so; another
says how many, once they can be written again.
"""

from __future__ import annotations

import datetime
import errno
import os
import re
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

SIZE_LIMIT = 1 << 20  #: Bytes; a full file is set aside under a number.
KEEP_DAYS = 3  #: Days; a file is removed when its date is further back.
FILE_LIMIT = 100  #: Files; a flood of lines takes 100 MiB of disk at most.
RETRY = 10.0  #: Seconds until a directory that failed is tried again.
CHECK = 1.0  #: Seconds between looks whether somebody removed the file.

_NAME = re.compile(r"nanotun-(\d{4}-\d\d-\d\d)(?:\.([1-9]\d{0,8}))?\.log")


class DailyLogFile:
    """
    Appends lines to today's file.

    The file is opened with the first line, so that a run that logs nothing
    leaves nothing, and stays open across twistd's fork.
    """

    def __init__(
        self, directory: str, clock: IReactorTime, complain: Callable[[str], None]
    ) -> None:
        """
        @param directory: made if it is not there.  Taken relative to today's
            working directory, as twistd changes that later.
        @param clock: says which day it is.
        @param complain: called with one sentence when writing begins to fail, and when
            it works again; it may write.
        """
        self._directory = os.path.abspath(directory)
        self._clock = clock
        self._complain = complain
        self._fd = -1
        self._date = ""
        self._size = 0
        self._checkAt = 0.0
        self._retryAt: float | None = None
        self._lost = 0

    def open(self) -> None:
        """
        Open today's file now.

        @raise OSError: that cannot be.
        """
        self._prepare(self._clock.seconds(), 0)

    def write(self, text: str) -> None:
        """Append C{text}, a line, or lose it."""
        now = self._clock.seconds()
        if self._retryAt is not None and now < self._retryAt:
            self._lost += 1
            return
        data = text.encode("utf-8", "backslashreplace")
        try:
            self._prepare(now, len(data))
            if os.write(self._fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._size += len(data)
        except OSError as error:
            self.close()
            self._lost += 1
            first, self._retryAt = self._retryAt is None, now + RETRY
            if first:
                self._complain(
                    f"Log files cannot be written to {self._directory} ({error.strerror}): lines "
                    "are lost until they can, nanotun itself runs on."
                )
        else:
            if self._retryAt is not None:
                lost, self._lost, self._retryAt = self._lost, 0, None
                self._complain(
                    f"Log files are written to {self._directory} again; lines lost: {lost}."
                )

    def close(self) -> None:
        """Let go of the file.  The next line opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _prepare(self, now: float, length: int) -> None:
        """
        See to it that the file is open, today's, there and not full.

        @raise OSError: it is not.
        """
        date = datetime.datetime.fromtimestamp(now).date().isoformat()
        if self._fd >= 0 and now >= self._checkAt:
            self._checkAt = now + CHECK
            if os.fstat(self._fd).st_nlink == 0:
                self.close()
        if self._fd < 0 or date != self._date:
            self._open(date)
        if self._size and self._size + length > SIZE_LIMIT:
            self._setAside()
            self._open(date)

    def _open(self, date: str) -> None:
        self.close()
        # The lines tell who talks to whom: nobody's business but the admin's.
        os.makedirs(self._directory, mode=0o750, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._path(date), flags, 0o640)
        self._size = os.fstat(self._fd).st_size
        # A full disk or a crash cuts a line in two; the next one begins a line all the same.
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            self._size += os.write(self._fd, b"\n")
        self._date = date
        self._removeOld()

    def _path(self, date: str, number: int = 0) -> str:
        return os.path.join(
            self._directory, f"nanotun-{date}.{number}.log" if number else f"nanotun-{date}.log"
        )

    def _files(self) -> list[tuple[str, int]]:
        """The dates and numbers of what is there, oldest first; today's open file counts as 0."""
        matches = map(_NAME.fullmatch, os.listdir(self._directory))
        return sorted((match[1], int(match[2] or 0)) for match in matches if match)

    def _setAside(self) -> None:
        taken = [number for date, number in self._files() if date == self._date]
        os.rename(self._path(self._date), self._path(self._date, max(taken, default=0) + 1))

    def _removeOld(self) -> None:
        oldest = datetime.date.fromisoformat(self._date) - datetime.timedelta(days=KEEP_DAYS)
        files = [file for file in self._files() if file != (self._date, 0)]
        surplus = files[: max(0, len(files) + 1 - FILE_LIMIT)]
        for date, number in files:
            if date < oldest.isoformat() or (date, number) in surplus:
                try:
                    os.unlink(self._path(date, number))
                except OSError:
                    # Perhaps another instance was faster; a line may still be written.
                    continue
