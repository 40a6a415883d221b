"""
The control groups that C{onlyProcesses} names.

Python finds what the firewall misses of an excluded group.  Nothing finds what it misses of a
chosen one, which would leave past the tunnel; so these are looked for more thoroughly.
"""

from __future__ import annotations

from twisted.logger import Logger

from nanotun.config.selectors import selectors
from nanotun.routing.firewall.cgroups import Cgroups
from nanotun.routing.firewall.rules import Cgroup, Chosen


class ChosenGroups:
    """
    Finds them, and tells of those that have come.

    @param cgroups: a finder of groups in the same hierarchy.
    """

    _log = Logger()

    def __init__(self, cgroups: Cgroups, chosen: Chosen) -> None:
        self._cgroups = cgroups.others(selectors(list(chosen.selectors)))
        self._entered: set[Cgroup] | None = None

    def usual(self) -> tuple[Cgroup, ...]:
        """See L{Cgroups.usual}."""
        return self._cgroups.usual()

    def existing(self) -> tuple[Cgroup, ...]:
        """Those that exist, wherever they are."""
        return self._cgroups.existing(search=True)

    def hidden(self, below: str) -> bool:
        """See L{Cgroups.hidden}."""
        return self._cgroups.hidden(below)

    def entered(self, groups: tuple[Cgroup, ...]) -> None:
        """The packets of these, and of no other group, enter the tunnel now."""
        before, self._entered = self._entered, set(groups)
        if before is None:
            return
        for group in groups:
            if group not in before:
                self._log.info(
                    "The control group {path} of onlyProcesses was made; from now on its packets "
                    "enter the tunnel.",
                    path=group.path,
                )
