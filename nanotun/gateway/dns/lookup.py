"""
Looks names up for nanotun itself, through the relay's own servers and cache.

Never through the system's resolver: that may ask our relay, which with C{dnsMode: fake-ip}
would answer with the fake address that is to be looked up.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from nanotun.addresses import mayDial
from nanotun.errors import UpstreamError
from nanotun.flow import Flow, Known
from nanotun.gateway.dns.addresses import queryFor, readAddresses
from nanotun.gateway.dns.answered import NOTHING_KNOWN, AnsweredNames
from nanotun.gateway.dns.message import AAAA, NOERROR, NXDOMAIN, RCODE, A, readQuery
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.interfaces import INames


class Lookup:
    """
    Resolves names.

    @param relay: asks the servers, and gives no fake addresses.
    """

    def __init__(self, relay: DnsRelay) -> None:
        self._relay = relay

    def resolve(self, name: str, family: int) -> Deferred[list[str]]:
        """
        Look a name up.

        @param name: from L{nanotun.gateway.dns.addresses.nameText}.
        @param family: 4 or 6.
        @return: fires with the addresses that may be dialled, in the server's order, or with
            an empty list if the name has none.  Fails with L{UpstreamError} if the servers
            give no usable answer.
        """
        wire = queryFor(name, A if family == 4 else AAAA)
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

        # Each lookup is a client of its own: a client's repetition would get no answer.
        self._relay.query(wire, object(), reply, overTCP=True)
        return found


@implementer(INames)
class RealNames:
    """
    C{dnsMode: normal}: the names behind real addresses.  See L{INames}.

    @param answered: the names that the relay was asked for.
    @param isLocal: whether a literal address is one of this machine's; nobody else is given
        answers.
    """

    followsFlows = False

    def __init__(
        self,
        clock: IReactorTime,
        answered: AnsweredNames,
        lookup: Lookup,
        isLocal: Callable[[str], bool],
    ) -> None:
        self._clock = clock
        self._answered = answered
        self._lookup = lookup
        self._isLocal = isLocal

    def start(self) -> None:
        """Nothing to do."""

    def stop(self) -> None:
        """Nothing to do."""

    def isFake(self, host: str) -> bool:
        """See L{INames.isFake}."""
        return False

    def nameOf(self, host: str) -> str | None:
        """See L{INames.nameOf}."""
        return self._answered.find(host, self._clock.seconds())

    def namesOf(self, flow: Flow) -> Known:
        """See L{INames.namesOf}."""
        if not self._isLocal(flow.source.host):
            return NOTHING_KNOWN
        return self._answered.all(flow.destination.host, self._clock.seconds())

    def resolve(self, name: str, family: int) -> Deferred[list[str]]:
        """See L{INames.resolve}."""
        return self._lookup.resolve(name, family)

    def flowJoined(self, host: str) -> None:
        """Nothing to do: a real address stays its name's without flows."""

    def flowClosed(self, host: str) -> None:
        """Nothing to do."""
