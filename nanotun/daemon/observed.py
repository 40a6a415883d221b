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

if TYPE_CHECKING:
    from nanotun.owners.owners import Owners


@implementer(IPart)
class ProgramSearch:
    """
    Has the programs of all flows looked up while the daemon runs.  It has owners of its own,
    because those of the rules find no more than the rules need, and flows wait for them.

    @param owners: find every process; not started.
    """

    name = "the search for the programs of flows"

    _log = Logger()

    def __init__(self, owners: Owners, programs: FlowPrograms) -> None:
        self._owners = owners
        self._programs = programs

    def start(self) -> None:
        """See L{IPart.start}.  A record without programs is better than none."""
        try:
            self._owners.start()
        except ConfigError:
            self._log.warn(
                "The programs of flows are not recorded, because nobody can be asked here whose "
                "sockets are whose: let nanotun use netlink's sock_diag and /proc."
            )
        else:
            self._programs.use(self._owners)

    def stop(self) -> None:
        """See L{IPart.stop}."""
        if self._programs.active:
            self._programs.use(None)
            self._owners.stop()


def programSearch(
    settings: Settings, reactor: Any, recorder: Recorder, programs: FlowPrograms
) -> tuple[IPart, ...]:
    """
    What looks up the programs of flows under these settings: to be started before whatever
    records them.

    @param recorder: knows who makes each socket.
    @return: nothing where nothing is recorded.
    """
    if not settings.flowLog:
        return ()
    from nanotun.owners.make import makeOwners

    options = OwnerOptions(settings.tunName, refresh=settings.excludeRefresh, everybody=True)
    return (ProgramSearch(makeOwners(options, reactor, recorder), programs),)
