"""
Plans the changes that send all traffic into the tunnel, in the order to apply them.

Nothing in the table C{main} is changed.  The rules of one family, in the order in which
the kernel reads them::

    7400  marked: nanotun's own, and those let past         goto 7499
    7402  from the tunnel, to a machine behind this one     goto 7499
    7403  with the mark of another VPN                      goto 7499
    7405  to the tunnel's own networks                      lookup 28276
    7410  from an SSH server's port                         goto 7499
    7415  DHCP, to renew a lease                            goto 7499
    7420  to a proxy                                        goto 7499
    7421  from a proxy behind this machine                  goto 7499
    7430  of an excluded user                               goto 7499
    7440  to the link, and with C{lan: direct} to the LAN   goto 7499
    7450  not marked                                        lookup 28276
    7460  not marked (killSwitch, or IPv6 blocked)          unreachable
    7499                                                    nop

With C{onlyProcesses} 7450 and 7460 are several rules each, which take less: what this machine
sends for a chosen user, or with the mark that the firewall gives to what chosen programs send.

The reasons:
 - Packets that bypass the tunnel continue after our last rule, as if nanotun did not run:
   other programs' rules, and an uplink without a gateway, work as before.
 - No marked packet can enter the tunnel, whichever rule is missing: it would loop.
 - Only private and connected destinations are ever looked up in C{main}.  A route that a
   network pushes (0.0.0.0/1, or longer ones to public addresses; by DHCP option 121 or by
   router advertisements) therefore has no effect, which no C{suppress_prefixlength} would
   achieve for all lengths.  A DHCP server could also make a public network a connected one:
   networks larger than L{LARGEST4} and L{LARGEST6} are not believed.
 - What a proxy sends by way of this machine, such as one in a container, is its own
   traffic, whatever it is: in the tunnel it would come back to the proxy for ever.  No
   socket of this machine has that source, because its own addresses are never among them.
 - Without the tunnel's device its table has no route, and lookups continue: in C{main}, or
   with C{killSwitch} at C{unreachable}.  That is a rule, not a route, because IPv6 ignores
   an unreachable route if the socket is bound to an interface.
 - Each rule that lets something past is set before the one that catches everything.
 - The kernel places a rule that another program adds without a priority (wg-quick does) just
   before our first one.  Then all of ours move down, to be before it again
   (L{nanotun.routing.others.firstAmong}).
 - No rule takes packets that are forwarded, or of a program that is not chosen.  A user's packets
   are marked as well; but a rule of the user's own gives them the tunnel's address from the
   beginning, whereas a mark comes after the source address was chosen.  For root there is the
   mark alone: nanotun's own sockets are root's.
 - Another VPN reaches its server past the tunnel: nanotun reaches its proxy through that VPN, and
   would send it the VPN's own packets.  Only a privileged program can give a packet a mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from nanotun.addresses import (
    BROADCAST4,
    CAPTURE_MARK,
    LARGEST4,
    LARGEST6,
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
VPN = 7403
OWN = 7405
SSH = 7410
DHCP = 7415
PROXY = 7420
BEHIND = 7421
USERS = 7430
LAN = 7440
TUNNEL = 7450
NOTHING_ELSE = 7460
END = LAST

#: In rules, the incoming interface of packets that this machine sends.  Forwarded packets
#: must not match: the kernel takes them for root's.
LOCAL = "lo"

#: Networks of the tunnel: the gateway's, and the fake addresses.
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

#: Rules of one kind; the kernel tries them one by one for each packet.
EXCEPTIONS_LIMIT = 64

_LOOSE = 2
_STRICT = 1


def plan(wishes: Wishes, host: Host) -> tuple[list[Change], list[Change]]:
    """
    Plan the changes.

    @return: the changes that only prepare, and the changes that catch the traffic.  All
        other changes have to be applied between the two.
    """
    first: list[Change] = list(_reversePaths(wishes, host))
    last: list[Change] = []
    for family in (4, 6) if host.hasIPv6 else (4,):
        first += _exceptions(family, wishes, host)
        last += _catching(family, wishes, host)
    return _from(host.first, first), _from(host.first, last)


def _from(start: int, changes: list[Change]) -> list[Change]:
    """The same changes with rules that begin at this priority instead of L{FIRST}."""
    down = FIRST - start
    return [
        each._replace(
            priority=each.priority - down,
            target=each.target - (down if each.action == "goto" else 0),
        )
        if isinstance(each, Rule)
        else each
        for each in changes
    ]


def captures(family: int, wishes: Wishes, host: Host) -> bool:
    """Whether a family's packets take the tunnel; if not, the family is blocked."""
    if family == 4 or wishes.ipv6 == "capture":
        return True
    return wishes.ipv6 == "auto" and host.usesIPv6 and host.tunnelHasIPv6


def _reversePaths(wishes: Wishes, host: Host) -> Iterable[Change]:
    """
    Make strict reverse path filters loose.  A strict filter drops a packet that arrives by
    another interface than the one by which an unmarked packet to its sender would leave
    (RFC 3704, section 2.2), and so all answers to marked packets.  A loose one (section
    2.4) accepts packets from senders that are reachable by any interface.
    """
    filters = [
        (each.name, each.rpFilter) for each in host.interfaces if each.gateways or each.answers
    ]
    for name, value in [*filters, (wishes.device, host.rpFilterTunnel)]:
        if max(value, host.rpFilterAll) == _STRICT:
            yield Sysctl(f"net/ipv4/conf/{name}/rp_filter", str(_LOOSE), str(value))


def isOurs(sysctl: Sysctl) -> bool:
    """Whether it is a setting that a plan may contain, with a value from before."""
    found = re.fullmatch(r"net/ipv4/conf/([^/\0]+)/rp_filter", sysctl.name)
    return (
        found is not None
        and found[1] not in ("all", "default", ".", "..")
        and sysctl.value == str(_LOOSE)
        and sysctl.before in ("0", "1", "2")
    )


def _exceptions(family: int, wishes: Wishes, host: Host) -> list[Change]:
    """The rules that let something bypass the tunnel, in the order to set them."""

    def past(priority: int, **selectors: Any) -> Rule:
        return Rule(family, priority, "goto", END, **selectors)

    # The kernel ignores a goto whose target is missing.
    rules = [Rule(family, END, "nop"), past(MARKED, mark=SOCKET_MARK)]
    if captures(family, wishes, host):
        rules += [past(RETURN, incoming=wishes.device)]
    rules += [
        past(VPN, mark=each.mark, mask=each.mask, incoming=LOCAL)
        for each in host.marks
        if each.family == family
    ]
    if captures(family, wishes, host):
        rules += [Rule(family, OWN, "lookup", TABLE, to=each) for each in OWN_NETWORKS[family]]
    rules += [
        past(SSH, transport="tcp", sourcePort=port, incoming=LOCAL)
        for port in host.sshPorts[:EXCEPTIONS_LIMIT]
    ]
    client, server = DHCP_PORTS[family]
    rules += [
        past(DHCP, transport="udp", sourcePort=client, destinationPort=server, incoming=LOCAL)
    ]
    # The answers to what a proxy behind this machine sends come back by this machine, too.
    proxies = [ip_address(each) for each in dict.fromkeys((*host.proxies, *host.behind))]
    rules += [
        past(PROXY, to=f"{each}/{each.max_prefixlen}")
        for each in proxies[:EXCEPTIONS_LIMIT]
        # The kernel delivers to its own addresses before it reads these rules.
        if each.version == family and not each.is_loopback and not each.is_unspecified
    ]
    rules += [
        past(BEHIND, source=f"{each}/{each.max_prefixlen}")
        for each in map(ip_address, host.behind[:EXCEPTIONS_LIMIT])
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
    blocked = _caught(family, wishes, NOTHING_ELSE, "unreachable")
    if not captures(family, wishes, host):
        return list(blocked)
    tunnel = _caught(family, wishes, TUNNEL, "lookup", TABLE)
    through: list[Change] = [Route(family, wishes.device), *tunnel]
    return [*through, *blocked] if wishes.killSwitch else through


def _caught(family: int, wishes: Wishes, priority: int, action: str, target: int = 0) -> list[Rule]:
    """The rules that do something with all packets that are to take the tunnel."""
    rule = Rule(family, priority, action, target)
    if not wishes.only:
        return [rule._replace(mark=SOCKET_MARK, invert=True)]
    local = rule._replace(incoming=LOCAL)
    users = [local._replace(uids=(uid, uid)) for uid in wishes.onlyUids if uid]
    return [*users, local._replace(mark=CAPTURE_MARK)]
