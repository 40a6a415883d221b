"""
Reads the files that settings name, before a daemon does.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from nanotun.config.notices import proxyNotices
from nanotun.config.settings import Settings
from nanotun.config.upstreams import inDialOrder, upstreamsOf
from nanotun.daemon.lists import readLists
from nanotun.daemon.scripts import describeScript, scriptFor
from nanotun.gateway.dns.contexts import contextsFor
from nanotun.interfaces import UpstreamContext
from nanotun.owners.options import ownerOptions, soughtBy
from nanotun.owners.recorder import Recorder
from nanotun.owners.syscalls import LinuxBpf
from nanotun.policy.dnsnames import namePolicy
from nanotun.routing.host import chosenUsers
from nanotun.upstream.dial.sockets import openDatagram, openStream
from nanotun.upstream.make import makeAll


class Checked(NamedTuple):
    """
    What is in the files that settings name.

    @ivar notices: sentences about what is of no use in them, and about unsafe proxies.
    @ivar script: what the script has and needs; empty for none.
    @ivar lists: how much is in each list of the rules.
    """

    notices: tuple[str, ...] = ()
    script: str = ""
    lists: tuple[str, ...] = ()


def checkFiles(settings: Settings, reactor: Any) -> Checked:
    """
    Read the files that the settings name, and import the script.  Opens no connection.

    @raise ConfigError: a file is no good, or a user is not known.
    """
    from nanotun.owners.make import makeOwners

    context = UpstreamContext(reactor, settings.connectTimeout, openStream, openDatagram)
    makeAll(inDialOrder(upstreamsOf(settings)), context, lambda entry, single: single[0])
    makeOwners(ownerOptions(settings), reactor, Recorder(LinuxBpf()), soughtBy(settings))
    contextsFor(settings)
    if settings.autoDefaultRoute:
        chosenUsers(settings.onlyProcesses)
    script = scriptFor(settings, reactor)
    if script is not None:
        script.unload()
    about = "" if script is None else describeScript(script, settings)
    lists = readLists(settings, os.geteuid())
    names = namePolicy(settings, lists.lists, None, script)
    notices = *lists.lists.notices, *names.notices, *proxyNotices(settings)
    return Checked(notices, about, tuple(lists.described()))
