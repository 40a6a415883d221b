"""
The network of a cell apart from its device: the loopback and the default routes.
"""

from __future__ import annotations

import contextlib
import os
import socket

from nanotun.addresses import GATEWAY4, GATEWAY6
from nanotun.errors import RoutingError
from nanotun.linux.linkchange import LinkChanges
from nanotun.linux.network import addresses

#: The groups that may ping without privileges: icmp(7), none in a new network namespace.
PING_GROUPS = "/proc/sys/net/ipv4/ping_group_range"


def routeAll(device: str) -> None:
    """
    Bring the loopback up and route everything else to the gateway, in the network namespace
    of this process.

    @param device: name of the device, which is up and has its addresses.
    @raise RoutingError: the kernel refuses; with one sentence.
    """
    # An ordinary user's ping(8) has no other way; it gets no privileges from its file.
    with contextlib.suppress(OSError), open(PING_GROUPS, "w") as file:
        file.write(f"{os.getegid()} {os.getegid()}")
    try:
        with LinkChanges() as changes:
            # The kernel gives the first device of a namespace, the loopback, index 1.
            changes.setUp(1, True)
            index = socket.if_nametoindex(device)
            changes.addDefaultRoute(index, GATEWAY4)
            if _hasIPv6(device):
                changes.addDefaultRoute(index, GATEWAY6)
    except OSError as error:
        raise RoutingError(
            f"the command's network gets no routes ({error.strerror}); "
            "please report this, with the version of the kernel."
        ) from None


def _hasIPv6(device: str) -> bool:
    """Whether the device has an IPv6 address; without IPv6 the opener gives it none."""
    try:
        return any(each.link == device and each.network.version == 6 for each in addresses())
    except OSError:
        return False
