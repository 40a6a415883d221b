"""
Makes the owners and all that they consist of.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from nanotun.config.selectors import Selector
from nanotun.config.settings import Settings
from nanotun.linux.cgroups import cgroupMount
from nanotun.linux.connected import ConnectedNetworks
from nanotun.linux.conntrack import originalOf
from nanotun.linux.locality import isOwnAddress
from nanotun.linux.neighbours import Relatives
from nanotun.linux.users import uidOf
from nanotun.log.trouble import TroubleLog
from nanotun.owners.cgroups import CgroupTree
from nanotun.owners.claims import Claims
from nanotun.owners.described import Descriptions
from nanotun.owners.descriptors import Descriptors
from nanotun.owners.established import Established, markSocket
from nanotun.owners.hops import NextHops
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.lookup import OwnerLookup
from nanotun.owners.makers import Makers
from nanotun.owners.matching import Matcher
from nanotun.owners.newcomers import Newcomers
from nanotun.owners.options import OwnerOptions, ownerOptions, soughtBy
from nanotun.owners.owners import Owners
from nanotun.owners.probing import Prober, mayBeBehind
from nanotun.owners.processes import ProcProcesses
from nanotun.owners.recorder import Recorder
from nanotun.owners.scanner import Scanner
from nanotun.owners.schedule import ScanSchedule
from nanotun.owners.search import Search
from nanotun.owners.sockets import KernelSockets


def matcherOf(settings: Settings) -> Matcher:
    """
    Which selectors of the settings a process matches.

    @raise nanotun.errors.ConfigError: a user is unknown; with one sentence.
    """
    return _matcher(ownerOptions(settings), soughtBy(settings))


def _matcher(options: OwnerOptions, places: Mapping[Selector, str]) -> Matcher:
    return Matcher(
        options.excluded,
        options.children,
        uidOf,
        os.path.realpath,
        {each: places.get(each, "rules") for each in options.sought},
    )


def makeOwners(
    options: OwnerOptions,
    reactor: Any,
    recorder: Recorder,
    places: Mapping[Selector, str] = MappingProxyType({}),
) -> Owners:
    """
    Make the owners.  Nothing is opened or read before their start.

    @param reactor: provides L{IReactorThreads} and L{IReactorTime}, and has a thread pool.
    @param recorder: started and stopped by the caller, or never.
    @param places: see L{soughtBy}.
    @raise nanotun.errors.ConfigError: a user is unknown; with one sentence.
    """

    def inThread(work: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), work)

    def isConnected(host: str) -> bool:
        # Asked rarely, and perhaps about a network that was made just now.
        return ConnectedNetworks(options.device, time.monotonic).holds(host)

    matcher = _matcher(options, places)
    processes = ProcProcesses()
    sockets = KernelSockets(options.device)
    cgroups = CgroupTree(cgroupMount(), reactor.seconds)
    descriptors = Descriptors(processes, time.thread_time)
    newcomers = Newcomers(processes, matcher, options.children, reactor.seconds, time.thread_time)
    proxies = LocalProxies(options.proxies, sockets, processes.ownAddresses)
    trouble = TroubleLog(reactor, Owners._log)
    schedule = ScanSchedule(
        Scanner(processes, descriptors, matcher, options.children, os.getpid, time.sleep),
        proxies,
        options.refresh,
        reactor,
        inThread,
        trouble,
    )
    makers = Makers(recorder.maker, processes)
    search = Search(
        processes,
        cgroups,
        newcomers,
        descriptors,
        makers,
        time.thread_time,
        options.everybody or matcher.seeksPrograms,
    )
    hops = NextHops(
        proxies,
        Prober(
            lambda: KernelSockets(options.device), processes, partial(mayBeBehind, isConnected)
        ).probe,
        originalOf,
        Relatives(reactor.seconds).of,
        isOwnAddress,
        reactor,
        inThread,
    )
    lookup = OwnerLookup(
        sockets,
        matcher,
        search,
        proxies,
        Claims(processes, proxies),
        hops,
        schedule,
        trouble,
        reactor,
        time.thread_time,
        os.getpid,
        Descriptions(processes, cgroups, matcher),
        options.everybody,
        options.overruled,
    )
    return Owners(
        processes,
        sockets,
        cgroups,
        matcher,
        lookup,
        hops,
        schedule,
        trouble,
        reactor,
        time.thread_time,
        os.getpid,
        Established(processes, sockets, lookup.excluded, markSocket, os.getpid),
        options,
    )
