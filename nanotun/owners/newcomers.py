"""
Processes that were started after the last scan, or just before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nanotun.owners.inheritance import GENERATIONS, inherits
from nanotun.owners.interfaces import IProcesses
from nanotun.owners.matching import Matcher
from nanotun.owners.scanner import YOUNG
from nanotun.owners.values import (
    EMPTY,
    Excluded,
    ProcStat,
    Program,
    Table,
    outline,
    sameProgram,
)

#: Pids that are listed again each time: fork(2) takes the number well before the process
#: is visible, and at least as many forks as there are processors may be under way.
MARGIN = 64

#: Seconds after which every such fork(2) is over.
FORK_TIME = 0.1

_NOTHING: frozenset[str] = frozenset()

#: Processes that are remembered between two scans.  If there are more, the oldest are left
#: to the next scan, which is then requested at once.
LIMIT = 4096


class Newcomers:
    """
    Each is examined once, at the first flow after its start, and again at each flow as
    long as it may not have reached its execve(2).

    @ivar overflowed: whether some were left out since the last table.
    @param children: the setting C{excludeChildren}.
    @param seconds: the clock.
    @param spent: see L{nanotun.owners.budget.LookupBudget}.
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
        self._stats: dict[int, ProcStat] = {}
        self._results: dict[int, Excluded | None] = {}
        self._unsettled = set(table.young)
        self._adopted = False
        self.overflowed = False

    def adopt(self, excluded: Excluded) -> None:
        """Note what was found out elsewhere about a process."""
        self._adopted = True
        self._note(excluded.process.pid, excluded.process.stat)
        self._results[excluded.process.pid] = excluded

    def isGone(self, pid: int) -> bool:
        """Whether a process that was seen before is known to have ended."""
        return pid not in self._stats and pid not in self._table.stats

    @property
    def pids(self) -> list[int]:
        """The new processes that are alive as far as is known, the youngest first."""
        return sorted(self._stats, reverse=True)

    @property
    def suspects(self) -> set[int]:
        """The pids of all new processes, also of those that were not examined yet."""
        return {*self._stats, *self._unsettled, *self._listed}

    @property
    def stats(self) -> Mapping[int, ProcStat]:
        """What was read of L{pids} last."""
        return self._stats

    @property
    def excluded(self) -> list[Excluded]:
        """The excluded ones among them, the youngest first."""
        return [
            result
            for _, result in sorted(self._results.items(), reverse=True)
            if result is not None
        ]

    def look(self, deadline: float) -> bool:
        """
        Find new processes and examine them.

        @param deadline: as a value of C{spent}.
        @return: whether all were examined before the deadline.
        @raise OSError: /proc cannot be read.
        """
        newest = self._processes.newest()
        if newest != self._newest:
            self._changed = self._seconds()
        if self._seconds() - self._changed < FORK_TIME:
            pids = self._since(newest)
            self._unsettled.update(pid for pid in pids if pid not in self._listed)
            self._listed = set(pids)
            self._newest = newest
        for pid in sorted(self._unsettled, reverse=True):
            if self._spent() > deadline:
                return False
            self.examine(pid)
        return True

    def _since(self, newest: int) -> list[int]:
        last = max(0, self._newest - MARGIN)
        if newest >= self._newest:
            pids = self._processes.pids(last, newest)
        else:
            # The pids have wrapped around.
            pids = [p for p in self._processes.pids() if p > last or p <= newest]
        if len(pids) > LIMIT - len(self._stats):
            self._forgetEnded()
        room = LIMIT - len(self._stats)
        if len(pids) > room:
            self.overflowed = True
            pids = sorted(pids)[-room:] if room > 0 else []
        return pids

    def examine(self, pid: int, generation: int = 0) -> Excluded | None:
        """
        See what a process is now, whatever the pid was before.

        @return: L{None} if it has ended, or is not excluded.
        """
        stat = self._processes.stat(pid)
        if stat is None:
            self._forget(pid)
            return None
        return self.see(pid, stat, generation)

    def see(self, pid: int, stat: ProcStat, generation: int = 0) -> Excluded | None:
        """
        As L{examine}.

        @param stat: of this process, read just now.
        """
        if pid in self._unsettled and self._processes.age(stat) > YOUNG:
            self._unsettled.discard(pid)
        known = self._stats.get(pid)
        if known is not None and sameProgram(known, stat):
            return self._results[pid]
        scanned = self._table.stats.get(pid)
        if scanned is not None and sameProgram(scanned, stat):
            # The scan has seen this program.
            return self._table.excluded.get(pid)
        self._note(pid, stat)
        result = self._results[pid] = self._match(pid, stat, generation)
        return result

    def _note(self, pid: int, stat: ProcStat) -> None:
        if pid not in self._stats and len(self._stats) >= LIMIT:
            self._forgetEnded()
            if len(self._stats) >= LIMIT:
                self.overflowed = True
                self._forget(next(iter(self._stats)))
        self._stats[pid] = stat

    def _forgetEnded(self) -> None:
        alive = frozenset(self._processes.pids())
        for pid in [each for each in self._stats if each not in alive]:
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        self._unsettled.discard(pid)
        self._stats.pop(pid, None)
        self._results.pop(pid, None)

    def _match(self, pid: int, stat: ProcStat, generation: int) -> Excluded | None:
        program = self._processes.program(pid, stat) if self._matcher.byProcesses else None
        text, selected = "", _NOTHING
        if program is not None:
            text = self._text(pid, stat, program)
            selected = self._matcher.selected(pid, stat.started, program)
        inherited = not text
        if inherited:
            text = self._inherited(pid, stat, generation)
        if not text and not selected:
            return None
        if program is None:
            program = self._processes.program(pid, stat)
        # The rest would take longer to read than all this, and any newcomer may have any socket.
        outlined = outline(pid, stat, program)
        return Excluded(outlined, text, inherited and bool(text), selected=selected)

    def _inherited(self, pid: int, stat: ProcStat, generation: int) -> str:
        """By which selector an ancestor excludes a process; empty if none does."""
        before = self._table.excluded.get(pid)
        if before is not None and before.inherited and before.process.stat.started == stat.started:
            return before.text
        if self._mayInherit:
            above = self._parent(stat.parent, generation)
            if (
                above is not None
                and above.text
                and inherits(above.text, stat, above.process.stat, self._children)
            ):
                return above.text
        return ""

    def _text(self, pid: int, stat: ProcStat, program: Program) -> str:
        if not self._matcher.byFamilies:
            return self._matcher.programText(pid, stat.started, program)
        process = self._processes.details(pid, stat, program)
        return "" if process is None else self._matcher.processText(process)

    @property
    def _mayInherit(self) -> bool:
        # Without that setting only a proxy's processes pass anything on.
        return self._children or self._adopted or bool(self._table.holders)

    def _parent(self, pid: int, generation: int) -> Excluded | None:
        if pid in self._results:
            known = self._results[pid]
        else:
            known = self._table.excluded.get(pid)
        if generation >= GENERATIONS:
            return known
        stat = self._processes.stat(pid)
        # If it has just ended, it was what it was.
        return known if stat is None else self.see(pid, stat, generation + 1)
