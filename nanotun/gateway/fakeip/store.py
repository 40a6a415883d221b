"""
The file that keeps the pool's names across restarts, so that an app with a fake address from
before the restart still reaches the name that it means, and never another one.

It has a line of JSON that says what it is, then a line with a number and a name for each name.
The first of these, as many as C{spare} says, were in no use when the file was written.  From
then on a line is appended for each number that comes into use, before anybody hears of it: it
takes the number from the name that had it.  So a process that is killed has told nobody
anything that the file does not say.  Now and then the file is replaced as a whole.

It is not synced.  A power failure may cost names, but it ends the programs that have them, too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat

from twisted.logger import Logger

from nanotun.addresses import FAKE4, FAKE6
from nanotun.gateway.fakeip.pool import FakePool

#: The most bytes to read; several times what a full pool takes.
FILE_LIMIT = 1 << 26

_VERSION = 2


class FakeStore:
    """
    Reads and writes the file.

    @param path: the file's path; empty for no file.
    """

    _log = Logger()

    def __init__(self, path: str) -> None:
        self._path = path
        self._failed = False
        #: Of the file that this run has written, to append to; -1 if there is none.
        self._fd = -1
        self._inUse = 0

    def load(self, pool: FakePool, now: float) -> None:
        """
        Fill the pool from the file.  A file that cannot be used is logged as a warning, and
        the pool is left as it is.  One that another daemon uses is left to that one.
        """
        if not self._path:
            return
        try:
            text = self._read()
            if text is not None:
                spare, names = _parse(text)
                pool.restore(names, now, spare)
        except BlockingIOError:
            self._log.error(
                "The file {path} with the names of fake addresses is another daemon's, so these "
                "are not kept; give each daemon a dnsStateFile of its own.",
                path=self._path,
            )
            self._path = ""
        except (OSError, ValueError, RecursionError) as error:
            self._log.warn(
                "The file {path} with the names of fake addresses cannot be used ({error}); "
                "nanotun begins with none and writes it anew.",
                path=self._path,
                error=getattr(error, "strerror", None) or str(error)[:200],
            )

    def save(self, pool: FakePool, always: bool = False) -> None:
        """
        Write the file anew, if the pool has changed or fewer numbers are in use than when that
        was done last.  Failures in a row are logged once.

        @param always: whether to write it even if there is no need.
        """
        if not self._path or not (always or pool.changed or pool.inUse < self._inUse):
            return
        spare, names = pool.saved()
        head = {"version": _VERSION, "ipv4": FAKE4, "ipv6": FAKE6, "spare": spare}
        lines = [json.dumps(head), *(f"{number} {name}" for number, name in names), ""]
        try:
            self._write("\n".join(lines).encode("ascii"))
        except OSError as error:
            self._fail(error)
        else:
            pool.changed = False
            self._failed = False
            self._inUse = pool.inUse

    def note(self, number: int, name: str) -> None:
        """
        Append a number that comes into use.  If that fails it is logged, and the next L{save}
        writes everything.
        """
        if self._fd < 0:
            return
        line = f"{number} {name}\n".encode("ascii")
        try:
            if os.write(self._fd, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.close()
            self._fail(error)

    def close(self) -> None:
        """Close the file; nothing is appended any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _fail(self, error: OSError) -> None:
        """The file could not be written."""
        if not self._failed:
            self._log.error(
                "The file {path} with the names of fake addresses cannot be written "
                "({error}); set dnsStateFile to one that can, or to ''.",
                path=self._path,
                error=error.strerror,
            )
        self._failed = True

    def _read(self) -> bytes | None:
        try:
            # Not blocking: it may be a pipe by now.
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_LIMIT:
                raise ValueError("it is no such file")
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
                raise ValueError("others can write it")
            _lock(fd, fcntl.LOCK_SH)
            return file.read(FILE_LIMIT)

    def _write(self, data: bytes) -> None:
        folder = os.path.dirname(self._path)
        if folder and not os.path.isdir(folder):
            os.makedirs(folder, 0o700)
        fresh = f"{self._path}.new"
        with contextlib.suppress(FileNotFoundError):
            # Left by a run that was killed, or by somebody who wants us to write elsewhere.
            os.unlink(fresh)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(fresh, flags, 0o600)
        try:
            with os.fdopen(fd, "wb", closefd=False) as file:
                file.write(data)
            _lock(fd, fcntl.LOCK_EX)
            os.replace(fresh, self._path)
        except OSError:
            os.close(fd)
            # A full disk has no room for half a file.
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise
        self.close()
        self._fd = fd


def _lock(fd: int, kind: int) -> None:
    """
    Lock a file for this process alone: its children have no share in it.

    @raise BlockingIOError: another process has locked it.
    """
    try:
        fcntl.lockf(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        # Not every file system has locks.


def _parse(text: bytes) -> tuple[int, list[tuple[int, str]]]:
    """
    Read what L{FakeStore} has written.

    @return: what L{FakePool.restore} takes, as L{FakePool.saved} returns it.
    @raise ValueError: C{text} is something else; the message completes a sentence.
    """
    first, _, rest = text.partition(b"\n")
    head = json.loads(first)
    if not isinstance(head, dict) or head.get("version") not in (1, _VERSION):
        raise ValueError("it is of another version")
    if (head.get("ipv4"), head.get("ipv6")) != (FAKE4, FAKE6):
        raise ValueError("it is about other addresses")
    if head["version"] == 1:
        names = _namesOf(head.get("names"))
        return len(names), names
    spare = head.get("spare")
    if not isinstance(spare, int):
        raise ValueError("it does not say which numbers are in use")
    numbers: dict[str, int] = {}
    byNumber: dict[int, str] = {}
    unused: set[str] = set()
    # What is after the last end of a line is half of one, of a full disk.
    for place, line in enumerate(rest.split(b"\n")[:-1]):
        digits, _, name = line.decode("ascii").partition(" ")
        number = int(digits)
        for old in (name, byNumber.get(number, name)):
            byNumber.pop(numbers.pop(old, 0), None)
            unused.discard(old)
        numbers[name], byNumber[number] = number, name
        if place < spare:
            unused.add(name)
    # Those left of the first ones are still before all others.
    return len(unused), [(number, name) for name, number in numbers.items()]


def _namesOf(names: object) -> list[tuple[int, str]]:
    """
    Read the names of version 1, a list of numbers and names.

    @raise ValueError: see L{_parse}.
    """
    if not isinstance(names, list):
        raise ValueError("it has no list of names")
    found = []
    for each in names:
        if not isinstance(each, list) or [type(part) for part in each] != [int, str]:
            raise ValueError("its list has something else than numbers and names")
        found.append((each[0], each[1]))
    return found
