"""
What is changed now: the journal's other half, in memory.

Rules:
 - What is to be done stands in the journal before the first of it is done, and what
   is undone stays there until it is.
 - What a crash left behind and is wanted again is not undone and done again: no
   packet finds a gap, and a setting keeps the value it had before the crash.
 - What is new is done before what is old is undone.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from nanotun.errors import RoutingError
from nanotun.routing.changes import Changes, RouteChange, RuleChange, SysctlChange
from nanotun.routing.interfaces import IChange
from nanotun.routing.journal import Entry, Journal


def _key(change: IChange) -> tuple[str, str]:
    """What makes two changes the same."""
    return change.kind, change.describe()


class Applied:
    """
    @ivar made: what is done, in this order.
    @ivar killSwitch: whether traffic is kept in by it.
    """

    _log = Logger()

    def __init__(self, journal: Journal, changes: Changes) -> None:
        self.made: list[IChange] = []
        self.killSwitch = False
        self._journal = journal
        self._changes = changes
        self._loaded: set[int] = set()

    def load(self) -> None:
        """
        Take over what the journal says, as the work of an earlier process.

        @raise RoutingError: it cannot be read, or is not about this place.
        """
        entries, self.killSwitch = self._journal.read()
        self.made = []
        for kind, record in entries:
            try:
                self.made.append(self._changes.fromRecord(kind, record))
            except (KeyError, TypeError, ValueError):
                raise RoutingError(
                    f"The journal {self._journal.path} names a change that this nanotun does not "
                    "know; run 'nanotun recover' of the one that wrote it."
                ) from None
        self._loaded = {id(change) for change in self.made}

    def adopt(self, found: Iterable[IChange]) -> None:
        """
        Take over what is there and is ours, though the journal does not name it: it was
        lost, or is in another directory.

        @param found: in the order in which it was done.
        """
        known = set(map(_key, self.made))
        adopted = [change for change in found if _key(change) not in known]
        self._loaded.update(map(id, adopted))
        self.made = [*self.made, *adopted]

    def valuesBefore(self) -> dict[str, str]:
        """For each setting that is as we made it, its name and its value before."""
        return {
            change.sysctl.name: change.sysctl.before
            for change in self.made
            if isinstance(change, SysctlChange) and change.holds()
        }

    def reconcile(self, wanted: Iterable[IChange], killSwitch: bool) -> tuple[int, int]:
        """
        Make C{wanted}, and nothing else, be so.

        @param wanted: in the order in which to do it.
        @return: how many were new, and how many of ours had been taken away.
        @raise RoutingError: one cannot be done; the new ones are undone, and what was
            there is there.  Of the firewall's, one that was there and cannot be put back
            keeps nothing else from being done.
        """
        had = {_key(change): change for change in self.made}
        target: list[IChange] = []
        for change in wanted:
            old = had.pop(_key(change), None)
            keep = old is not None and (id(old) not in self._loaded or old.holds())
            target.append(old if keep and old is not None else change)
        surplus = [change for change in self.made if _key(change) in had]
        known = set(map(id, self.made))
        new = [change for change in target if id(change) not in known]
        missing = [change for change in target if id(change) in known and not change.holds()]
        if not new and not missing and not surplus and killSwitch == self.killSwitch:
            return 0, 0
        if new or killSwitch != self.killSwitch:
            self._write([*self.made, *new], killSwitch or self.killSwitch)
        failures = self._apply(target, new, missing)
        failed = self._undo(surplus)
        self.made = [*failed, *target]
        self.killSwitch = killSwitch
        self._loaded.intersection_update(map(id, self.made))
        self._write(self.made, killSwitch)
        if failures:
            raise failures[0]
        return len(new), len(missing)

    def undoAll(self) -> bool:
        """
        Undo everything, last first; what cannot be undone is logged and stays in the
        journal.

        @return: whether nothing is left.
        """
        self.made = self._undo(self.made)
        self.killSwitch = self.killSwitch and bool(self.made)
        try:
            self._write(self.made, self.killSwitch)
        except RoutingError as error:
            # Undone it is all the same, and undoing it again does no harm.
            self._log.error("{error}", error=str(error))
            return False
        return not self.made

    def broken(self) -> list[IChange]:
        """What is done, and is not so any more."""
        return [change for change in self.made if not change.holds()]

    def _apply(
        self, target: list[IChange], new: list[IChange], missing: list[IChange]
    ) -> list[RoutingError]:
        """
        Do what is new or missing, in order.

        @return: why some of what was missing is missing still.
        @raise RoutingError: as from L{reconcile}.
        """
        failures: list[RoutingError] = []
        todo = {id(change) for change in (*new, *missing)}
        isNew = {id(change) for change in new}
        done: list[IChange] = []
        for change in target:
            if id(change) not in todo:
                continue
            try:
                change.apply()
            except BaseException as error:
                if isinstance(error, RoutingError) and self._isBeside(change, isNew):
                    failures.append(error)
                    continue
                # What is still there is for the next look, or for recover.
                self.made = [*self.made, *self._undo(done)]
                self._write(self.made, self.killSwitch)
                raise
            if id(change) in isNew:
                done.append(change)
        return failures

    def _isBeside(self, change: IChange, isNew: set[int]) -> bool:
        """
        Whether a change that cannot be put back does not keep others from it.  A rule
        does: the one that catches all must not stand without those that let something
        past.  The firewall and systemd-resolved do not: without them DNS still goes into
        the tunnel, but not without that rule.
        """
        return id(change) not in isNew and not isinstance(
            change, (RuleChange, RouteChange, SysctlChange)
        )

    def _undo(self, changes: list[IChange]) -> list[IChange]:
        """Undo, last first; returns what could not be undone, first first."""
        failed = []
        for change in reversed(changes):
            try:
                change.undo()
            except RoutingError as error:
                self._log.error("{error}", error=str(error))
                failed.append(change)
        return failed[::-1]

    def _write(self, changes: list[IChange], killSwitch: bool) -> None:
        self._journal.write([Entry(each.kind, each.record()) for each in changes], killSwitch)
