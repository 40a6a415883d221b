"""
Processes that came after the last scan, or were too young for it.
"""

from __future__ import annotations

from collections.abc import Callable

from nanotun.owners.inheritance import GENERATIONS, inherits
from nanotun.owners.interfaces import IProcesses
from nanotun.owners.matching import Matcher
from nanotun.owners.scanner import YOUNG
from nanotun.owners.values import EMPTY, Excluded, Glance, Table, sameProgram

#: Pids that are listed again each time: fork(2) takes the number well before the process
#: can be seen, and there may be as many at it as there are processors, and more.
MARGIN = 64

#: Seconds after which nobody is still at it.
FORK_TIME = 0.1

#: Processes that are remembered between two scans.  With more the oldest are left to
#: the next scan, which then is asked for at once.
LIMIT = 4096


class Newcomers:
    """
    Each is looked at once, at the first flow after its start, and again with each flow
    while it may not have come to its execve(2).

    @ivar overflowed: whether some were left out since the last table.
    @param children: the setting C{excludeChildren}.
    @param seconds: the clock.
    @param spent: see L{nanotun.owners.budget.Allowance}.
    """

    def __init__(
        self,
        processes: IProcesses,
        matcher: Matcher,
        children: bool,
        seconds: Callable[[], float],
        spent: Callable[[], float],
    ) -> None:
        self._processes = processes
        self._matcher = matcher
        self._children = children
        self._seconds = seconds
        self._spent = spent
        self.reset(EMPTY)

    def reset(self, table: Table) -> None:
        """Begin anew after a scan."""
        self._table = table
        self._newest = table.newest
        self._changed = self._seconds()
        self._listed: set[int] = set()
        self._glances: dict[int, Glance] = {}
        self._verdicts: dict[int, Excluded | None] = {}
        self._restless = set(table.young)
        self.overflowed = False

    def adopt(self, excluded: Excluded) -> None:
        """Take one of L{pids} for what was found out of it elsewhere."""
        self._verdicts[excluded.process.pid] = excluded

    def isGone(self, pid: int) -> bool:
        """Whether a process that was seen is known to have ended."""
        return pid not in self._glances and pid not in self._table.glances

    @property
    def pids(self) -> list[int]:
        """Those that are alive as far as is known, the youngest first."""
        return sorted(self._glances, reverse=True)

    @property
    def excluded(self) -> list[Excluded]:
        """Who of them is excluded, the youngest first."""
        return [
            verdict
            for _, verdict in sorted(self._verdicts.items(), reverse=True)
            if verdict is not None
        ]

    def look(self, deadline: float) -> bool:
        """
        Find who is new.

        @param deadline: at which C{spent} to stop.
        @return: whether there was time for all.
        @raise OSError: there is no /proc to look at.
        """
        newest = self._processes.newest()
        if newest != self._newest:
            self._changed = self._seconds()
        if self._seconds() - self._changed < FORK_TIME:
            pids = self._since(newest)
            self._restless.update(pid for pid in pids if pid not in self._listed)
            self._listed = set(pids)
            self._newest = newest
        for pid in sorted(self._restless, reverse=True):
            if self._spent() > deadline:
                return False
            self.examine(pid)
        return True

    def _since(self, newest: int) -> list[int]:
        last = max(0, self._newest - MARGIN)
        if newest >= self._newest:
            pids = self._processes.pids(last, newest)
        else:
            # The numbers began anew.
            pids = [p for p in self._processes.pids() if p > last or p <= newest]
        room = LIMIT - len(self._glances)
        if len(pids) > room:
            self.overflowed = True
            pids = sorted(pids)[-room:] if room > 0 else []
        return pids

    def examine(self, pid: int, generation: int = 0) -> Excluded | None:
        """
        See what a process is now, whoever it was before.

        @return: L{None} if it is gone, or not excluded.
        """
        glance = self._processes.glance(pid)
        if glance is None:
            self._forget(pid)
            return None
        if self._processes.age(glance) > YOUNG:
            self._restless.discard(pid)
        known = self._glances.get(pid)
        if known is not None and sameProgram(known, glance):
            return self._verdicts[pid]
        scanned = self._table.glances.get(pid)
        if scanned is not None and sameProgram(scanned, glance):
            # The scan has seen it, as it is.
            return self._table.excluded.get(pid)
        self._glances[pid] = glance
        verdict = self._verdicts[pid] = self._judge(pid, glance, generation)
        return verdict

    def _forget(self, pid: int) -> None:
        self._restless.discard(pid)
        self._glances.pop(pid, None)
        self._verdicts.pop(pid, None)

    def _judge(self, pid: int, glance: Glance, generation: int) -> Excluded | None:
        text = self._text(pid, glance)
        before = self._table.excluded.get(pid)
        if (
            not text
            and before is not None
            and before.inherited
            and before.process.glance.started == glance.started
        ):
            return before
        inherited = not text
        if inherited:
            above = self._parent(glance.parent, generation)
            if above is not None and inherits(
                above.text, glance, above.process.glance, self._children
            ):
                text = above.text
        process = self._processes.process(pid) if text else None
        return None if process is None else Excluded(process, text, inherited)

    def _text(self, pid: int, glance: Glance) -> str:
        matcher = self._matcher
        if matcher.byFamilies:
            process = self._processes.process(pid)
            return "" if process is None else matcher.processText(process)
        if matcher.byProcesses:
            program = self._processes.program(pid, glance)
            return matcher.programText(pid, glance.started, program)
        return ""

    def _parent(self, pid: int, generation: int) -> Excluded | None:
        if pid in self._restless and generation < GENERATIONS:
            return self.examine(pid, generation + 1)
        if pid in self._verdicts:
            return self._verdicts[pid]
        return self._table.excluded.get(pid)
