"""
The addresses and the mark that nanotun owns, named once.

198.18.0.0/15 is reserved for benchmarks (RFC 2544, section C.2.2) and
fdfe:dcba:9876::/48 is a unique local prefix (RFC 4193): neither is on the
Internet.  The gateway's addresses exist only inside the stack.  If the kernel
had them, it would answer for them itself, and a route by way of them would be
refused.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

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
    where clouds keep their machines' keys (169.254.169.254).

    @param host: a literal address.
    """
    address = ip_address(host)
    return not (
        not isUnicast(host)
        or address.is_loopback
        or address.is_link_local
        or getattr(address, "ipv4_mapped", None) is not None
        or host in (GATEWAY4, GATEWAY6)
        or isFake(host)
    )
