"""
What the firewall is to do, as values.

The same in nft and in iptables:

 - DNS (port 53, UDP and TCP) of this machine and of machines behind it goes to the
   gateway.  Left alone are marked packets and what goes to an address of this machine
   itself: the server there, such as systemd-resolved's on 127.0.0.53, asks the outside,
   and those queries are redirected.  DNS servers in local networks are the outside.
 - DNS that leaves by another interface than the tunnel's all the same, for its socket
   is bound to one, is dropped.  The sender is told EPERM at once (UDP), or waits in
   vain (TCP).
 - DNS to a link-local address is dropped before it is sent, so that whoever asks goes on
   to his next server: the relay's answer could not come back to such a socket.
 - What comes from outside, to the gateway or to the tunnel's own end, is dropped: a
   neighbour is to learn nothing of it.
 - What somebody outside asked of this machine is answered by the way it came: its
   connection is given the mark as a conntrack mark, unless somebody has given it
   another, and its answers are marked.  The kernel knows of a TCP connection that was
   there before only by its next packet, and takes its sender for who began it: if that
   is we, from a port of L{SERVER_PORTS} and not from the tunnel's address, it is the
   answer of a server.
 - Packets of excluded users and cgroups are marked.  Their source address was chosen
   for the way through the tunnel, and is made that of the real way.

When to apply these changes: after the device has its addresses, and before the rules
that send unmarked packets there.  Answers to connections are then marked before they
could go astray, and DNS goes to the relay at once, for the gateway's network is
connected to the device.  To be undone in the reverse order: while packets still go
into the tunnel nothing may be missing here.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

from nanotun.addresses import GATEWAY4, GATEWAY6, KERNEL4, KERNEL6, OWN4, OWN6

#: The name of the table, and what our chains in other people's tables begin with.
TABLE = "nanotun"
CHAIN_PREFIX = "NANOTUN_"

#: System ports (RFC 6335, section 6): who sends from one of these is a server.
SERVER_PORTS = (1, 1023)


class Family(NamedTuple):
    """
    One IP version's addresses.

    @ivar word: nft's name for it.
    @ivar kernel: the source address of packets that were to go into the tunnel.
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

    @ivar path: below the hierarchy's root, with a slash in front.
    @ivar tool: the same for nft, which starts at /sys/fs/cgroup; empty where the
        hierarchy is not below that.
    @ivar id: its number, which is another one after it was removed and made again.
    """

    path: str
    tool: str
    id: int

    @property
    def level(self) -> int:
        """How many groups it is below the root."""
        return self.path.count("/")


class FirewallRules(NamedTuple):
    """
    What to load.

    @ivar device: the tunnel's.
    @ivar uids: excluded users.
    @ivar cgroups: excluded groups.
    @ivar key: tells for which change they are loaded: C{[0-9a-f]+}, or empty.
    """

    device: str
    uids: tuple[int, ...] = ()
    cgroups: tuple[Cgroup, ...] = ()
    key: str = ""


#: What a comment has that tells whose rules these are, and which.
_SIGNED = re.compile(rf"{TABLE}-([0-9a-f]*)-[0-9a-f]{{8}}\b")


def digest(text: str) -> str:
    """Enough of a text's hash to tell it from the few others that there are."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def signature(key: str, text: str) -> str:
    """
    What is written into the rules as a comment.

    @param text: all that is to be loaded.
    """
    return f"{TABLE}-{key}-{digest(text)}"


def keyIn(listing: str) -> str | None:
    """For which change what is listed was loaded; L{None} if it does not say."""
    found = _SIGNED.search(listing)
    return found[1] if found else None


class Exclusions(NamedTuple):
    """
    Who is excluded, as far as the kernel can tell.

    @ivar selectors: of cgroups and units, as they are written.
    """

    uids: tuple[int, ...] = ()
    selectors: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {"uids": list(self.uids), "selectors": list(self.selectors)}

    @classmethod
    def fromRecord(cls, record: dict[str, Any]) -> Exclusions:
        """
        The reverse of L{record}.

        @raise ValueError, TypeError, KeyError: it is none.
        """
        return cls(tuple(map(int, record["uids"])), tuple(map(str, record["selectors"])))
