"""
Which of all processes are excluded, by themselves or because of an ancestor: pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from nanotun.owners.values import Excluded, ProcStat
from nanotun.policy.rules import LOCAL_PROXY

#: Generations that are followed upwards.  This also ends a loop, which pids that are
#: reused while we read them can make.
GENERATIONS = 64


def inherits(text: str, child: ProcStat, parent: ProcStat, children: bool) -> bool:
    """
    Whether a process is excluded because its parent is.

    A proxy's workers and plug-ins belong to the proxy.  A process in a session of its
    own does not: that is how an sshd that listens for C{ssh -R} starts its user's shell,
    and how systemd, which listens on behalf of services, starts them.

    @param text: the selector by which the parent is excluded.
    @param children: the setting C{excludeChildren}.
    """
    if parent.started > child.started:
        return False
    if text == LOCAL_PROXY:
        return child.session == parent.session
    return children


def propagate(
    direct: Mapping[int, str],
    stats: Mapping[int, ProcStat],
    children: bool,
    previous: Mapping[int, Excluded],
) -> dict[int, tuple[str, bool]]:
    """
    Pass selectors on from parents to children.

    @param direct: the selectors of processes that are excluded by themselves, by pid.
    @param stats: of all processes, by pid.
    @param previous: the processes excluded before.  One that inherited its selector keeps
        it when its parent has died.
    @return: by pid, the selector and whether it is inherited.
    """
    found: dict[int, tuple[str, bool]] = {}
    for pid in stats:
        line: list[int] = []
        while pid in stats and pid not in found and len(line) < GENERATIONS:
            line.append(pid)
            pid = stats[pid].parent
        for each in reversed(line):
            found[each] = _one(each, direct, stats, children, previous, found)
    return {pid: result for pid, result in found.items() if result[0]}


def _one(
    pid: int,
    direct: Mapping[int, str],
    stats: Mapping[int, ProcStat],
    children: bool,
    previous: Mapping[int, Excluded],
    found: Mapping[int, tuple[str, bool]],
) -> tuple[str, bool]:
    if pid in direct:
        return direct[pid], False
    stat = stats[pid]
    text = found.get(stat.parent, ("", False))[0]
    if text and inherits(text, stat, stats[stat.parent], children):
        return text, True
    before = previous.get(pid)
    if (
        before is not None
        and before.inherited
        and before.text != LOCAL_PROXY
        and before.process.stat.started == stat.started
    ):
        return before.text, True
    return "", False
