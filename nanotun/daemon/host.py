"""
What the daemon is on its own machine: its rights, its lock, who owns flows, the routes.

Nothing of this is there where the device is in a network of its own (C{nanotun run}).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from nanotun.config.options import Options
from nanotun.config.settings import Settings
from nanotun.control.lock import InstanceLock
from nanotun.daemon.files import hasForeign, pathsOf
from nanotun.daemon.notify import Notifier
from nanotun.daemon.owning import CurrentOwners
from nanotun.daemon.privileges import LinuxKernel, Privileges, needed
from nanotun.daemon.signals import Signals
from nanotun.gateway import Gateway
from nanotun.interfaces import IPart
from nanotun.linux.locality import Locality
from nanotun.owners import Owners, makeOwners, ownerOptions
from nanotun.policy.judge import rulesFor, runsLocally
from nanotun.routing.make import makeLeftovers, makeRoutes
from nanotun.routing.routes import Routes


class HostParts:
    """
    The parts of a daemon that is its machine's.

    @ivar owners: who finds flows' processes.
    @ivar notifier: tells systemd.
    @ivar routes: the routes; L{None} where none is changed.
    """

    def __init__(
        self,
        options: Options,
        reactor: Any,
        gateway: Gateway,
        config: str,
        exitWith: Callable[[int], None],
    ) -> None:
        """
        @param config: the configuration file's whole path, or the empty string.
        @raise nanotun.errors.ConfigError: a user that C{excludedProcesses} names is not
            known.
        """
        self._settings = settings = options.settings
        self._reactor = reactor
        self._config = config
        self.owners = CurrentOwners(self.ownersFor(settings))
        self.notifier = Notifier(os.environ, f"{settings.tunName} is up", reactor)
        self._leftovers = makeLeftovers(settings)
        self._privileges = makePrivileges(
            options, self.owners.owners is not None, self._leftovers is not None
        )
        self.routes: Routes | None = None
        if settings.autoDefaultRoute:
            self.routes = makeRoutes(
                settings,
                reactor,
                gateway.names.resolve,
                gateway.clearCache,
                options.confirm,
                exitWith,
            )

    def before(self, signals: Signals) -> tuple[IPart, ...]:
        """
        What is started before the device.  The rights are given up first, so that
        whatever else starts has no more than it needs; nothing else is done before the
        lock is had.
        """
        lock = InstanceLock(self._settings.runDir, self._config)
        return (signals, self._privileges, lock, self.owners)

    def after(self, control: IPart) -> tuple[IPart, ...]:
        """
        What is started once the tunnel carries; last of all systemd hears of it.

        @param control: the control socket.
        """
        routes = self.routes or self._leftovers
        parts = (control, self.notifier)
        return parts if routes is None else (routes, *parts)

    def ownersFor(self, settings: Settings) -> Owners | None:
        """
        Who finds flows' processes, not started; L{None} where no rule is about any.

        @raise nanotun.errors.ConfigError: as above.
        """
        if not needsOwners(settings):
            return None
        return makeOwners(ownerOptions(settings), self._reactor)

    def lacksRights(self, settings: Settings) -> bool:
        """Whether settings need rights that were given up at the start."""
        return bool(self._privileges.lacking(needed(settings, needsOwners(settings), False)))


def makePrivileges(options: Options, owners: bool, leftovers: bool = False) -> Privileges:
    """
    The part that gives up what C{options} do not need.

    @param owners: whether flows' processes are looked for.
    @param leftovers: whether routes and firewalls are to be taken back.
    """
    foreign = hasForeign(*pathsOf(options.settings, options.parent or {}, options["config"]))
    names = needed(options.settings, owners, foreign, leftovers)
    return Privileges(names, LinuxKernel())


def needsOwners(settings: Settings) -> bool:
    """Whether any rule is about flows' processes."""
    localProxy = runsLocally(settings, Locality(time.monotonic).isLocal)
    return rulesFor(settings, localProxy).needsOwner
