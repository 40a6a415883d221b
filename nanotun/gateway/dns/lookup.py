"""
Names looked up for ourselves, by the relay's own servers and cache.

Never by the system's resolver: it may ask our relay, which with C{dnsMode: fake-ip}
would answer with the address that is to be looked up.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

from nanotun.addresses import mayDial
from nanotun.errors import UpstreamError
from nanotun.gateway.dns.addresses import packName, readAddresses
from nanotun.gateway.dns.answering import Answering
from nanotun.gateway.dns.message import AAAA, HEADER, IN, NOERROR, NXDOMAIN, RCODE, RD, A, readQuery


class Resolving(Protocol):
    """What L{Lookup.resolve} is to those who need it."""

    def resolve(self, name: str, family: int) -> Deferred[list[str]]:
        """See L{Lookup.resolve}."""


class Lookup:
    """
    @param relay: asks servers only.
    """

    def __init__(self, relay: Answering) -> None:
        self._relay = relay

    def resolve(self, name: str, family: int) -> Deferred[list[str]]:
        """
        Look a name up.

        @param name: from L{nanotun.gateway.dns.addresses.nameText}.
        @param family: 4 or 6.
        @return: fires with the addresses that may be dialled, in the server's order:
            none if the name has none.  Fails with L{UpstreamError} if that
            cannot be found out.
        """
        kind = A if family == 4 else AAAA
        question = packName(name) + kind.to_bytes(2, "big") + IN.to_bytes(2, "big")
        wire = HEADER.pack(0, RD, 1, 0, 0, 0) + question
        found: Deferred[list[str]] = Deferred()

        def reply(answer: bytes) -> None:
            rcode = answer[3] & RCODE
            if rcode not in (NOERROR, NXDOMAIN):
                found.errback(
                    UpstreamError(
                        f"The name {name} cannot be looked up (DNS error {rcode}); check that "
                        "the dns servers answer."
                    )
                )
                return
            addresses, _ = readAddresses(answer, readQuery(wire))
            found.callback([address for address in addresses if mayDial(address)])

        # Each lookup is a client: a repetition would not be answered.
        self._relay.query(wire, object(), reply, overTCP=True)
        return found
