"""
The changes that are in force: what the journal has on disk, in memory.

Rules:
 - Changes are written to the journal before the first of them is applied, and stay there
   until they are undone.
 - A change that a crash left behind and that is wanted again is not undone and applied
   again: no packet finds a gap, and a setting keeps its value from before the crash.
 - New changes are applied before old ones are undone.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from nanotun.errors import RoutingError
from nanotun.routing.changes import Changes, RouteChange, RuleChange, SysctlChange
from nanotun.routing.interfaces import IChange, IFollowingChange
from nanotun.routing.journal import Entry, Journal
from nanotun.rundir import command


def _key(change: IChange) -> tuple[str, str]:
    """Equal for two changes that are the same change."""
    return change.kind, change.describe()


def _isOutdated(change: IChange) -> bool:
    """Whether a change that does not hold was not taken away, but is to be made otherwise."""
    return IFollowingChange.providedBy(change) and change.outdated


class Applied:
    """
    Applies changes and undoes them, by the journal.

    @ivar made: the changes in force, in the order in which they were applied.
    @ivar killSwitch: whether a kill switch is one of them.
    @ivar runDir: the directory of the journal.
    """

    _log = Logger()

    def __init__(self, journal: Journal, changes: Changes) -> None:
        self.made: list[IChange] = []
        self.killSwitch = False
        self.runDir = journal.runDir
        self._journal = journal
        self._changes = changes
        self._loaded: set[int] = set()

    @property
    def recovery(self) -> str:
        """The command that undoes what the journal names, for messages."""
        return command("recover", self.runDir)

    def load(self) -> None:
        """
        Take over the journal's changes, and those that files tell of, as the work of an earlier
        process.

        @raise RoutingError: the journal cannot be read, or is about another network
            namespace.
        """
        entries, self.killSwitch = self._journal.read()
        self.made = []
        for kind, record in entries:
            try:
                self.made.append(self._changes.fromRecord(kind, record))
            except (KeyError, TypeError, ValueError):
                raise RoutingError(
                    f"The journal {self._journal.path} names a change that this nanotun does not "
                    f"know; run '{self.recovery}' with the nanotun that wrote it."
                ) from None
        self._loaded = {id(change) for change in self.made}
        self.adopt(self._changes.files(self.runDir))

    def adopt(self, found: Iterable[IChange]) -> None:
        """
        Take over nanotun's own changes that the journal does not name: it was lost, or is in
        another directory.

        @param found: in the order in which they were applied.
        """
        known = set(map(_key, self.made))
        adopted = [change for change in found if _key(change) not in known]
        self._loaded.update(map(id, adopted))
        self.made = [*self.made, *adopted]

    def valuesBefore(self) -> dict[str, str]:
        """For each setting that is still as we made it, its value before that, by its name."""
        return {
            change.sysctl.name: change.sysctl.before
            for change in self.made
            if isinstance(change, SysctlChange) and change.holds()
        }

    def reconcile(self, wanted: Iterable[IChange], killSwitch: bool) -> tuple[int, int]:
        """
        Bring the machine to exactly C{wanted}.

        @param wanted: in the order in which to apply them.
        @return: how many changes were new, and how many somebody else had undone.
        @raise RoutingError: a change cannot be made.  The new ones are undone then, and the
            others are kept.  A change of the firewall's that had been taken away and cannot
            be made again does not stop the others.
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
        takenAway = sum(not _isOutdated(change) for change in missing)
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
        return len(new), takenAway

    def undoAll(self) -> bool:
        """
        Undo everything, the last change first.  A change that cannot be undone is logged and
        stays in the journal.

        @return: whether nothing is left.
        """
        self.made = self._undo(self.made)
        self.killSwitch = self.killSwitch and bool(self.made)
        try:
            self._write(self.made, self.killSwitch)
        except RoutingError as error:
            # Everything is undone nevertheless, and undoing it again does no harm.
            self._log.error("{error}", error=str(error))
            return False
        return not self.made

    def broken(self) -> list[IChange]:
        """The changes in force that somebody else has taken away."""
        return [change for change in self.made if not change.holds()]

    def _apply(
        self, target: list[IChange], new: list[IChange], missing: list[IChange]
    ) -> list[RoutingError]:
        """
        Apply the new and the missing changes, in order.

        @return: why some of the missing ones are still missing.
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
                # What could not be undone is left to the next check, or to recover.
                self.made = [*self.made, *self._undo(done)]
                self._write(self.made, self.killSwitch)
                raise
            if id(change) in isNew:
                done.append(change)
        return failures

    def _isBeside(self, change: IChange, isNew: set[int]) -> bool:
        """
        Whether the others may be applied though this change, which had been taken away,
        cannot be.  Not if it is a rule: the one that catches all traffic must not be in
        force without those that let something past.  But if it is the firewall's or
        systemd-resolved's: without these DNS still takes the tunnel, as long as the rules
        are in force.
        """
        return id(change) not in isNew and not isinstance(
            change, (RuleChange, RouteChange, SysctlChange)
        )

    def _undo(self, changes: list[IChange]) -> list[IChange]:
        """Undo, the last change first; returns those that could not be undone, in order."""
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
