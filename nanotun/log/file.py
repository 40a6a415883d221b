"""
Log files by date: C{nanotun-2026-11-22.log} is the day's current file;
C{nanotun-2026-11-22.1.log}, C{.2.log} and so on are those that were full before.

A log that cannot be written must not stop the tunnel, so L{DailyLogFile.write} never
raises.  While the directory cannot be written to, lines are lost.  One sentence is logged
when that begins, and another with the number of lost lines when it ends.
"""

from __future__ import annotations

import datetime
import errno
import os
import re
import time
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

SIZE_LIMIT = 1 << 20  #: Bytes; a full file is renamed to one with a number.
KEEP_DAYS = 3  #: Days; files with an older date are removed.
FILE_LIMIT = 100  #: Files; a flood of lines uses 100 MiB of disk at most.
RETRY = 10.0  #: Seconds until a directory that failed is tried again.
CHECK = 1.0  #: Seconds between checks whether somebody has removed the file.

_NAME = re.compile(r"nanotun-(\d{4}-\d\d-\d\d)(?:\.([1-9]\d{0,8}))?\.log")


class DailyLogFile:
    """
    Appends lines to today's file.

    The file is opened for the first line, so a run that logs nothing leaves no file.  It
    stays open across twistd's fork.
    """

    def __init__(
        self,
        directory: str,
        clock: IReactorTime,
        complain: Callable[[str], None],
        wallClock: Callable[[], float] = time.time,
    ) -> None:
        """
        @param directory: created if absent.  A relative path is resolved now, because
            twistd changes the working directory later.
        @param clock: for what is done again after a time.
        @param complain: called with one sentence when writing begins to fail, and when
            it works again; it may call L{write}.
        @param wallClock: seconds since 1970, for the date.
        """
        self._directory = os.path.abspath(directory)
        self._clock = clock
        self._complain = complain
        self._wallClock = wallClock
        self._fd = -1
        self._date = ""
        self._size = 0
        self._checkAt = 0.0
        self._retryAt: float | None = None
        self._lost = 0

    def open(self) -> None:
        """
        Open today's file now.

        @raise OSError: it cannot be opened.
        """
        self._prepare(self._clock.seconds(), 0)

    def write(self, text: str) -> None:
        """Append C{text}, which is one line.  It is lost if it cannot be written."""
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
        """Close the file.  The next line opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _prepare(self, now: float, length: int) -> None:
        """
        Make sure that the open file is today's, still in the directory, and has room.

        @param length: bytes that it needs room for.
        @raise OSError: there is no such file.
        """
        date = datetime.datetime.fromtimestamp(self._wallClock()).date().isoformat()
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
        # The lines tell who talks to whom, which only the administrator may read.
        os.makedirs(self._directory, mode=0o750, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._path(date), flags, 0o640)
        self._size = os.fstat(self._fd).st_size
        # A full disk or a crash may have cut the last line short.
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            self._size += os.write(self._fd, b"\n")
        self._date = date
        self._removeOld()

    def _path(self, date: str, number: int = 0) -> str:
        return os.path.join(
            self._directory, f"nanotun-{date}.{number}.log" if number else f"nanotun-{date}.log"
        )

    def _files(self) -> list[tuple[str, int]]:
        """Dates and numbers of the files, oldest first.  A day's current file has number 0."""
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
                    # Another instance may have removed it; that is no reason to lose lines.
                    continue
