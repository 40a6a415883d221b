"""
Hears of control groups that are made: a unit that starts has a new one each time, and what its
programs send before the firewall knows it would leave past the tunnel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.filepath import FilePath

if TYPE_CHECKING:
    from twisted.internet.inotify import INotify


class CgroupWatch:
    """
    Watches the folders above the groups, as many of them as there are.

    @param reactor: provides C{IReactorFDSet}.
    @param folder: where the hierarchy is mounted; empty if it is not.
    @param paths: the groups', below C{folder}, each with a leading slash.
    @param made: called when one of the groups, or a folder above one, was made.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, folder: str, paths: Iterable[str], made: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._made = made
        groups = [FilePath(folder + path) for path in paths] if folder else []
        #: For each folder above a group, what is waited for there.
        self._awaited: dict[FilePath[str], set[bytes]] = {}
        for group in groups:
            for child in _down(FilePath(folder), group):
                name = child.asBytesMode().basename()
                self._awaited.setdefault(child.parent(), set()).add(name)
        self._notifier: INotify | None = None

    def start(self) -> None:
        """Begin to watch; without groups there is nothing to do."""
        if not self._awaited:
            return
        # Imported here: it runs ldconfig(8) to find the C library.
        from twisted.internet import inotify

        try:
            self._notifier = inotify.INotify(self._reactor)
            self._notifier.startReading()
            # From the top, so that a folder that is made meanwhile is either found or told of.
            for parent in self._awaited:
                self._add(self._notifier, parent)
        except (inotify.INotifyError, OSError) as error:
            self._log.warn(
                "The kernel does not tell of new control groups ({error}), so those of "
                "onlyProcesses are looked for every few seconds; see fs.inotify.max_user_instances "
                "(sysctl).",
                error=str(error) or type(error).__name__,
            )
            self.stop()

    def stop(self) -> None:
        """Stop watching; harmless before the start."""
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.loseConnection()

    def _add(self, notifier: INotify, parent: FilePath[str]) -> None:
        from twisted.internet import inotify

        if not os.path.isdir(parent.path):
            return
        mask = inotify.IN_CREATE | inotify.IN_ONLYDIR
        try:
            notifier.watch(parent, mask, callbacks=[self._heard])
        except inotify.INotifyError:
            # It may have been removed this instant.
            if os.path.isdir(parent.path):
                raise

    def _heard(self, notifier: object, path: FilePath[bytes], mask: int) -> None:
        wanted = self._awaited.get(path.parent().asTextMode(), ())
        if self._notifier is None or path.basename() not in wanted:
            return
        # The kernel does not tell that a control group was removed, and has forgotten the watch
        # of the one that was there before.
        self.stop()
        self.start()
        self._made()


def _down(root: FilePath[str], path: FilePath[str]) -> Iterator[FilePath[str]]:
    """The folders from C{root}'s child down to C{path}."""
    for name in path.segmentsFrom(root):
        root = root.child(name)
        yield root
