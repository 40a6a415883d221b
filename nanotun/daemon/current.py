"""
The configuration in force, with the parts that are made of nothing else.
"""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

from nanotun.config.settings import Settings
from nanotun.daemon.lists import NOTHING_READ, ReadLists
from nanotun.daemon.upstreams import Upstreams
from nanotun.gateway import Gateway
from nanotun.interfaces import IScript
from nanotun.linux.connected import ConnectedNetworks
from nanotun.linux.conntrack import originalOf
from nanotun.linux.locality import Locality
from nanotun.linux.markedroute import MarkedRoute
from nanotun.linux.neighbours import Relatives
from nanotun.linux.users import nameOf
from nanotun.log.service import LogOptions
from nanotun.owners import Owners, makeOwners, ownerOptions
from nanotun.owners.recorder import Recorder
from nanotun.policy.judge import Carries, Judge, needsOwner, runsLocally
from nanotun.policy.lists import Lists


class Current(NamedTuple):
    """
    The current configuration, and the parts that are made of it.  It never changes: a
    reload replaces it.

    @ivar owners: finds flows' processes; L{None} where no rule is about processes.
    @ivar judge: decides about flows, by the settings, the upstreams, the owners and the lists.
    @ivar lists: what the rules take from files.
    """

    settings: Settings
    upstreams: Upstreams
    owners: Owners | None
    judge: Judge
    lists: ReadLists = NOTHING_READ


def logOptions(settings: Settings) -> LogOptions:
    """How these settings say to log."""
    return LogOptions(settings.logLevel, settings.logDir, settings.logFormat)


def ownersFor(
    settings: Settings, reactor: Any, recorder: Recorder, before: Current | None = None
) -> Owners | None:
    """
    What finds the processes of flows under these settings.

    @param recorder: knows who makes each socket, once it is started.
    @param before: what is in force so far; its owners are kept if the settings say the
        same of processes.
    @return: not started, unless kept; L{None} where no rule is about processes.
    @raise nanotun.errors.ConfigError: C{excludedProcesses} names an unknown user.
    """
    options = ownerOptions(settings)
    if before is not None and options == ownerOptions(before.settings):
        return before.owners
    return makeOwners(options, reactor, recorder) if needsOwners(settings) else None


def needsOwners(settings: Settings) -> bool:
    """Whether any rule is about the processes of flows."""
    localProxy = runsLocally(settings, Locality(time.monotonic).isLocal)
    return needsOwner(settings, localProxy)


def makeJudge(
    settings: Settings,
    upstreams: Upstreams,
    owners: Owners | None,
    lists: Lists,
    gateway: Gateway,
    marked: MarkedRoute,
    inCell: bool = False,
    carrier: Carries = lambda flow: None,
    script: IScript | None = None,
    directAllowed: bool = True,
) -> Judge:
    """
    What decides about flows under these settings.

    @param lists: what the rules take from files.
    @param gateway: knows this machine's addresses.
    @param inCell: whether the flows come from the cell of C{nanotun run}.
    @param carrier: see L{Judge}, as for the others.
    """
    return Judge(
        settings,
        owners,
        gateway.isLocal,
        marked.leadsIn,
        upstreams.dials,
        os.getpid,
        ConnectedNetworks(settings.tunName, time.monotonic).holds,
        inCell,
        frozenset if owners is None else lambda: owners.hops.hops,
        carrier,
        Relatives(time.monotonic).of,
        (lambda flow: None) if inCell else originalOf,
        script=script,
        directAllowed=directAllowed,
        nameOf=nameOf,
        lists=lists,
        now=localTime,
        namesOf=gateway.names.namesOf,
    )


def localTime() -> tuple[int, int]:
    """The day of the week and the minute of the day; see L{nanotun.policy.conditions.Now}."""
    now = time.localtime()
    return now.tm_wday, now.tm_hour * 60 + now.tm_min
