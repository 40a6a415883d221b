"""
Addresses, networks and numbers with a meaning, each named once: nanotun's own, and
those that are not on the Internet.

198.18.0.0/15 is reserved for benchmarks (RFC 2544, section C.2.2) and
fdfe:dcba:9876::/48 is a unique local prefix (RFC 4193): neither is on the
Internet.  The gateway's addresses exist only inside the stack.  If the kernel
had them, it would answer for them itself, and would refuse a route with one of
them as its gateway.
"""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

#: The kernel's addresses on the device, with the prefix length.
KERNEL4 = "198.18.0.2/30"
KERNEL6 = "fdfe:dcba:9876::2/126"

#: What the stack answers ping for and where routes point.
GATEWAY4 = "198.18.0.1"
GATEWAY6 = "fdfe:dcba:9876::1"

#: What C{dnsMode: fake-ip} answers names with.  The first is the other half of
#: 198.18.0.0/15.  A name's two addresses end in the same number.
FAKE4 = "198.19.0.0/16"
FAKE6 = "fdfe:dcba:9876:1::/64"

#: The networks that hold all of nanotun's addresses.
OWN4 = "198.18.0.0/15"
OWN6 = "fdfe:dcba:9876::/48"

#: The port of DNS, over UDP and TCP (RFC 1035, section 4.2).
DNS_PORT = 53

#: A name for this machine, as are all names below it (RFC 6761, section 6.3).
LOCALHOST = "localhost"

#: Networks that no name may lead to: nanotun's own, and IPv4-compatible addresses,
#: which are deprecated (RFC 4291, section 2.5.5.1).
_CLOSED4 = ip_network(OWN4)
_CLOSED6 = (ip_network(OWN6), ip_network("::/96"))

#: Addresses with an IPv4 address in their last four bytes (RFC 6052, section 2.1).
_NAT64 = ip_network("64:ff9b::/96")

#: SO_MARK of every socket that nanotun opens, so that a rule can keep them out
#: of the tunnel.  "nt" in ASCII.
SOCKET_MARK = 0x6E74

#: The mark of packets that C{onlyProcesses} wants in the tunnel, by which rules lead them there.
CAPTURE_MARK = 0x6E75

#: The first and the last address of the device's network, which stand for all of
#: it (RFC 1122, section 3.2.1.3).
_NETWORK = ip_network(KERNEL4, strict=False)
BROADCASTS = (str(_NETWORK.network_address), str(_NETWORK.broadcast_address))

#: RFC 4291, section 2.5.6.
LINK_LOCAL6 = "fe80::/10"

#: All multicast groups (RFC 5771; RFC 4291, section 2.7), and the broadcast address.
MULTICAST4 = "224.0.0.0/4"
MULTICAST6 = "ff00::/8"
BROADCAST4 = "255.255.255.255/32"


class Reach(enum.Enum):
    """How far packets to an address may go."""

    HOST = "host"  #: Never out of the host that sends them.
    LINK = "link"  #: Never past a router.
    SITE = "site"  #: Within somebody's own networks.
    GLOBAL = "global"  #: Everywhere.


class Special(NamedTuple):
    """
    A network with a purpose of its own.

    @ivar name: as the registry calls it.
    """

    network: str
    name: str
    source: str
    reach: Reach

    def __str__(self) -> str:
        return f"{self.network} ({self.name}, {self.source})"


#: The addresses that are not on the Internet: the IANA IPv4 and IPv6 Special-Purpose
#: Address Registries (RFC 6890, RFC 8190) as of 2025, with all that they call not
#: globally reachable, and the smaller globally reachable networks inside of those.
#: Networks that the registries leave open (Teredo, 6to4) are on the Internet.
SPECIALS = (
    Special("0.0.0.0/8", "this network", "RFC 791", Reach.HOST),
    Special("10.0.0.0/8", "private use", "RFC 1918", Reach.SITE),
    Special("100.64.0.0/10", "shared address space", "RFC 6598", Reach.SITE),
    Special("127.0.0.0/8", "loopback", "RFC 1122", Reach.HOST),
    Special("169.254.0.0/16", "link local", "RFC 3927", Reach.LINK),
    Special("172.16.0.0/12", "private use", "RFC 1918", Reach.SITE),
    # Holds the service continuity prefix, the dummy address and those of NAT64 discovery.
    Special("192.0.0.0/24", "IETF protocol assignments", "RFC 6890", Reach.SITE),
    Special("192.0.0.9/32", "PCP anycast", "RFC 7723", Reach.GLOBAL),
    Special("192.0.0.10/32", "TURN anycast", "RFC 8155", Reach.GLOBAL),
    Special("192.0.2.0/24", "documentation", "RFC 5737", Reach.SITE),
    Special("192.88.99.2/32", "6a44 relay anycast", "RFC 6751", Reach.SITE),
    Special("192.168.0.0/16", "private use", "RFC 1918", Reach.SITE),
    Special("198.18.0.0/15", "benchmarking", "RFC 2544", Reach.SITE),
    Special("198.51.100.0/24", "documentation", "RFC 5737", Reach.SITE),
    Special("203.0.113.0/24", "documentation", "RFC 5737", Reach.SITE),
    Special("240.0.0.0/4", "reserved", "RFC 1112", Reach.SITE),
    Special(BROADCAST4, "limited broadcast", "RFC 8190", Reach.LINK),
    Special("::/128", "unspecified address", "RFC 4291", Reach.HOST),
    Special("::1/128", "loopback", "RFC 4291", Reach.HOST),
    Special("::ffff:0:0/96", "IPv4-mapped address", "RFC 4291", Reach.HOST),
    Special("64:ff9b:1::/48", "IPv4/IPv6 translation, local", "RFC 8215", Reach.SITE),
    Special("100::/64", "discard-only", "RFC 6666", Reach.SITE),
    Special("100:0:0:1::/64", "dummy prefix", "RFC 9780", Reach.SITE),
    Special("2001::/23", "IETF protocol assignments", "RFC 2928", Reach.SITE),
    Special("2001::/32", "Teredo", "RFC 4380", Reach.GLOBAL),
    Special("2001:1::1/128", "PCP anycast", "RFC 7723", Reach.GLOBAL),
    Special("2001:1::2/128", "TURN anycast", "RFC 8155", Reach.GLOBAL),
    Special("2001:1::3/128", "SRP anycast", "RFC 9665", Reach.GLOBAL),
    Special("2001:3::/32", "AMT", "RFC 7450", Reach.GLOBAL),
    Special("2001:4:112::/48", "AS112", "RFC 7535", Reach.GLOBAL),
    Special("2001:20::/28", "ORCHIDv2", "RFC 7343", Reach.GLOBAL),
    Special("2001:30::/28", "drone remote ID", "RFC 9374", Reach.GLOBAL),
    Special("2001:db8::/32", "documentation", "RFC 3849", Reach.SITE),
    Special("3fff::/20", "documentation", "RFC 9637", Reach.SITE),
    Special("5f00::/16", "segment routing", "RFC 9602", Reach.SITE),
    Special("fc00::/7", "unique local", "RFC 4193", Reach.SITE),
    Special(LINK_LOCAL6, "link-local unicast", "RFC 4291", Reach.LINK),
)

#: What the table calls networks whose addresses mean something within one local
#: network, or one provider's, only.
_LOCAL_NAMES = ("private use", "shared address space", "link local", "unique local")


def _localNetworks(version: int) -> tuple[str, ...]:
    return tuple(
        each.network
        for each in SPECIALS
        if each.name in _LOCAL_NAMES and ip_network(each.network).version == version
    )


#: Those networks, by IP version: RFC 1918, RFC 6598, RFC 3927; RFC 4193.  Not
#: L{ipaddress}'s C{is_private}, which differs between versions of Python and counts
#: test networks.
LOCAL_NETWORKS = {4: _localNetworks(4), 6: _localNetworks(6)}

#: The prefix length of the largest network that is believed to be connected.  Access
#: networks are smaller.
LARGEST4 = 16
LARGEST6 = 48


def isLocalhost(host: str) -> bool:
    """Whether a name is L{LOCALHOST} or below it."""
    return f".{host.lower()}".endswith(f".{LOCALHOST}")


def isLoopback(host: str) -> bool:
    """Whether a host, a name or a literal address, is certainly this machine."""
    if isLocalhost(host):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def isAddress(host: str) -> bool:
    """Whether a host is a literal address and not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def isUnicast(host: str) -> bool:
    """
    Whether an address can be one host's, which multicast, broadcast, reserved
    and unspecified ones cannot.

    @param host: in its canonical text form.
    """
    if ":" in host:
        # RFC 4291, section 2.7: ff00::/8; "ff::" is 00ff::.
        return not (host == "::" or (host.startswith("ff") and host.index(":") == 4))
    first = int(host[: host.index(".")])
    return 0 < first < 224 and host not in BROADCASTS


def isFake(host: str) -> bool:
    """
    Whether an address is one of L{FAKE4} or L{FAKE6}.

    @param host: in its canonical text form.
    """
    return host.startswith(("198.19.", "fdfe:dcba:9876:1:"))


def mayDial(host: str) -> bool:
    """
    Whether an address that a name resolved to may be dialled from this machine.  The
    owner of a name can give it any address: nanotun's own, a loopback address, or a
    link-local one, where clouds serve their machines' keys (169.254.169.254).  An IPv6
    address that embeds an IPv4 address may be dialled if the IPv4 address may.

    @param host: a literal address.
    """
    address = ip_address(host)
    if not isUnicast(host) or address.is_loopback or address.is_link_local:
        return False
    if isinstance(address, IPv4Address):
        return address not in _CLOSED4
    if address.ipv4_mapped is not None or any(address in network for network in _CLOSED6):
        return False
    inner = innerAddress(address)
    return inner is None or mayDial(str(inner))


def innerAddress(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address embedded in a NAT64 or 6to4 (RFC 3056, section 2) address."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour
