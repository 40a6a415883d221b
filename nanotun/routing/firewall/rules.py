"""
What the firewall does, as values.

nft and iptables do the same:

 - DNS (port 53, UDP and TCP) of this machine and of machines behind it is redirected to
   the gateway.  Exceptions are marked packets, the networks of excludedIPs, and queries to an
   address of this machine itself: a server there, such as systemd-resolved on 127.0.0.53,
   sends its own queries to the outside, and those are redirected.  For this machine's own
   queries DNS servers in local networks count as outside; forwarded ones are left alone if
   they go to another interface than the tunnel's and the uplinks.  With nft, a datagram that
   does not begin like a query is left alone, too: the relay could not answer it.
 - What another program's rules redirect stays redirected by those.  This is why ours come
   after theirs.
 - A proxy behind this machine, such as one in a container, asks its own DNS servers: the relay may
   have its queries answered by that very proxy.
 - DNS that leaves by another interface than the tunnel's nevertheless, because its socket
   is bound to that interface, is dropped.  The sender gets EPERM at once (UDP), or waits in
   vain (TCP).  Of this machine's own queries only those pass that go to excludedIPs, or that
   another program's rules have redirected to a local network.
 - DNS to a link-local address is dropped before it is sent, so that the sender tries its
   next server: the relay's answer could not reach such a socket.
 - Packets from outside to the gateway or to the tunnel's own address are dropped, so that
   neighbours learn nothing about the tunnel.
 - Answers to connections from outside leave by the interface where the connection came
   from: the connection gets our mark as its conntrack mark, unless it already has another
   one, and its answers are marked.  A TCP connection that is older than the rules is known
   to conntrack only from its next packet on, whose sender is taken for the initiator: if
   that is this machine, from one of L{SERVER_PORTS} and not from the tunnel's address, the
   packet is a server's answer.
 - Another VPN's own packets, which have its mark, keep it, and are no DNS, whatever their port.
 - With onlyProcesses, packets of the chosen users and cgroups get a mark of their own, by which
   the routing rules lead them into the tunnel.  Nothing of the above is done about what others
   send, or what is forwarded: their DNS is neither redirected nor dropped.  Packets that the
   kernel sends without a socket, such as a reset, belong to whoever sent the connection's first
   one, which its conntrack mark says.
 - Packets of excluded users and cgroups are marked.  Their source address was chosen for
   the route into the tunnel, and is replaced by that of the new route.  So is that of packets
   which another program's rules take out of the tunnel.

The changes are applied after the device has its addresses, and before the rules that send
unmarked packets there.  So answers are marked before they could take the wrong route, and
DNS reaches the relay at once, because the gateway's network is connected to the device.
They are undone in the reverse order: as long as packets take the tunnel, the firewall must
be complete.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from nanotun.addresses import GATEWAY4, GATEWAY6, KERNEL4, KERNEL6, OWN4, OWN6

#: The name of our nft table, and the prefix of our chains in iptables' tables.
TABLE = "nanotun"
CHAIN_PREFIX = "NANOTUN_"

#: System ports (RFC 6335, section 6): packets from one of these are sent by a server.
SERVER_PORTS = (1, 1023)


class Family(NamedTuple):
    """
    One IP version's addresses.

    @ivar word: nft's name for it.
    @ivar kernel: the source address of packets that were routed into the tunnel.
    @ivar own: the tunnel's own networks.  No query to one of these is redirected: the
        relay would then answer hosts other than this machine.
    @ivar link: the network between the kernel and the gateway.
    """

    version: int
    word: str
    gateway: str
    kernel: str
    own: str
    link: str


FAMILIES = (
    Family(4, "ip", GATEWAY4, KERNEL4.partition("/")[0], OWN4, KERNEL4),
    Family(6, "ip6", GATEWAY6, KERNEL6.partition("/")[0], OWN6, KERNEL6),
)


class Cgroup(NamedTuple):
    """
    A control group of version 2 that exists.

    @ivar path: below the hierarchy's root, with a leading slash.
    @ivar tool: the path for nft, below /sys/fs/cgroup; empty if the hierarchy is mounted
        elsewhere.
    @ivar id: its number, which changes if it is removed and created again.
    """

    path: str
    tool: str
    id: int

    @property
    def level(self) -> int:
        """Its depth below the root."""
        return self.path.count("/")


#: Marks, each with the bits that count; 0 for all.
Marks = tuple[tuple[int, int], ...]


class Neighbourhood(NamedTuple):
    """
    Where forwarded queries may go.

    @ivar uplinks: interfaces that lead to the Internet; empty if none is known, and then
        every query is redirected.
    @ivar behind: the networks that are connected to other interfaces; for iptables, which
        cannot ask for a route.
    @ivar proxies: addresses of proxies behind this machine, whose own queries may go
        anywhere: the relay may have them answered by the proxy itself.
    """

    uplinks: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """In JSON's types."""
        return {name: list(values) for name, values in self._asdict().items()}

    @classmethod
    def fromRecord(cls, record: dict[str, Any]) -> Neighbourhood:
        """
        The reverse of L{record}; a record of an earlier version has nothing of it.

        @raise TypeError: the record is invalid.
        """
        return cls(*(tuple(map(str, record.get(name, ()))) for name in cls._fields))


#: Of a machine of which nothing is known.
ALONE = Neighbourhood()


class FirewallRules(NamedTuple):
    """
    The rules to load.

    @ivar device: the tunnel's.
    @ivar uids: excluded users.
    @ivar cgroups: excluded groups.
    @ivar key: names the change that loads them: C{[0-9a-f]+}, or empty.
    @ivar networks: those of excludedIPs, none inside another.
    @ivar uplinks: see L{Neighbourhood}.
    @ivar behind: see L{Neighbourhood}.
    @ivar proxies: see L{Neighbourhood}.
    @ivar marks: of other VPNs' own packets.
    @ivar only: whether all but what chosen programs send is left alone.
    @ivar onlyUids: the chosen users.
    @ivar onlyGroups: the chosen groups that exist.
    """

    device: str
    uids: tuple[int, ...] = ()
    cgroups: tuple[Cgroup, ...] = ()
    key: str = ""
    networks: tuple[str, ...] = ()
    uplinks: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    marks: Marks = ()
    only: bool = False
    onlyUids: tuple[int, ...] = ()
    onlyGroups: tuple[Cgroup, ...] = ()


def ofFamily(networks: Iterable[str], family: Family) -> list[str]:
    """The networks of one IP version."""
    return [each for each in networks if (":" in each) == (family.version == 6)]


#: The signature in a comment, which says whose rules these are, and which.
_SIGNED = re.compile(rf"{TABLE}-([0-9a-f]*)-[0-9a-f]{{8}}\b")


def digest(text: str) -> str:
    """A short hash of a text, enough to tell it from a few others."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def signature(key: str, text: str) -> str:
    """
    The comment that is added to the rules.

    @param text: the text of all rules.
    """
    return f"{TABLE}-{key}-{digest(text)}"


def signatureIn(text: str) -> str:
    """The first signature in a text; empty if there is none."""
    found = _SIGNED.search(text)
    return found[0] if found else ""


def keyIn(listing: str) -> str | None:
    """The key of the change that loaded the listed rules; L{None} if there is none."""
    found = _SIGNED.search(listing)
    return found[1] if found else None


class Exclusions(NamedTuple):
    """
    The exclusions that the kernel can match.

    @ivar selectors: of cgroups and units, as they are written.
    @ivar networks: networks of excludedIPs, none inside another.
    @ivar marks: of other VPNs' own packets.
    """

    uids: tuple[int, ...] = ()
    selectors: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    marks: Marks = ()

    def record(self) -> dict[str, Any]:
        """In JSON's types."""
        return {
            "uids": list(self.uids),
            "selectors": list(self.selectors),
            "networks": list(self.networks),
            "marks": list(map(list, self.marks)),
        }

    @classmethod
    def fromRecord(cls, record: dict[str, Any]) -> Exclusions:
        """
        The reverse of L{record}; a record of an earlier version has no networks.

        @raise ValueError, TypeError, KeyError: the record is invalid.
        """
        return cls(
            tuple(map(int, record["uids"])),
            tuple(map(str, record["selectors"])),
            tuple(map(str, record.get("networks", ()))),
            tuple((int(mark), int(mask)) for mark, mask in record.get("marks", ())),
        )


class Chosen(NamedTuple):
    """
    What C{onlyProcesses} names.

    @ivar selectors: of cgroups and units, as they are written.
    """

    uids: tuple[int, ...] = ()
    selectors: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """In JSON's types; nothing if nothing is chosen, as in records of earlier versions."""
        if self == EVERYBODY:
            return {}
        return {"onlyUids": list(self.uids), "onlySelectors": list(self.selectors)}

    @classmethod
    def fromRecord(cls, record: dict[str, Any]) -> Chosen:
        """
        The reverse of L{record}.

        @raise ValueError, TypeError: the record is invalid.
        """
        return cls(
            tuple(map(int, record.get("onlyUids", ()))),
            tuple(map(str, record.get("onlySelectors", ()))),
        )


#: What onlyProcesses does not work without.
NO_GROUPS = (
    "onlyProcesses names control groups, and this machine's firewall cannot tell them apart ({}, "
    "with version 2 {}); name users (uid:) instead."
)

#: Nothing is chosen: the tunnel is for all programs.
EVERYBODY = Chosen()


def keyOf(chosen: Chosen, *made: object) -> str:
    """
    The key of the change that loads the rules; see L{FirewallRules}.

    @param made: what else the rules are made of.
    """
    # An earlier version, whose rules may have to be undone, knew nothing of the chosen.
    return digest(repr(made if chosen == EVERYBODY else (*made, chosen)))
