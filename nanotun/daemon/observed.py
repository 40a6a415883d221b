"""
The search for the programs of flows, where they are recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from zope.interface import implementer

from nanotun.config.settings import Settings
from nanotun.errors import ConfigError
from nanotun.interfaces import IPart
from nanotun.owners.options import OwnerOptions
from nanotun.owners.recorder import Recorder
from nanotun.router.programs import FlowPrograms
from nanotun.timer import Timer

if TYPE_CHECKING:
    from nanotun.owners.owners import Owners


#: Seconds after the last look at the flows in which their programs are looked up.
INTEREST = 60.0


@implementer(IPart)
class ProgramSearch:
    """
    Has the programs of all flows looked up while the daemon runs.  It has owners of its own,
    because those of the rules find no more than the rules need, and flows wait for them.

    @param owners: find every process; not started.
    @param everyFlow: see L{FlowPrograms.use}.
    """

    name = "the search for the programs of flows"

    _log = Logger()

    def __init__(self, owners: Owners, programs: FlowPrograms, everyFlow: bool = True) -> None:
        self._owners = owners
        self._programs = programs
        self._everyFlow = everyFlow
        self._works = False

    def start(self) -> None:
        """See L{IPart.start}.  A record without programs is better than none."""
        try:
            self._owners.start()
        except ConfigError:
            self._log.warn(
                "The programs of flows are not known, because nobody can be asked here whose "
                "sockets are whose: let nanotun use netlink's sock_diag and /proc."
            )
        else:
            self._works = True
            self._programs.use(self._owners, self._everyFlow)

    def looked(self) -> None:
        """Somebody looks at the flows, whose programs are looked up anyway."""

    def stop(self) -> None:
        """See L{IPart.stop}."""
        if self._works:
            self._works = False
            self._programs.use(None)
            self._owners.stop()


@implementer(IPart)
class ProgramsOnDemand:
    """
    Has the programs of flows looked up while somebody looks at the flows.

    @param clock: what the time is taken from.
    """

    name = "the search for the programs of flows that are looked at"

    def __init__(self, search: ProgramSearch, clock: Any) -> None:
        self._search = search
        self._timer = Timer(clock, search.stop)

    def start(self) -> None:
        """See L{IPart.start}."""

    def looked(self) -> None:
        """Somebody looks at the flows."""
        if not self._timer.active:
            self._search.start()
        self._timer.start(INTEREST)

    def stop(self) -> None:
        """See L{IPart.stop}."""
        if self._timer.active:
            self._timer.cancel()
            self._search.stop()


def programSearch(
    settings: Settings, reactor: Any, recorder: Recorder, programs: FlowPrograms
) -> tuple[ProgramSearch | ProgramsOnDemand, ...]:
    """
    What looks up the programs of flows under these settings: to be started before whatever
    records them.

    @param recorder: knows who makes each socket.
    @return: nothing where nothing is recorded or shown.
    """
    if not (settings.flowLog or settings.web):
        return ()
    from nanotun.owners.make import makeOwners

    options = OwnerOptions(settings.tunName, refresh=settings.excludeRefresh, everybody=True)
    owners = makeOwners(options, reactor, recorder)
    if settings.flowLog:
        return (ProgramSearch(owners, programs),)
    return (ProgramsOnDemand(ProgramSearch(owners, programs, everyFlow=False), reactor),)
