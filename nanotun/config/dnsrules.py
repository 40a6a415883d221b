"""
The check of C{dnsRules}: a list of mappings in, one L{DnsRule} for each out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nanotun.config.domains import Pattern

if TYPE_CHECKING:
    from nanotun.interfaces import DnsServer


class DnsAnswer(NamedTuple):
    """
    What the relay answers about a name by itself, without asking anybody.

    @ivar refused: whether it refuses to answer (RFC 1035, section 4.1.1, REFUSED).
    @ivar addresses: literal ones in their canonical form, each for queries of its family; if
        there are none, the name exists and has no data.
    """

    refused: bool = False
    addresses: tuple[str, ...] = ()


class DnsRule(NamedTuple):
    """
    One entry of C{dnsRules}: who answers for some names.

    @ivar domains: the names.
    @ivar servers: asked for these instead of those of C{dns}, in this order.
    @ivar answer: given at once; L{None} for none.
    @ivar fake: whether the names get fake addresses under fake-ip without being asked for first,
        so whether they exist or not.
    @ivar where: where it was written, such as C{"/etc/nanotun.yaml, line 14"}.
    """

    domains: tuple[Pattern, ...]
    servers: tuple[DnsServer, ...] = ()
    answer: DnsAnswer | None = None
    fake: bool = False
    where: str = ""
