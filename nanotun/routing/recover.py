"""
Undoes the changes that a killed daemon has left.
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
from nanotun.linux.trust import NotTrusted, openTrusted
from nanotun.routing.applied import Applied
from nanotun.routing.changes import Changes
from nanotun.routing.interfaces import IKernelRoutes
from nanotun.routing.journal import Journal, untrusted
from nanotun.rundir import LOCK, SOCKET

#: Bytes; the lock file is far shorter.
_LOCK_LIMIT = 8192


class Recovered(NamedTuple):
    """
    The result of L{recover}.

    @ivar undone: commands for what was undone.
    @ivar kept: whether everything was kept, because of a kill switch.
    """

    undone: tuple[str, ...]
    kept: bool = False


@implementer(IPart)
class Leftovers:
    """
    Takes the place of the routes in a daemon that sets none: at the start it undoes what a
    killed daemon has left, kill switch or not.  If something cannot be undone, the daemon
    runs nevertheless.

    @param applied: of the daemon's runDir, whose lock the daemon holds.
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
                "What a killed daemon has left is not all undone; try '{command}'.",
                command=self._applied.recovery,
            )
        elif left:
            self._log.info(
                "{count} routes, rules and settings that a killed daemon has left are taken back, "
                "as autoDefaultRoute is off.",
                count=left,
            )

    def stop(self) -> None:
        """See L{IPart.stop}.  There is nothing to undo."""


def recover(
    runDir: str,
    kernel: IKernelRoutes,
    changes: Changes,
    force: bool = False,
    keepKillSwitch: bool = False,
    journal: Journal | None = None,
) -> Recovered:
    """
    Undo the journal's changes, and remove the journal.

    @param force: whether to ignore a journal that is damaged, not root's alone, or about
        another network namespace, and a lock that is not root's alone; and to undo everything
        with our protocol number or name as well.
    @param keepKillSwitch: whether to keep everything if a kill switch is in force.
    @raise RunningError: a daemon runs.
    @raise RoutingError: the journal is unusable, or something cannot be undone.
    """
    journal = journal or Journal(runDir)
    with _locked(runDir, force):
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
                f"'{applied.recovery}' as root."
            )
        # No daemon listens there: we hold the lock.
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
def _locked(runDir: str, force: bool) -> Iterator[None]:
    """
    Keep daemons from starting in the meantime.

    @param force: whether to do without a lock that is not root's alone; a daemon has none.
    """
    path = os.path.join(runDir, LOCK)
    try:
        fd = openTrusted(runDir, LOCK, os.O_RDWR)
    except FileNotFoundError:
        # No daemon runs, and the last one was stopped properly.
        yield
        return
    except NotTrusted as error:
        if not force:
            raise untrusted(error, runDir) from None
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
    """The pid of the daemon, from its lock file (L{nanotun.control.lock}), for a message."""
    try:
        return f" (pid {int(json.loads(os.pread(lock, _LOCK_LIMIT, 0))['pid'])})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
