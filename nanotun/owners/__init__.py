"""
Finds the process that a flow belongs to: one that C{excludedProcesses} names, or a
proxy that runs on this machine.  docs/processes.md is the users' description.
"""

from __future__ import annotations

import os
import time
from typing import Any

from twisted.internet.threads import deferToThreadPool

from nanotun.config.settings import Settings
from nanotun.linux.cgroups import cgroupMount
from nanotun.linux.users import uidOf
from nanotun.log.trouble import TroubleLog
from nanotun.owners.cgroups import CgroupTree
from nanotun.owners.descriptors import Descriptors
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.matching import Matcher
from nanotun.owners.newcomers import Newcomers
from nanotun.owners.owners import Owners
from nanotun.owners.processes import ProcProcesses
from nanotun.owners.scanner import Scanner
from nanotun.owners.schedule import ScanSchedule
from nanotun.owners.search import Search
from nanotun.owners.sockets import KernelSockets

__all__ = ["Owners", "makeOwners"]


def makeOwners(settings: Settings, reactor: Any) -> Owners:
    """
    Make the owners.  Nothing is opened or read before their start.

    @param reactor: provides L{IReactorThreads} and L{IReactorTime}, and has a thread pool.
    @raise nanotun.errors.ConfigError: a user is unknown; with one sentence.
    """
    matcher = Matcher(
        settings.excludedProcesses,
        settings.excludeChildren,
        uidOf,
        os.path.realpath,
    )
    processes = ProcProcesses()
    sockets = KernelSockets(settings.tunName)
    cgroups = CgroupTree(cgroupMount(), reactor.seconds)
    descriptors = Descriptors(processes, time.thread_time)
    newcomers = Newcomers(
        processes, matcher, settings.excludeChildren, reactor.seconds, time.thread_time
    )
    proxies = LocalProxies(settings.proxy, sockets, processes.ownAddresses)
    trouble = TroubleLog(reactor, Owners._log)
    schedule = ScanSchedule(
        Scanner(processes, descriptors, matcher, settings.excludeChildren, os.getpid, time.sleep),
        proxies,
        settings.excludeRefresh,
        reactor,
        lambda work: deferToThreadPool(reactor, reactor.getThreadPool(), work),
        trouble,
    )
    return Owners(
        processes,
        sockets,
        cgroups,
        matcher,
        Search(processes, cgroups, newcomers, descriptors, time.thread_time),
        proxies,
        schedule,
        trouble,
        reactor,
        time.thread_time,
        os.getpid,
    )
