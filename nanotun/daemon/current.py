"""
The configuration in force, with the parts that are made of nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from nanotun.config.settings import Settings
from nanotun.daemon.lists import NOTHING_READ, ReadLists, readLists
from nanotun.daemon.standing import untilEdge
from nanotun.daemon.upstreams import Upstreams
from nanotun.daemon.vpnwatch import VpnWatch
from nanotun.gateway import Gateway
from nanotun.gateway.dns.contexts import TlsContexts, contextsFor
from nanotun.interfaces import IScript
from nanotun.linux.connected import ConnectedNetworks
from nanotun.linux.conntrack import originalOf
from nanotun.linux.forwarding import Forwarding
from nanotun.linux.locality import Locality
from nanotun.linux.markedroute import MarkedRoute
from nanotun.linux.neighbours import Relatives
from nanotun.linux.users import nameOf
from nanotun.log.service import LogOptions
from nanotun.log.trouble import TroubleLog
from nanotun.owners.options import ownerOptions, soughtBy
from nanotun.owners.recorder import Recorder
from nanotun.policy.dnsnames import NamePolicy, namePolicy
from nanotun.policy.judge import Carries, Judge, needsOwner, runsLocally
from nanotun.policy.lists import Lists

if TYPE_CHECKING:
    from nanotun.owners.owners import Owners
    from nanotun.scripting.script import Script


class Current(NamedTuple):
    """
    The current configuration, and the parts that are made of it.  It never changes: a
    reload replaces it.

    @ivar owners: finds flows' processes; L{None} where no rule is about processes.
    @ivar judge: decides about flows, by the settings, the upstreams, the owners and the lists.
    @ivar lists: what the rules take from files.
    @ivar script: the user's; L{None} for none.
    @ivar names: what is said about queries for names.
    @ivar contexts: how TLS is spoken with the DNS servers.
    """

    settings: Settings
    upstreams: Upstreams
    owners: Owners | None
    judge: Judge
    lists: ReadLists = NOTHING_READ
    script: Script | None = None
    names: NamePolicy = NamePolicy()
    contexts: TlsContexts = MappingProxyType({})

    @property
    def forNames(self) -> tuple[Script | None, TlsContexts, NamePolicy]:
        """What the gateway looks names up by, besides the settings and the upstreams."""
        return self.script, self.contexts, self.names


class LaterRoutes:
    """
    Asks the routes, which are made after those who ask.

    @ivar ask: see L{nanotun.routing.routes.Routes.letsPast}.
    """

    def __init__(self) -> None:
        self.ask: Callable[[str], bool] = lambda host: False

    def __call__(self, host: str) -> bool:
        """See L{ask}."""
        return self.ask(host)


class Vicinity(NamedTuple):
    """
    What judges ask about the network where the machine is.

    @ivar vpn: knows other VPNs' own flows; L{None} where none arrives.
    @ivar passing: whether the routes let past what a host sends; no host, as long as there are
        none.
    """

    marked: MarkedRoute
    forwarding: Forwarding
    vpn: VpnWatch | None = None
    passing: LaterRoutes = LaterRoutes()

    @property
    def carrier(self) -> Carries:
        """See L{Judge}."""
        return (lambda flow: None) if self.vpn is None else self.vpn.carrier

    def forget(self) -> None:
        """Something has changed: have the kernel asked anew."""
        self.marked.forget()
        self.forwarding.forget()


def logOptions(settings: Settings) -> LogOptions:
    """How these settings say to log."""
    return LogOptions(settings.logLevel, settings.logDir, settings.logFormat)


def ownersFor(
    settings: Settings,
    reactor: Any,
    recorder: Recorder,
    before: Current | None = None,
    script: IScript | None = None,
) -> Owners | None:
    """
    What finds the processes of flows under these settings.

    @param recorder: knows who makes each socket, once it is started.
    @param before: what is in force so far; its owners are kept if the settings say the
        same of processes.
    @param script: may need the process of each flow.
    @return: not started, unless kept; L{None} where no rule is about processes.
    @raise nanotun.errors.ConfigError: C{excludedProcesses} or a rule names an unknown user.
    """
    if not needsOwners(settings, script):
        return None
    from nanotun.owners.make import makeOwners

    options = ownerOptions(settings, script is not None and bool(script.needsProcess))
    if before is not None and before.owners is not None and before.owners.options == options:
        return before.owners
    return makeOwners(options, reactor, recorder, soughtBy(settings))


def needsOwners(settings: Settings, script: IScript | None = None) -> bool:
    """Whether any rule, or the script, is about the processes of flows."""
    localProxy = runsLocally(settings, Locality(time.monotonic).isLocal)
    return needsOwner(settings, localProxy, script is not None and bool(script.needsProcess))


def makeJudge(
    settings: Settings,
    upstreams: Upstreams,
    owners: Owners | None,
    lists: Lists,
    gateway: Gateway,
    around: Vicinity,
    inCell: bool = False,
    script: IScript | None = None,
    directAllowed: bool = True,
) -> Judge:
    """
    What decides about flows under these settings.

    @param lists: what the rules take from files.
    @param gateway: knows this machine's addresses.
    @param inCell: whether the flows come from the cell of C{nanotun run}.
    @param script: see L{Judge}, as for the others.
    """
    vpn = around.vpn
    return Judge(
        settings,
        owners,
        gateway.isLocal,
        around.marked.leadsIn,
        upstreams.dials,
        os.getpid,
        ConnectedNetworks(settings.tunName, time.monotonic).holds,
        inCell,
        frozenset if owners is None else lambda: owners.hops.hops,
        around.carrier,
        Relatives(time.monotonic).of,
        (lambda flow: None) if inCell else originalOf,
        script=script,
        directAllowed=directAllowed,
        nameOf=nameOf,
        lists=lists,
        now=localTime,
        namesOf=gateway.names.namesOf,
        # No firewall changes what is in a cell.
        forwards=(lambda: False) if inCell else around.forwarding.forwards,
        past=(lambda host: False) if vpn is None else vpn.isPast,
        untilEdge=untilEdge,
        letsPast=around.passing,
    )


class Maker:
    """
    Makes the parts of another configuration, for a reload.

    @param gateway: of the daemon, like the rest: it stays.
    @param trouble: told of proxies that go down.
    @param around: what judges ask about the network.
    @param recorder: knows who makes each socket.
    @param changed: see L{Upstreams}; likewise C{settle}.
    """

    def __init__(
        self,
        reactor: Any,
        gateway: Gateway,
        trouble: TroubleLog,
        around: Vicinity,
        recorder: Recorder,
        changed: Callable[[], None],
        settle: Callable[[], None],
    ) -> None:
        self._recorder = recorder
        self._reactor = reactor
        self._gateway = gateway
        self._trouble = trouble
        self._around = around
        self._changed = changed
        self._settle = settle

    def make(
        self,
        settings: Settings,
        script: Script | None,
        before: Current | None,
        known: ReadLists,
    ) -> Current:
        """
        Make what these settings ask for.  Starts nothing.

        @param script: that of the settings.
        @param before: whose owners to keep if they will do.
        @param known: what was read from files already.
        @raise ConfigError: they are no good, or a file that they name is not.
        """
        gateway = self._gateway
        upstreams = Upstreams(
            settings,
            self._reactor,
            gateway.names,
            self._trouble,
            self._around.marked.leadsIn,
            gateway.isLocal,
            changed=self._changed,
            settle=self._settle,
        )
        owners = ownersFor(settings, self._reactor, self._recorder, before, script)
        lists = readLists(settings, os.geteuid(), known)
        judge = makeJudge(
            settings,
            upstreams,
            owners,
            lists.lists,
            gateway,
            self._around,
            script=script,
        )
        names = namePolicy(settings, lists.lists, judge.rules.table, script)
        contexts = contextsFor(settings)
        return Current(settings, upstreams, owners, judge, lists, script, names, contexts)


def localTime() -> tuple[int, int]:
    """The day of the week and the minute of the day; see L{nanotun.policy.conditions.Now}."""
    now = time.localtime()
    return now.tm_wday, now.tm_hour * 60 + now.tm_min
