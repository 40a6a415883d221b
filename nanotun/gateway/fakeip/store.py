"""
The file that keeps the pool's names across restarts, so that an app with a fake address from
before the restart still reaches the name that it means.

The file is replaced as a whole, and not synced.  If a power failure damages it, nanotun
begins without names, which costs some apps one lookup.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat

from twisted.logger import Logger

from nanotun.addresses import FAKE4, FAKE6
from nanotun.gateway.fakeip.pool import FakePool

#: The most bytes to read; several times what a full pool takes.
FILE_LIMIT = 1 << 26

_VERSION = 1


class FakeStore:
    """
    Reads and writes the file.

    @param path: the file's path; empty for no file.
    """

    _log = Logger()

    def __init__(self, path: str) -> None:
        self._path = path
        self._failed = False

    def load(self, pool: FakePool, now: float) -> None:
        """
        Fill the pool from the file.  A file that cannot be used is logged as a warning, and
        the pool is left as it is.
        """
        if not self._path:
            return
        try:
            text = self._read()
            if text is not None:
                pool.restore(_parse(text), now)
        except (OSError, ValueError, RecursionError) as error:
            self._log.warn(
                "The file {path} with the names of fake addresses cannot be used ({error}); "
                "nanotun begins with none and writes it anew.",
                path=self._path,
                error=getattr(error, "strerror", None) or str(error)[:200],
            )

    def save(self, pool: FakePool) -> None:
        """Write the file, if the pool has changed.  Failures in a row are logged once."""
        if not self._path or not pool.changed:
            return
        state = {"version": _VERSION, "ipv4": FAKE4, "ipv6": FAKE6, "names": pool.saved()}
        try:
            self._write(json.dumps(state, separators=(",", ":")).encode("ascii"))
        except OSError as error:
            if not self._failed:
                self._log.error(
                    "The file {path} with the names of fake addresses cannot be written "
                    "({error}); set dnsStateFile to one that can, or to ''.",
                    path=self._path,
                    error=error.strerror,
                )
            self._failed = True
        else:
            pool.changed = False
            self._failed = False

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
        file = os.fdopen(os.open(fresh, flags, 0o600), "wb")
        try:
            with file:
                file.write(data)
            os.replace(fresh, self._path)
        except OSError:
            # A full disk has no room for half a file.
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise


def _parse(text: bytes) -> list[tuple[int, str]]:
    """
    Read what L{FakeStore.save} has written.

    @return: numbers and names, for L{FakePool.restore}.
    @raise ValueError: C{text} is something else; the message completes a sentence.
    """
    state = json.loads(text)
    if not isinstance(state, dict) or state.get("version") != _VERSION:
        raise ValueError("it is of another version")
    if (state.get("ipv4"), state.get("ipv6")) != (FAKE4, FAKE6):
        raise ValueError("it is about other addresses")
    names = state.get("names")
    if not isinstance(names, list):
        raise ValueError("it has no list of names")
    found = []
    for each in names:
        if not isinstance(each, list) or [type(part) for part in each] != [int, str]:
            raise ValueError("its list has something else than numbers and names")
        found.append((each[0], each[1]))
    return found
