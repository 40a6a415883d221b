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

    def bySocket(self, found: FlowSocket) -> Owner:
        """What a socket says of its owner, as if programs did not matter."""
        return self._by(found.uid, self._cgroups.pathOf(found.cgroup))

    def byProcess(self, known: Owner, pid: int) -> Owner:
        """
        The same by the control group of the process that has the socket, if that of the socket is
        not known.

        @param pid: 0 if it is not known, either.
        """
        process = self._processes.process(pid) if pid else None
        return known if process is None else self._by(known.uid, process.cgroup)

    def _by(self, uid: int, cgroup: str) -> Owner:
        return Owner(
            0,
            uid,
            cgroup=cgroup,
            excluded=self._matcher.socketText(uid, cgroup),
            selected=self._matcher.selectedBySocket(uid, cgroup),
            whole=bool(cgroup) or not self._matcher.seeksCgroups,
        )

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


def together(owner: Owner, sharer: Owner, exactly: bool) -> Owner | None:
    """
    The owner of a flow that either of two may have sent: what holds of both.

    @param exactly: whether more matters than whether they are excluded.
    @return: L{None} if nothing does.
    """
    if LOCAL_PROXY == owner.excluded == sharer.excluded:
        return owner
    # All of them have to be excluded.
    both = sharer if owner.excluded and not sharer.excluded else owner
    if not exactly or owner[1:] == sharer[1:]:
        return both
    if owner.uid != sharer.uid:
        return None
    whole = owner.whole and sharer.whole and owner.selected == sharer.selected
    both = both._replace(selected=owner.selected & sharer.selected, whole=whole)
    if owner[2:5] == sharer[2:5]:
        return both
    return both._replace(pid=0, name="", path="", cgroup="")
