"""
What has to be changed so that all traffic takes the tunnel, in the order to do it.

Nothing in the table C{main} is touched.  The rules of one family, in the order the
kernel reads them::

    7400  marked: ours, and what the firewall lets past     goto 7499
    7402  come out of the tunnel, for a machine behind us   goto 7499
    7405  to the tunnel's own networks                      lookup 28276
    7410  from an SSH server's port                         goto 7499
    7415  DHCP, to renew a lease                            goto 7499
    7420  to a proxy                                        goto 7499
    7430  of an excluded user                               goto 7499
    7440  to the link, and with C{lan: direct} to the LAN   goto 7499
    7450  not marked                                        lookup 28276
    7460  not marked (killSwitch, or IPv6 blocked)          unreachable
    7499                                                    nop

Why so:
 - What goes past the tunnel goes on behind our last rule, as if we were not there:
   other people's rules and an uplink without a gateway work as before.
 - No marked packet can come into the tunnel, whichever rule is missing: that would
   be a loop.
 - Only destinations that are private, or connected, are ever looked up in C{main}.
   A route that somebody pushes (0.0.0.0/1, or longer ones to public addresses; by
   DHCP option 121 or by router advertisements) so leads nowhere, which no
   C{suppress_prefixlength} would achieve for all lengths.  Whoever hands out the
   lease could also call a public network connected: one larger than L{LARGEST4} and
   L{LARGEST6} is not believed.
 - Without the tunnel's device there is no route in its table, and lookups go on:
   to C{main}, or with C{killSwitch} to C{unreachable}.  That one is a rule and no
   route, as IPv6 passes by an unreachable route if a socket is bound to an interface.
 - Each rule that lets something past is there before the one that catches all.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from nanotun.addresses import (
    BROADCAST4,
    LINK_LOCAL6,
    LOCAL_NETWORKS,
    MULTICAST4,
    MULTICAST6,
    OWN4,
    OWN6,
    SOCKET_MARK,
)
from nanotun.routing.values import FIRST, LAST, TABLE, Host, Route, Rule, Sysctl, Wishes

Change = Rule | Route | Sysctl

MARKED = FIRST
RETURN = 7402
OWN = 7405
SSH = 7410
DHCP = 7415
PROXY = 7420
USERS = 7430
LAN = 7440
TUNNEL = 7450
NOTHING_ELSE = 7460
END = LAST

#: The interface that this machine's own packets come in by, for rules.  What is only
#: forwarded is of no user here: the kernel takes it for root's.
LOCAL = "lo"

#: Networks of the tunnel: the gateway's, and the addresses that stand for names.
OWN_NETWORKS = {4: (OWN4,), 6: (OWN6,)}

#: What C{lan: direct} means: local networks, multicast and broadcast.
PRIVATE = {
    4: (*LOCAL_NETWORKS[4], MULTICAST4, BROADCAST4),
    6: (*LOCAL_NETWORKS[6], MULTICAST6),
}

#: Reachable on the link only, whatever C{lan} says.
LINK: dict[int, tuple[str, ...]] = {4: (), 6: (LINK_LOCAL6,)}

#: A DHCP client's port and its server's (RFC 2131, section 4.1; RFC 8415, section 7.2).
DHCP_PORTS = {4: (68, 67), 6: (546, 547)}

#: The largest network, as its prefix length, that is believed to be connected.
#: What an access network hands out is smaller.
LARGEST4 = 16
LARGEST6 = 48

#: More would make each lookup of the kernel slow; it walks through them one by one.
EXCEPTIONS_LIMIT = 64

_LOOSE = 2
_STRICT = 1


def plan(wishes: Wishes, host: Host) -> tuple[list[Change], list[Change]]:
    """
    What to change.

    @return: what only prepares, and then what catches the traffic.  Between the two
        is the place of whatever else has to be ready by then.
    """
    first: list[Change] = list(_reversePaths(wishes, host))
    last: list[Change] = []
    for family in (4, 6) if host.hasIPv6 else (4,):
        first += _exceptions(family, wishes, host)
        last += _catching(family, wishes, host)
    return first, last


def captures(family: int, wishes: Wishes, host: Host) -> bool:
    """Whether a family's packets go through the tunnel; they are unreachable if not."""
    if family == 4 or wishes.ipv6 == "capture":
        return True
    return wishes.ipv6 == "auto" and host.usesIPv6 and host.tunnelHasIPv6


def _reversePaths(wishes: Wishes, host: Host) -> Iterable[Change]:
    """
    With strict reverse path filtering the kernel drops an answer that comes in
    where an unmarked packet to its sender would not go out (RFC 3704, section 2.2),
    as all answers to marked packets do.  Loose filtering, section 2.4, lets in what
    could come in by any interface.
    """
    filters = [(each.name, each.rpFilter) for each in host.interfaces if each.gateways]
    for name, value in [*filters, (wishes.device, host.rpFilterTunnel)]:
        if max(value, host.rpFilterAll) == _STRICT:
            yield Sysctl(f"net/ipv4/conf/{name}/rp_filter", str(_LOOSE), str(value))


def _exceptions(family: int, wishes: Wishes, host: Host) -> list[Change]:
    """The rules that let something past, from the last to the first."""

    def past(priority: int, **selectors: Any) -> Rule:
        return Rule(family, priority, "goto", END, **selectors)

    # A goto whose target is missing is passed over by the kernel.
    rules = [Rule(family, END, "nop"), past(MARKED, mark=SOCKET_MARK)]
    if captures(family, wishes, host):
        rules += [past(RETURN, incoming=wishes.device)]
        rules += [Rule(family, OWN, "lookup", TABLE, to=each) for each in OWN_NETWORKS[family]]
    rules += [
        past(SSH, transport="tcp", sourcePort=port, incoming=LOCAL)
        for port in host.sshPorts[:EXCEPTIONS_LIMIT]
    ]
    client, server = DHCP_PORTS[family]
    rules += [
        past(DHCP, transport="udp", sourcePort=client, destinationPort=server, incoming=LOCAL)
    ]
    proxies = [ip_address(each) for each in host.proxies]
    rules += [
        past(PROXY, to=f"{each}/{each.max_prefixlen}")
        for each in proxies[:EXCEPTIONS_LIMIT]
        # The kernel knows its own addresses before it comes to rules.
        if each.version == family and not each.is_loopback and not each.is_unspecified
    ]
    rules += [past(USERS, uids=(uid, uid), incoming=LOCAL) for uid in wishes.uids]
    networks = [*LINK[family]]
    if wishes.lan == "direct":
        networks += PRIVATE[family]
        networks += _connected(family, host)
    return [*rules, *(past(LAN, to=each) for each in networks)]


def _connected(family: int, host: Host) -> list[str]:
    """The connected networks that are not among the private ones."""
    largest = LARGEST4 if family == 4 else LARGEST6
    covered = [ip_network(each) for each in (*PRIVATE[family], *OWN_NETWORKS[family])]
    found: dict[str, None] = {}
    for interface in host.interfaces:
        for text in interface.networks:
            network = ip_network(text)
            if network.version == family and network.prefixlen >= largest:
                if not any(network.subnet_of(each) for each in covered):  # type: ignore[arg-type]
                    found[text] = None
    return list(found)[:EXCEPTIONS_LIMIT]


def _catching(family: int, wishes: Wishes, host: Host) -> list[Change]:
    blocked = Rule(family, NOTHING_ELSE, "unreachable", mark=SOCKET_MARK, invert=True)
    if not captures(family, wishes, host):
        return [blocked]
    tunnel = Rule(family, TUNNEL, "lookup", TABLE, mark=SOCKET_MARK, invert=True)
    through: list[Change] = [Route(family, wishes.device), tunnel]
    return [*through, blocked] if wishes.killSwitch else through
