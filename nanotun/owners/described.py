"""
What is told of a flow's owner: by its socket, and by the process that has it.
"""

from __future__ import annotations

from collections import OrderedDict

from nanotun.flow import Owner
from nanotun.owners.interfaces import ICgroups, IProcesses
from nanotun.owners.matching import Matcher
from nanotun.owners.values import Excluded, FlowSocket, Process, outline, sameProgram
from nanotun.policy.rules import LOCAL_PROXY

#: Processes that are remembered.
DESCRIBED_LIMIT = 1024


class Descriptions:
    """
    Remembers what was read of a process for as long as it runs the same program.
    """

    def __init__(self, processes: IProcesses, cgroups: ICgroups, matcher: Matcher) -> None:
        self._processes = processes
        self._cgroups = cgroups
        self._matcher = matcher
        self._known: OrderedDict[int, Process] = OrderedDict()

    def bySocket(self, found: FlowSocket) -> Owner | None:
        """
        What a socket says of its owner.

        @return: L{None} if its control group is not known, and rules are about those.
        """
        cgroup = self._cgroups.pathOf(found.cgroup)
        if not cgroup and self._matcher.seeksCgroups:
            return None
        return self._by(found.uid, cgroup)

    def byProcess(self, found: FlowSocket, pid: int) -> Owner | None:
        """
        The same by the control group of the process that has the socket.

        @param pid: 0 if it is not known.
        """
        process = self._processes.process(pid) if pid else None
        return self._by(found.uid, process.cgroup) if process and process.cgroup else None

    def _by(self, uid: int, cgroup: str) -> Owner:
        text = self._matcher.socketText(uid, cgroup)
        selected = self._matcher.selectedBySocket(uid, cgroup)
        return Owner(0, uid, cgroup=cgroup, excluded=text, selected=selected)

    def processOf(self, pid: int) -> Process | None:
        """
        What a process runs.

        @return: without its user ids and cgroup; L{None} if it has ended.
        """
        stat = self._processes.stat(pid)
        if stat is None:
            return None
        known = self._known.get(pid)
        if known is None or not sameProgram(known.stat, stat):
            known = outline(pid, stat, self._processes.program(pid, stat))
            self._known[pid] = known
            if len(self._known) > DESCRIBED_LIMIT:
                self._known.popitem(last=False)
        self._known.move_to_end(pid)
        return known


def matched(known: Owner, excluded: Excluded) -> Owner:
    """
    Add what matches the process that has a socket.

    @param known: what the socket says.
    """
    first = excluded.text == LOCAL_PROXY or not known.excluded
    return known._replace(
        excluded=excluded.text if first else known.excluded,
        selected=known.selected | excluded.selected,
    )


def together(owner: Owner, sharer: Owner | None, exactly: bool) -> Owner | None:
    """
    The owner of a flow that either of two may have sent.

    @param exactly: whether it matters which of them it was.
    @return: what holds of both; L{None} if rules treat them differently.
    """
    if sharer is None or LOCAL_PROXY == owner.excluded == sharer.excluded:
        return sharer
    if owner.selected != sharer.selected or (exactly and owner.uid != sharer.uid):
        return None
    # All of them have to be excluded.
    both = sharer if owner.excluded and not sharer.excluded else owner
    if exactly and owner[2:5] != sharer[2:5]:
        return both._replace(pid=0, name="", path="", cgroup="")
    return both
