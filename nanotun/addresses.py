"""
The addresses and the mark that nanotun owns, named once.

198.18.0.0/15 is reserved for benchmarks (RFC 2544, section C.2.2) and
fdfe:dcba:9876::/48 is a unique local prefix (RFC 4193): neither is on the
Internet.  The gateway's addresses exist only inside the stack.  If the kernel
had them, it would answer for them itself, and a route by way of them would be
refused.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

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

#: Networks that no name leads out of: all that is ours, and IPv4-compatible
#: addresses, which are deprecated (RFC 4291, section 2.5.5.1).
_CLOSED4 = ip_network("198.18.0.0/15")
_CLOSED6 = (ip_network("fdfe:dcba:9876::/48"), ip_network("::/96"))

#: Has an IPv4 address in its last four bytes (RFC 6052, section 2.1).
_NAT64 = ip_network("64:ff9b::/96")

#: SO_MARK of every socket that nanotun opens, so that a rule can keep them out
#: of the tunnel.  "nt" in ASCII.
SOCKET_MARK = 0x6E74

#: The first and the last address of the device's network, which stand for all of
#: it (RFC 1122, section 3.2.1.3).
_NETWORK = ip_network(KERNEL4, strict=False)
BROADCASTS = (str(_NETWORK.network_address), str(_NETWORK.broadcast_address))


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
    Whether what a name was looked up as may be dialled from this machine.  Who
    owns a name can give it any address: ours, the loopback's, or one of the link,
    where clouds keep their machines' keys (169.254.169.254).  An IPv6 address that
    leads to an IPv4 address may be dialled if that may.

    @param host: a literal address.
    """
    address = ip_address(host)
    if not isUnicast(host) or address.is_loopback or address.is_link_local:
        return False
    if isinstance(address, IPv4Address):
        return address not in _CLOSED4
    if address.ipv4_mapped is not None or any(address in network for network in _CLOSED6):
        return False
    inner = _innerAddress(address)
    return inner is None or mayDial(str(inner))


def _innerAddress(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that one of NAT64 or of 6to4 (RFC 3056, section 2) leads to."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour
