"""
Where a SOCKS5 proxy's UDP relay really is.

The proxy gives its address in BND.ADDR and BND.PORT (RFC 1928, section 6).  Many give
the address that their own socket is bound to, which seen from here belongs to nobody
or to somebody else.
"""

from __future__ import annotations

import ipaddress

from nanotun.addresses import LOCAL_NETWORKS
from nanotun.errors import HandshakeError
from nanotun.flow import Endpoint

_LOCAL = tuple(map(ipaddress.ip_network, (*LOCAL_NETWORKS[4], *LOCAL_NETWORKS[6])))


def relayEndpoint(bound: Endpoint, proxyHost: str, proxy: str) -> Endpoint:
    """
    The address and port to send datagrams to, by the first rule that fits::

        bound to                              the relay is at
        port 0                                an error: there is no relay
        a name                                the proxy's own address
        0.0.0.0, ::, multicast, broadcast     the proxy's own address
        fe80::/10, which lacks its interface  the proxy's own address
        loopback                              as bound if the proxy is at a loopback
                                              address too, else the proxy's own
        a local network                       as bound if the proxy is on a local
                                              network or at loopback, since both may
                                              be reachable; else the proxy's own,
                                              which is that of its NAT
        anything else                         as bound

    @param bound: what the proxy gave.
    @param proxyHost: the address that the control connection is connected to.
    @param proxy: the proxy's URL without its password, for errors.
    @raise HandshakeError: the proxy gave no port.
    """
    if bound.port == 0:
        raise HandshakeError(
            f"The proxy {proxy} opened a UDP relay without a port; look at its configuration."
        )
    try:
        address = _plain(ipaddress.ip_address(bound.host))
    except ValueError:
        return Endpoint(proxyHost, bound.port)
    own = _plain(ipaddress.ip_address(proxyHost))
    if address.is_loopback:
        reached = own.is_loopback
    elif _isLocal(address):
        reached = own.is_loopback or own.is_link_local or _isLocal(own)
    else:
        reached = not (
            address.is_unspecified
            or address.is_multicast
            or address.is_link_local
            or address == ipaddress.IPv4Address("255.255.255.255")
        )
    return Endpoint(str(address) if reached else proxyHost, bound.port)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _plain(address: _Address) -> _Address:
    """The IPv4 address in an IPv4-mapped one (RFC 4291, section 2.5.5.2); others as they are."""
    return getattr(address, "ipv4_mapped", None) or address


def _isLocal(address: _Address) -> bool:
    return any(address in network for network in _LOCAL)
