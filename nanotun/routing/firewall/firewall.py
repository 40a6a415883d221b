"""
The firewall: sends DNS into the tunnel, and marks the packets that bypass it.  It uses nft,
or iptables where there is no nft, and configures systemd-resolved.

L{nanotun.routing.firewall.rules} says what the rules do, and at which point among all
changes they are applied.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from twisted.logger import Logger

from nanotun.config.networks import Network
from nanotun.config.selectors import Selector, SelectorKind
from nanotun.config.settings import Settings
from nanotun.linux.cgroups import MOUNTS, cgroupMount
from nanotun.routing.firewall import iptables, nft, resolvconf, resolved, switch
from nanotun.routing.firewall.cgroups import Cgroups
from nanotun.routing.firewall.rules import EVERYBODY, Chosen, Exclusions, Marks, Neighbourhood
from nanotun.routing.firewall.switchtext import SWITCH, iptablesLines, nftText
from nanotun.routing.firewall.tools import SystemTools, Tools
from nanotun.routing.host import chosenUsers, excludedUsers
from nanotun.routing.interfaces import IChange
from nanotun.routing.values import Earlier, Host, Rule

_log = Logger()

#: Exists if the kernel speaks IPv6.
_IPV6 = "/proc/net/if_inet6"

#: How many networks of excludedIPs the firewall knows, for DNS queries only.  nft takes 0.3 s to
#: load that many and as long to list them, in which nothing else happens; 100,000 take 10 s.
NETWORKS = 4096

#: A machine of which nothing is known.
_NOWHERE = Host()

#: Says that nft is used; no variant of iptables.
_NFT = "nftables"


class Firewall:
    """
    Makes the firewall's changes.  The machine's tools are examined once, at the first
    call; after that the changes stay the same, unless the excluded networks, the uplinks or
    the marks of other VPNs change.

    @param tools: the machine's tools.
    @param mounts: a file like C{/proc/self/mountinfo}.
    @param hasIPv6: whether the kernel speaks IPv6; L{None} to find out.
    @param files: changes to files that name DNS servers; L{None} to find out.
    """

    def __init__(
        self,
        settings: Settings,
        tools: Tools | None = None,
        mounts: str = MOUNTS,
        hasIPv6: bool | None = None,
        files: Sequence[IChange] | None = None,
    ) -> None:
        self._settings = settings
        self._tools = SystemTools() if tools is None else tools
        self._mounts = mounts
        self._hasIPv6 = os.path.exists(_IPV6) if hasIPv6 is None else hasIPv6
        self._loader = nft.NftLoader(self._tools)
        self._switchLoader = nft.NftLoader(self._tools, SWITCH)
        self._variant: str | None = None
        self._users: tuple[int, ...] | None = None
        self._chosen: Chosen | None = None
        self._networks = _collapsed(settings.excludedIPs)
        self._files = resolvconf.fileOf(settings) if files is None else files
        #: The last ones, with and without a kill switch, and what they were made of.
        self._changes: dict[bool, tuple[object, list[IChange]]] = {}

    def changes(self, killSwitch: bool | None = None, host: Host = _NOWHERE) -> list[IChange]:
        """
        The changes, in order.  The device must have its addresses when they are applied.
        To change the kill switch or the host, apply the new changes, then undo the old ones.

        @param killSwitch: overrides the setting; L{None} for the setting.
        @param host: the machine, for its uplinks and other VPNs.
        @raise RoutingError: there is neither nft nor iptables.
        """
        wanted = self._settings.killSwitch if killSwitch is None else killSwitch
        marks = tuple(dict.fromkeys((each.mark, each.mask) for each in host.marks))
        around = self._neighbourhood(host)
        key = self._networks, marks, around
        before, changes = self._changes.get(wanted, (None, []))
        if before != key:
            changes = [self._rules(wanted, marks, around), *(changes[1:] or self._others())]
            self._changes[wanted] = key, changes
        return list(changes)

    def _others(self) -> list[IChange]:
        """What tells others of the relay."""
        link = resolved.ResolvedLink(self._tools, self._settings.tunName)
        return [*([link] if self._tools.path("busctl") else []), *self._files]

    def exclude(self, networks: Iterable[Network]) -> bool:
        """
        Leave DNS servers in these networks alone from the next call of L{changes} on.

        @return: whether these are others than before.
        """
        collapsed = _collapsed(networks)
        differ = collapsed != self._networks
        self._networks = collapsed
        return differ

    def switch(self, rules: Sequence[Rule], earlier: Sequence[Earlier]) -> list[IChange]:
        """
        The switch table, which comes after all other changes.

        @param rules: all routing rules of the plan.
        @param earlier: what other programs' rules let past before.
        @raise RoutingError: there is neither nft nor iptables.
        """
        device, variant = self._settings.tunName, self._tool()
        chosen = self._onlyThese()
        only = None if chosen == EVERYBODY else chosen.uids
        if variant == _NFT:
            script = nftText(rules, earlier, device, only=only)
            return [switch.SwitchTable(self._switchLoader, script)]
        lines = {
            each: iptablesLines(rules, earlier, device, each, only) for each in self._versions()
        }
        return [switch.SwitchChains(self._tools, variant, lines)]

    def _tool(self) -> str:
        """Which tool is used: L{_NFT}, or a variant of iptables."""
        if self._variant is None:
            works = nft.works(self._tools)
            self._variant = _NFT if works else iptables.variantOf(self._tools)
        return self._variant

    def _versions(self) -> tuple[int, ...]:
        return (4, 6) if self._hasIPv6 else (4,)

    def _neighbourhood(self, host: Host) -> Neighbourhood:
        others = (each for each in host.interfaces if each.name not in host.uplinks)
        behind = {network for each in others for network in each.networks}
        networks = [ip_network(each) for each in behind] if host.uplinks else []
        proxies = tuple(
            each for each in host.behind if any(ip_address(each) in there for there in networks)
        )
        if self._settings.lan == "proxy" or self._tool() == _NFT or not host.uplinks:
            # nft asks for the route itself.
            return Neighbourhood(host.uplinks, proxies=proxies)
        return Neighbourhood(host.uplinks, tuple(sorted(behind)), proxies)

    def _rules(self, killSwitch: bool, marks: Marks, around: Neighbourhood) -> IChange:
        device, tools = self._settings.tunName, self._tools
        excluded = self._settings.excludedProcesses
        exclusions = Exclusions(self._excludedUsers(), groupsAmong(excluded), self._networks, marks)
        cgroups = Cgroups(excluded, cgroupMount(self._mounts))
        variant, chosen = self._tool(), self._onlyThese()
        if variant == _NFT:
            return nft.NftTable(
                self._loader, device, exclusions, killSwitch, cgroups, around, chosen=chosen
            )
        versions = self._versions()
        return iptables.IptablesChains(
            tools, device, exclusions, variant, versions, cgroups, around, chosen=chosen
        )

    def _onlyThese(self) -> Chosen:
        if self._chosen is None:
            only = self._settings.onlyProcesses
            self._chosen = Chosen(chosenUsers(only), groupsAmong(only))
        return self._chosen

    def _excludedUsers(self) -> tuple[int, ...]:
        if self._users is None:
            self._users, unknown = excludedUsers(self._settings.excludedProcesses)
            for name in unknown:
                _log.warn("There is no user {name}, so none is excluded.", name=name)
        return self._users


def firewallKinds(
    tools: Tools | None = None, mounts: str = MOUNTS
) -> Mapping[str, Callable[[dict[str, Any]], IChange]]:
    """For each kind of these changes, the function that makes one from its record."""
    tools = SystemTools() if tools is None else tools
    folder = cgroupMount(mounts)
    return {
        nft.NftTable.kind: lambda record: nft.tableFromRecord(tools, folder, record),
        iptables.IptablesChains.kind: lambda record: iptables.chainsFromRecord(
            tools, folder, record
        ),
        switch.SwitchTable.kind: lambda record: switch.switchTableFromRecord(tools, record),
        switch.SwitchChains.kind: lambda record: switch.switchChainsFromRecord(tools, record),
        resolvconf.ResolvConfFile.kind: resolvconf.fromRecord,
        resolved.ResolvedLink.kind: lambda record: resolved.linkFromRecord(tools, record),
    }


def firewallLeftovers(tools: Tools | None = None) -> list[IChange]:
    """
    The changes that are ours by their name, whether a journal names them or not: to undo.
    """
    tools = SystemTools() if tools is None else tools
    none, nowhere = Exclusions(), Cgroups((), "")
    found: list[IChange] = [*switch.switchLeftovers(tools)]
    file = resolvconf.findFile()
    if file is not None:
        found.append(resolvconf.ResolvConfFile(file.runDir))
    if tools.path("nft"):
        found.append(
            nft.NftTable(nft.NftLoader(tools), "", none, False, nowhere, unconditional=True)
        )
    for variant in iptables.VARIANTS:
        for version, name in iptables.NAMES.items():
            if tools.path(f"{name}-{variant}" if variant else name):
                found.append(
                    iptables.IptablesChains(
                        tools, "", none, variant, (version,), nowhere, unconditional=True
                    )
                )
    return found


def _collapsed(networks: Iterable[Network]) -> tuple[str, ...]:
    """
    The same addresses as networks of which none overlaps another, which nft refuses, in order.
    If there are too many, the widest of them.
    """
    found: list[tuple[int, str]] = []
    last = (4, -1)
    # Of two networks that overlap one is inside the other, and the wider one comes first.
    # C{ipaddress.collapse_addresses} takes five times as long.
    order = sorted(
        (each.version, int(each.network_address), each.prefixlen, each) for each in networks
    )
    for version, first, length, network in order:
        if (version, first) > last:
            found.append((length, str(network)))
            last = version, first + (1 << network.max_prefixlen - length) - 1
    if len(found) > NETWORKS:
        _log.warn(
            "The firewall leaves alone only the DNS queries to the {many} widest networks of "
            "excludedIPs; those to the other {rest} are answered by the relay.",
            many=NETWORKS,
            rest=len(found) - NETWORKS,
        )
        widest = set(sorted(found)[:NETWORKS])
        found = [each for each in found if each in widest]
    return tuple(text for _, text in found)


def groupsAmong(chosen: tuple[Selector, ...]) -> tuple[str, ...]:
    """The selectors of cgroups and units, as they are written."""
    kinds = (SelectorKind.CGROUP, SelectorKind.UNIT)
    return tuple(str(selector) for selector in chosen if selector.kind in kinds)
