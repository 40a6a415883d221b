"""
What the firewall does, as values.

nft and iptables do the same:

 - DNS (port 53, UDP and TCP) of this machine and of machines behind it is redirected to
   the gateway.  Exceptions are marked packets and queries to an address of this machine
   itself: a server there, such as systemd-resolved on 127.0.0.53, sends its own queries to
   the outside, and those are redirected.  DNS servers in local networks count as outside.
 - DNS that leaves by another interface than the tunnel's nevertheless, because its socket
   is bound to that interface, is dropped.  The sender gets EPERM at once (UDP), or waits in
   vain (TCP).
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
 - Packets of excluded users and cgroups are marked.  Their source address was chosen for
   the route into the tunnel, and is replaced by that of the new route.

The changes are applied after the device has its addresses, and before the rules that send
unmarked packets there.  So answers are marked before they could take the wrong route, and
DNS reaches the relay at once, because the gateway's network is connected to the device.
They are undone in the reverse order: as long as packets take the tunnel, the firewall must
be complete.
"""

from __future__ import annotations

import hashlib
import re
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


class FirewallRules(NamedTuple):
    """
    The rules to load.

    @ivar device: the tunnel's.
    @ivar uids: excluded users.
    @ivar cgroups: excluded groups.
    @ivar key: names the change that loads them: C{[0-9a-f]+}, or empty.
    @ivar marks: of other VPNs' own packets.
    """

    device: str
    uids: tuple[int, ...] = ()
    cgroups: tuple[Cgroup, ...] = ()
    key: str = ""
    marks: Marks = ()


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
    @ivar marks: of other VPNs' own packets.
    """

    uids: tuple[int, ...] = ()
    selectors: tuple[str, ...] = ()
    marks: Marks = ()

    def record(self) -> dict[str, Any]:
        """In JSON's types."""
        record = {"uids": list(self.uids), "selectors": list(self.selectors)}
        return {**record, "marks": list(map(list, self.marks))} if self.marks else record

    @classmethod
    def fromRecord(cls, record: dict[str, Any]) -> Exclusions:
        """
        The reverse of L{record}.

        @raise ValueError, TypeError, KeyError: the record is invalid.
        """
        return cls(
            tuple(map(int, record["uids"])),
            tuple(map(str, record["selectors"])),
            tuple((int(mark), int(mask)) for mark, mask in record.get("marks", ())),
        )
