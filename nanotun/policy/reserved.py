"""
The addresses that are not on the Internet, in one table.

Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190),
as of 2025: what they call not globally reachable, and the smaller networks inside of
those that are.  What they leave open (Teredo, 6to4) is on the Internet.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import NamedTuple

from nanotun.policy.networkmap import NetworkMap


class Reach(enum.Enum):
    """How far packets to an address may go."""

    HOST = "host"  #: Never out of the host that sends them.
    LINK = "link"  #: Never past a router.
    SITE = "site"  #: Within somebody's own networks.
    GLOBAL = "global"  #: Everywhere.


class Special(NamedTuple):
    """
    One row.

    @ivar name: as the registry calls it.
    """

    network: str
    name: str
    source: str
    reach: Reach

    def __str__(self) -> str:
        return f"{self.network} ({self.name}, {self.source})"


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
    Special("255.255.255.255/32", "limited broadcast", "RFC 8190", Reach.LINK),
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
    Special("fe80::/10", "link-local unicast", "RFC 4291", Reach.LINK),
)

_MAP = NetworkMap((special.network, special) for special in SPECIALS)


@lru_cache(maxsize=4096)
def specialOf(host: str) -> Special | None:
    """
    The row that an address falls under, the narrowest one; L{None} for all the rest,
    which is on the Internet.

    @param host: a literal address.
    """
    return _MAP.find(host)
