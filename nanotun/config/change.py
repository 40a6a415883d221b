"""
What a daemon that runs can take over of a new configuration, and what needs a restart.

Pure: two L{Settings} in, the names of settings out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from typing import NamedTuple

from nanotun.config.settings import Settings

#: Applied to flows to come; those that live go on as they are.
LIVE = frozenset(
    {
        "proxy",
        "proxyPasswordFile",
        "proxyPolicy",
        "proxyCheckInterval",
        "upstreamPool",
        "connectTimeout",
        "dns",
        "dnsOverride",
        "dnsCache",
        "dnsCacheSize",
        "excludedProcesses",
        "excludeChildren",
        "excludeRefresh",
        "excludedIPs",
        "lan",
        "lanOnlyPorts",
        "logLevel",
        "logDir",
        "logFormat",
    }
)

#: The device, the engine, the way names are answered, what is done to the machine, and
#: where the daemon is found.
RESTART = frozenset(
    {
        "tunName",
        "mtu",
        "stackMode",
        "offload",
        "udpTimeout",
        "dnsMode",
        "dnsStateFile",
        "fakeIpExclude",
        "autoDefaultRoute",
        "ipv6",
        "killSwitch",
        "runDir",
    }
)

#: What routes and firewall are made of as well, under C{autoDefaultRoute}.
ROUTED = frozenset({"dns", "excludedProcesses", "lan"})


class Change(NamedTuple):
    """
    What becomes of a new configuration.

    @ivar settings: those in force from now on.
    @ivar live: the names of those that are others than before, in the file's order.
    @ivar restart: the names of those that stay as they were until a restart.
    """

    settings: Settings
    live: tuple[str, ...]
    restart: tuple[str, ...]


def changeTo(new: Settings, old: Settings, kept: Collection[str] = ()) -> Change:
    """
    Find out what a running daemon takes over.

    @param new: what the configuration says now.
    @param old: what is in force.
    @param kept: settings that need a restart this time.
    """
    changed = [
        field.name
        for field in fields(Settings)
        if getattr(new, field.name) != getattr(old, field.name)
    ]
    fixed = RESTART | set(kept)
    if old.autoDefaultRoute:
        fixed |= ROUTED
    live = tuple(name for name in changed if name not in fixed)
    restart = tuple(name for name in changed if name in fixed)
    return Change(replace(old, **{name: getattr(new, name) for name in live}), live, restart)
