"""
Checks of this machine's network, based on one L{MachineNetwork}.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

from zope.interface import implementer

from nanotun.addresses import FAKE4, FAKE6, KERNEL4, KERNEL6
from nanotun.config.settings import Settings
from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.doctor.machine import Holder, Machine
from nanotun.linux.fulltunnel import hasServerRoute, hasUplink
from nanotun.linux.network import TABLE_MAIN, TUNNELS, Link, MachineNetwork
from nanotun.rundir import command

OURS = tuple(ipaddress.ip_network(each, strict=False) for each in (KERNEL4, KERNEL6, FAKE4, FAKE6))

Survey = Callable[[], MachineNetwork]


@implementer(ICheck)
class AddressCheck:
    """Whether nanotun's own addresses and its device's name are free."""

    name = "addresses"

    def __init__(
        self,
        survey: Survey,
        settings: Settings,
        running: Callable[[], bool],
        holders: Callable[[str], list[Holder]],
        isRoot: bool,
    ) -> None:
        """
        @param running: whether a nanotun with these settings runs already.
        @param holders: the processes that have a device open, by its name.
        @param isRoot: whether C{holders} sees every process.
        """
        self._survey = survey
        self._holders = holders
        self._isRoot = isRoot
        self._tunName = settings.tunName
        self._running = running

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        survey = self._survey()
        found = []
        own = survey.link(self._tunName)
        if own is not None and not self._running():
            text, cure = self._taken(own)
            text = f"An interface named {self._tunName} exists already{text}."
            found.append(Finding(self.name, Level.FAIL, text, cure))
        taken = {
            (address.link, str(address.network))
            for address in survey.addresses
            if _overlaps(address.network) and address.link != self._tunName
        }
        taken |= {
            (route.link, str(route.network))
            for route in survey.routes
            if not route.isDefault
            and route.network.prefixlen >= 8
            and _overlaps(route.network)
            and route.link != self._tunName
        }
        for link, network in sorted(taken):
            found.append(
                Finding(
                    self.name,
                    Level.FAIL,
                    f"{network} on {link} overlaps nanotun's own addresses (198.18.0.0/30 and "
                    "198.19.0.0/16, fdfe:dcba:9876::/48).",
                    "Give that network other addresses, or end the program that uses them; "
                    "Clash and sing-box take the same ones.",
                )
            )
        return found or [
            Finding(self.name, Level.OK, f"{self._tunName} and nanotun's addresses are free.")
        ]

    def _taken(self, own: Link) -> tuple[str, str]:
        """
        What uses the interface that has our device's name, and the cure.  To delete it is
        the cure only if certainly no process has it open.
        """
        other = "Choose another tunName"
        if own.kind != "tun":
            return (f", of the kind {own.kind}" if own.kind else ""), f"{other}."
        for holder in self._holders(self._tunName):
            text = f"; process {holder.pid} ({holder.name}) uses it"
            if not holder.runDir:
                return text, f"{other}, or end that process."
            stop = command("stop", holder.runDir)
            return text, f"Run '{stop}', or choose another tunName and runDir."
        if own.carrier or not self._isRoot:
            return "; a program that cannot be seen from here may use it", f"{other}."
        delete = f"'ip link delete {self._tunName}'"
        return ", of the kind tun; nobody uses it", f"{other}, or remove it: {delete}."


def _overlaps(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return any(own.version == network.version and own.overlaps(network) for own in OURS)  # type: ignore[arg-type]


@implementer(ICheck)
class VpnCheck:
    """
    Whether another tunnel has taken the default route, and whether nanotun can tell its packets
    from others.
    """

    name = "other VPN"

    def __init__(
        self,
        survey: Survey,
        settings: Settings,
        holders: Callable[[str], list[Holder]],
        marks: Callable[[], Iterable[int]],
    ) -> None:
        """
        @param holders: the processes that have a device open, by its name.
        @param marks: of other VPNs' own packets.
        """
        self._survey = survey
        self._settings = settings
        self._tunName = settings.tunName
        self._holders = holders
        self._marks = marks

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        survey = self._survey()
        found = {}
        for route in survey.routes:
            link = survey.link(route.link)
            if link is None or link.kind not in TUNNELS or link.name == self._tunName:
                continue
            # Two routes of length /1 are the usual trick to override a default route.
            if route.network.prefixlen <= 1:
                table = "" if route.table == TABLE_MAIN else f" in table {route.table}"
                found[link.name] = link, f"{route.network}{table} leads into {link.name}"
        return [
            self._found(survey, link, taken)
            for link, taken in found.values()
            if hasUplink(survey.routes, (link.name, self._tunName))
        ] or [Finding(self.name, Level.OK, "No other VPN has the default route.")]

    def _found(self, survey: MachineNetwork, link: Link, taken: str) -> Finding:
        """What to say of another VPN."""
        holders = self._holders(link.name) if link.kind == "tun" else []
        by = f", of {holders[0].name}, process {holders[0].pid}" if holders else ""
        text = f"Another VPN has taken the default route: {taken} ({link.kind}{by})."
        if not self._settings.autoDefaultRoute:
            cure = (
                "nanotun's own connections go through it as well; end that VPN if they should not."
            )
            return Finding(self.name, Level.WARN, text, cure)
        excluded = {str(each) for each in self._settings.excludedProcesses}
        own = bool(holders) and (
            hasServerRoute(survey.routes, (link.name, self._tunName))
            or all(each.name in excluded for each in holders)
        )
        if own or any(True for _ in self._marks()):
            cure = (
                "nanotun's own connections go through it, and its packets past nanotun; end that "
                "VPN if they should not."
            )
            return Finding(self.name, Level.INFO, text, cure)
        program = "its program into excludedProcesses"
        if holders:
            program = f"'excludedProcesses: [{holders[0].name}]' into the configuration"
        cure = (
            "nanotun cannot tell its packets from others, so that they come back: write "
            f"{program}, or its server into excludedIPs."
        )
        return Finding(self.name, Level.WARN, text, cure)


@implementer(ICheck)
class Ipv6Check:
    """Whether this machine uses IPv6."""

    name = "IPv6"

    def __init__(self, survey: Survey, machine: Machine) -> None:
        self._survey = survey
        self._machine = machine

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        if self._machine.sysctl("net/ipv6/conf/default/disable_ipv6") != "0":
            return [
                Finding(
                    self.name,
                    Level.INFO,
                    "IPv6 is disabled on this machine: the tunnel carries IPv4 only, and nothing "
                    "leaks over IPv6.",
                )
            ]
        survey = self._survey()
        out = any(r.isDefault and r.network.version == 6 for r in survey.routes)
        return [
            Finding(
                self.name,
                Level.OK if out else Level.INFO,
                "IPv6 is on, and this machine has a default route for it."
                if out
                else "IPv6 is on and this machine has no default route for it: apps reach IPv6 "
                "hosts if the proxy does.",
            )
        ]


@implementer(ICheck)
class MtuCheck:
    """Whether the device's MTU fits the uplink's."""

    name = "MTU"

    def __init__(self, survey: Survey, settings: Settings) -> None:
        self._survey = survey
        self._mtu = settings.mtu

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        uplinks = self._survey().uplinks()
        if not uplinks:
            return [
                Finding(
                    self.name,
                    Level.WARN,
                    "There is no default route: only a proxy on a local network can be reached.",
                    "Connect this machine, unless the proxy is near.",
                )
            ]
        narrow = [link for link in uplinks if link.mtu < self._mtu]
        return [
            Finding(
                self.name,
                Level.INFO,
                f"mtu is {self._mtu}, and {link.name} carries {link.mtu}: TCP does not mind, large "
                "UDP datagrams are sent in fragments.",
                f"Where UDP matters, set mtu to {max(1280, link.mtu)}.",
            )
            for link in narrow
        ] or [
            Finding(
                self.name,
                Level.OK,
                f"mtu is {self._mtu}, and "
                + ", ".join(f"{link.name} carries {link.mtu}" for link in uplinks)
                + ".",
            )
        ]


@implementer(ICheck)
class ReversePathCheck:
    """
    Whether C{rp_filter} is strict: with routes by mark, the kernel then drops answers to
    marked packets unless C{src_valid_mark} makes it consider the mark (ip-sysctl).
    """

    name = "rp_filter"

    def __init__(self, survey: Survey, machine: Machine) -> None:
        self._survey = survey
        self._machine = machine

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        read = self._machine.sysctl
        base = "net/ipv4/conf/"
        if read(base + "all/src_valid_mark") == "1":
            return [Finding(self.name, Level.OK, "src_valid_mark is set.")]
        # The larger of the two values applies (ip-sysctl).
        strict = [
            link.name
            for link in self._survey().uplinks()
            if max(read(base + "all/rp_filter"), read(base + f"{link.name}/rp_filter")) == "1"
        ]
        if strict:
            return [
                Finding(
                    self.name,
                    Level.WARN,
                    f"rp_filter is strict on {', '.join(strict)}: with routes by mark, answers to "
                    "nanotun's own packets are dropped.",
                    "Run 'sysctl -w net.ipv4.conf.all.src_valid_mark=1', and put that line into "
                    "/etc/sysctl.d/.",
                )
            ]
        return [Finding(self.name, Level.OK, "rp_filter is not strict on the uplink.")]
