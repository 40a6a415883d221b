"""
Takes back what a daemon that was killed has left.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from typing import NamedTuple

from twisted.logger import Logger
from zope.interface import implementer

from nanotun.errors import RoutingError, RunningError
from nanotun.interfaces import IPart
from nanotun.routing.applied import Applied
from nanotun.routing.changes import Changes
from nanotun.routing.interfaces import IKernelRoutes
from nanotun.routing.journal import Journal
from nanotun.rundir import LOCK, SOCKET

#: Bytes; what the lock's holder writes is far shorter.
_LOCK_LIMIT = 8192


class Recovered(NamedTuple):
    """
    What came of it.

    @ivar undone: what was undone, as commands.
    @ivar kept: whether a kill switch was left in force.
    """

    undone: tuple[str, ...]
    kept: bool = False


@implementer(IPart)
class Leftovers:
    """
    In the place of the routes where there are to be none: takes back, at the start, what
    a daemon that was killed has left, kill switch or not.  Whatever cannot be taken back
    is no reason not to run.

    @param applied: of the daemon's runDir, whose lock is had.
    """

    name = "what a killed daemon has left"

    _log = Logger()

    def __init__(self, kernel: IKernelRoutes, applied: Applied) -> None:
        self._kernel = kernel
        self._applied = applied

    def start(self) -> None:
        """See L{IPart.start}."""
        try:
            self._applied.load()
            left = len(self._applied.made)
            whole = self._applied.undoAll()
        except RoutingError as error:
            self._log.error("{error}", error=str(error))
            return
        finally:
            self._kernel.close()
        if not whole:
            self._log.error(
                "What a killed daemon has left is not all undone; try 'nanotun recover'."
            )
        elif left:
            self._log.info(
                "{count} routes, rules and settings that a killed daemon has left are taken back, "
                "as autoDefaultRoute is off.",
                count=left,
            )

    def stop(self) -> None:
        """See L{IPart.stop}.  There is nothing to take back."""


def recover(
    runDir: str,
    kernel: IKernelRoutes,
    changes: Changes,
    force: bool = False,
    keepKillSwitch: bool = False,
    journal: Journal | None = None,
) -> Recovered:
    """
    Undo what the journal says, and remove it.

    @param force: whether a journal that is damaged, or of another place, is passed
        over, and rules and routes that carry our protocol number are undone whatever
        it says.
    @param keepKillSwitch: whether everything stays if a kill switch is part of it.
    @raise RunningError: a daemon runs.
    @raise RoutingError: the journal is no good, or something cannot be undone.
    """
    journal = journal or Journal(runDir)
    with _locked(runDir):
        applied = Applied(journal, changes)
        try:
            applied.load()
        except RoutingError:
            if not force:
                raise
        if keepKillSwitch and applied.killSwitch and applied.made:
            return Recovered((), True)
        undone = [change.describeUndo() for change in reversed(applied.made)]
        whole = applied.undoAll()
        if force:
            undone += _undoTagged(changes)
        if not whole:
            raise RoutingError(
                f"Not everything could be undone; what is left is in {journal.path}. Run "
                "'nanotun recover' as root."
            )
        # Nobody answers there: we hold the lock.
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(runDir, SOCKET))
        return Recovered(tuple(undone))


def _undoTagged(changes: Changes) -> list[str]:
    undone = []
    for change in changes.tagged():
        change.undo()
        undone.append(change.describeUndo())
    return undone


@contextlib.contextmanager
def _locked(runDir: str) -> Iterator[None]:
    """Keep daemons from starting meanwhile."""
    path = os.path.join(runDir, LOCK)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # None runs, and the last one that ran was stopped.
        yield
        return
    except OSError as error:
        raise RoutingError(f"The lock {path} cannot be opened: {error.strerror}.") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunningError(
                f"nanotun runs{_pidIn(fd)}: stop it, which takes everything back."
            ) from None
        yield
    finally:
        os.close(fd)


def _pidIn(lock: int) -> str:
    """What L{nanotun.control.lock} says of its holder's pid, if it does."""
    try:
        return f" (pid {int(json.loads(os.pread(lock, _LOCK_LIMIT, 0))['pid'])})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
