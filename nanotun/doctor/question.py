"""
What a DNS server is asked for: a name that it can be expected to know.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from nanotun.addresses import isAddress
from nanotun.gateway.dns.message import NAME_LIMIT, PTR, A
from nanotun.upstream.datagramtrial import NS, dnsQuery


class DnsQuestion(NamedTuple):
    """
    A name, and the type of the records that are wanted.
    """

    name: str
    kind: int

    def query(self, ident: int) -> bytes:
        """The query with this ID."""
        return dnsQuery(ident, self.name.encode("ascii"), self.kind)


def questionFor(hosts: Iterable[str], address: str = "") -> DnsQuestion:
    """
    Choose what to ask a server for: the first of C{hosts} that is a name outside this
    machine's own network, as nanotun will ask for such names; else the server's own address.
    A private one is answered by the server itself (RFC 6303), and public servers have a name.

    @param hosts: names and addresses.
    @param address: a literal one of the server's; empty if none is known, so that it is asked for
        the servers of the root.
    """
    for host in hosts:
        name = _asciiName(host)
        if name:
            return DnsQuestion(name, A)
    if not address:
        return DnsQuestion(".", NS)
    return DnsQuestion(ip_address(address.partition("%")[0]).reverse_pointer, PTR)


def _asciiName(host: str) -> str:
    """
    The name as it is asked for, or an empty string if this is none, or one that is not asked of
    DNS servers: without a dot, or of a network of its own (RFC 6761, RFC 6762).
    """
    host = host.removesuffix(".")
    if isAddress(host) or "." not in host or host.endswith((".local", ".localhost")):
        return ""
    try:
        # The codec refuses labels that are empty or too long.
        name = host.encode("idna")
    except UnicodeError:
        return ""
    return name.decode() if len(name) + 2 <= NAME_LIMIT else ""
