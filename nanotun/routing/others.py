"""
What the routing rules of other programs mean for ours, from pyroute2's messages.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from nanotun.linux.network import KernelRoute, Link
from nanotun.routing.values import FIRST, FLOOR, LAST, PROTOCOL, Earlier, Mark

#: FR_ACT_TO_TBL, FR_ACT_GOTO and FIB_RULE_INVERT of linux/fib_rules.h.
LOOKUP = 1
GOTO = 2
INVERT = 2

#: All bits of a mark.
WHOLE = 0xFFFFFFFF

#: The attributes of another program's rule of which it can be told what it lets past.
_TOLD = frozenset(
    (
        "FRA_TABLE",
        "FRA_PRIORITY",
        "FRA_PROTOCOL",
        "FRA_FWMARK",
        "FRA_FWMASK",
        "FRA_DST",
        "FRA_SUPPRESS_PREFIXLEN",
        "FRA_SUPPRESS_IFGROUP",
    )
)
_NOTHING_SUPPRESSED = {"FRA_SUPPRESS_PREFIXLEN": WHOLE, "FRA_SUPPRESS_IFGROUP": WHOLE}

#: VPNs whose own packets get past; the kernel tries their rules one by one for each packet.
MARKS_LIMIT = 8

#: IFLA_INFO_KIND of the devices of VPNs that may mark their packets.  One of another kind, such
#: as PPPoE's, may be one of several uplinks, and a mark then says which packets take which.
MARKING = ("wireguard", "tun", "ovpn")

#: How many priorities our rules have.
_BLOCK = LAST - FIRST + 1


def priorityOf(message: Any) -> int:
    """
    The priority of another program's rule; 0 if the rule is ours, or the kernel's own for the
    table C{local}.
    """
    attributes = dict(message["attrs"])
    if attributes.get("FRA_PROTOCOL") == PROTOCOL:
        return 0
    return int(attributes.get("FRA_PRIORITY", 0))


def firstAmong(taken: Collection[int]) -> int:
    """
    The priority at which our rules have to begin, so that they come before those that the
    kernel has placed: a rule that is added without a priority gets the one of the second rule
    in force, less one.  Beside a running nanotun, and without such rules as Tailscale's, that
    is just before our first.

    @param taken: the priorities of other programs' rules.
    @return: L{FIRST} if nobody is in the way.
    """

    def isFree(start: int, end: int) -> bool:
        return not any(start <= each < end for each in taken)

    if isFree(FIRST - _BLOCK, FIRST):
        return FIRST
    for first in range(FIRST - _BLOCK, FLOOR, -_BLOCK):
        # Not among ours either: the kernel jumps over what is before the end.
        if isFree(first - _BLOCK, first + _BLOCK):
            return first
    return FLOOR


def earlierOf(
    message: Any, first: int, devices: Callable[[int, int], Sequence[str]]
) -> list[Earlier] | None:
    """
    What a rule of another program lets past before ours.

    @param first: the priority at which ours begin.
    @param devices: finds the devices to which a routing table leads, by address family and
        the table's number.
    @return: empty if the rule lets nothing past; L{None} if it cannot be told.
    """
    attributes = dict(message["attrs"])
    priority = priorityOf(message)
    action = message["action"]
    if not 0 < priority < first:
        return []
    if action != LOOKUP:
        return None if action == GOTO else []
    if not _isPlain(message) or message["flags"] & INVERT:
        return None
    found = Earlier(
        6 if message["family"] == socket.AF_INET6 else 4,
        priority,
        attributes.get("FRA_FWMARK", 0),
        attributes.get("FRA_FWMASK", WHOLE) if attributes.get("FRA_FWMARK") else 0,
        f"{attributes['FRA_DST']}/{message['dst_len']}" if "FRA_DST" in attributes else "",
    )
    if found.mark:
        return [found]
    leads = devices(message["family"], attributes.get("FRA_TABLE", message["table"]))
    if found.to:
        return [found] if any(leads) else []
    return [found._replace(device=each) for each in leads]


def takesAll(routes: Iterable[KernelRoute], links: Iterable[Link]) -> bool:
    """
    Whether a routing table sends everything into the device of a VPN that may mark its packets.

    @param routes: the table's.
    @param links: all links.
    """
    devices = {link.name for link in links if link.kind in MARKING}
    # Two routes of length 1 are the usual trick to override a default route.
    return any(each.link in devices and each.network.prefixlen <= 1 for each in routes)


def markOf(message: Any, leadsAway: Callable[[int, int], bool]) -> Mark | None:
    """
    The mark of a VPN's own packets, if this is the rule by which it takes all others, as those
    of wg-quick, NetworkManager and Mullvad do.

    @param leadsAway: see L{takesAll}; by address family and the table's number.
    @return: L{None} if it is no such rule.
    """
    attributes = dict(message["attrs"])
    mark, mask = attributes.get("FRA_FWMARK", 0), attributes.get("FRA_FWMASK", WHOLE)
    if (
        not priorityOf(message)
        or message["action"] != LOOKUP
        or not message["flags"] & INVERT
        or not mark
        or not _isPlain(message)
        or "FRA_DST" in attributes
        or not leadsAway(message["family"], attributes.get("FRA_TABLE", message["table"]))
    ):
        return None
    family = 6 if message["family"] == socket.AF_INET6 else 4
    return Mark(family, mark, 0 if mask == WHOLE else mask)


def _isPlain(message: Any) -> bool:
    """Whether a rule has no other conditions than mark and destination."""
    attributes = dict(message["attrs"])
    return (
        set(attributes) <= _TOLD
        and all(attributes.get(name, value) == value for name, value in _NOTHING_SUPPRESSED.items())
        and not message["src_len"]
        and not message["tos"]
    )
