"""
Allows one daemon for each C{runDir}: a file in it is locked until the daemon ends, however
it ends (flock(2)).

The file's content describes the daemon.  It is removed when the daemon stops; a file that
a crash left behind is not locked, and the next daemon takes it over.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable
from typing import NamedTuple

from zope.interface import implementer

from nanotun.control.directory import makeRunDir, removeRunDir
from nanotun.errors import RunningError
from nanotun.interfaces import IPart
from nanotun.linux.trust import NotTrusted, openTrusted
from nanotun.rundir import LOCK, command

#: How often to try to take the lock, and seconds in between: L{findHolder} in another
#: process holds it for an instant, too.
TRIES = 5
PAUSE = 0.02

#: Bytes that are read; a holder writes far fewer.
CONTENT_LIMIT = 8192


class LockHolder(NamedTuple):
    """
    The process that holds a lock.

    @ivar pid: 0 if unknown.
    @ivar since: when it started, in seconds since the epoch; 0 if unknown.
    @ivar config: its configuration file, or the empty string.
    """

    pid: int = 0
    since: float = 0.0
    config: str = ""

    def describe(self) -> str:
        """The end of a sentence that begins with "nanotun runs"."""
        text = f"as process {self.pid}" if self.pid else "already"
        if self.since:
            text += f" since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.since))}"
        if self.config:
            text += f", with {''.join(c if c.isprintable() else '?' for c in self.config)}"
        return text


def _holderOf(fd: int) -> LockHolder:
    """Read a lock's file; without usable content, nothing is known about the holder."""
    try:
        content = json.loads(os.pread(fd, CONTENT_LIMIT, 0))
        return LockHolder(int(content["pid"]), float(content["since"]), str(content["config"]))
    except (OSError, ValueError, KeyError, TypeError):
        return LockHolder()


def runsAlready(holder: LockHolder, runDir: str) -> RunningError:
    """The error for a second daemon."""
    return RunningError(
        f"nanotun runs {holder.describe()}; end that one with '{command('stop', runDir)}', or give "
        f"this one a runDir and a tunName of its own (runDir is {runDir})."
    )


def findHolder(runDir: str) -> LockHolder | None:
    """
    Find the daemon that runs with this C{runDir}.

    @return: L{None} if none does.
    @raise RunningError: the lock cannot be examined, or is not root's alone: others could
        name any process in it.
    """
    path = os.path.join(runDir, LOCK)
    try:
        fd = openTrusted(runDir, LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except NotTrusted as error:
        raise RunningError(str(error)) from None
    except OSError as error:
        cure = "try it as root" if error.errno == errno.EACCES else "set runDir to a directory"
        raise RunningError(
            f"The lock {path} cannot be looked at ({error.strerror}); {cure}."
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holderOf(fd)
    finally:
        os.close(fd)
    return None


@implementer(IPart)
class InstanceLock:
    """
    The lock of this daemon.

    @param runDir: made if it does not exist.
    @param config: absolute path of the configuration file, or the empty string.
    """

    name = "the lock"

    def __init__(
        self,
        runDir: str,
        config: str,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._runDir = runDir
        self._path = os.path.join(runDir, LOCK)
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._fd = -1
        self._made = False

    def start(self) -> None:
        """
        Take the lock.

        @raise ConfigError: the directory cannot be used.
        @raise RunningError: another process, which the error names, holds the lock; or the
            file cannot be locked.
        """
        self._made = makeRunDir(self._runDir, os.geteuid())
        try:
            self._fd = self._take()
        except RunningError:
            removeRunDir(self._runDir, self._made)
            raise
        except OSError as error:
            removeRunDir(self._runDir, self._made)
            raise RunningError(
                f"The lock {self._path} cannot be taken ({error.strerror}); set runDir to another "
                "directory."
            ) from None
        content = {"pid": os.getpid(), "since": self._clock(), "config": self._config}
        with contextlib.suppress(OSError):
            # On a full disk, say: the lock holds even if the file is empty.
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(content).encode(), 0)

    def stop(self) -> None:
        """Release the lock; remove the directory if it was made for it."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        os.close(self._fd)
        self._fd = -1
        removeRunDir(self._runDir, self._made)

    def _take(self) -> int:
        """
        @return: a file descriptor that holds the lock on the file at the path.
        @raise RunningError: another process holds it.
        @raise OSError: the file cannot be opened.
        """
        holder = LockHolder()
        for attempt in range(TRIES):
            if attempt:
                self._sleep(PAUSE)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._isAtPath(fd):
                    return fd
            except BlockingIOError:
                holder = _holderOf(fd)
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        raise runsAlready(holder, self._runDir)

    def _isAtPath(self, fd: int) -> bool:
        """Whether the file is still at its path; its previous holder may have removed it."""
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self._path))
        except FileNotFoundError:
            return False
