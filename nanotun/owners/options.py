"""
What the settings say of the owners of flows: pure.
"""

from __future__ import annotations

from typing import NamedTuple

from nanotun.config.selectors import Selector
from nanotun.config.settings import Settings
from nanotun.config.upstreams import firstHops, withFields
from nanotun.interfaces import ProxyURL


class OwnerOptions(NamedTuple):
    """
    Everything that L{nanotun.owners.Owners} are made of: they need no replacement while this is
    equal.

    @ivar device: the TUN device's name.
    @ivar proxies: those that nanotun's own sockets connect to.
    @ivar excluded: the processes whose flows are excluded.
    @ivar children: whether what an excluded process has started is excluded too.
    @ivar refresh: seconds between two scans.
    @ivar everybody: whether the process of every flow is wanted, with its name.
    @ivar sought: the processes that the user's rules name, each once.
    @ivar overruled: whether anything else decides before C{excludedProcesses} does: the user's
        rules, or a script.  Then flows of excluded processes may be proxied as well, and it has
        to be known whether they are those of a proxy on this machine.
    """

    device: str
    proxies: tuple[ProxyURL, ...] = ()
    excluded: tuple[Selector, ...] = ()
    children: bool = False
    refresh: float = 15.0
    everybody: bool = False
    sought: tuple[Selector, ...] = ()
    overruled: bool = False


def ownerOptions(settings: Settings, everybody: bool = False) -> OwnerOptions:
    """
    What the settings say of flows' owners.

    @param everybody: whether the process of every flow is wanted, whatever they say.
    """
    named = any("process" in fields for fields in withFields(settings).values())
    return OwnerOptions(
        settings.tunName,
        firstHops(settings),
        settings.excludedProcesses,
        settings.excludeChildren,
        settings.excludeRefresh,
        everybody or named,
        tuple(soughtBy(settings)),
        bool(settings.rules or settings.script),
    )


def soughtBy(settings: Settings) -> dict[Selector, str]:
    """
    The processes that the user's rules name.

    @return: where each is named first, as the beginning of an error's sentence.
    """
    found: dict[Selector, str] = {}
    for number, rule in enumerate(settings.rules, start=1):
        place = f"{rule.where}: rules" if ", line " in rule.where else rule.where
        for conditions, key in ((rule.wants, "processes"), (rule.never, "not.processes")):
            for selector in conditions.processes:
                found.setdefault(selector, f"{place}, entry {number}, {key}")
    return found
