"""
What answers on the virtual gateway: the DNS relay, by UDP and TCP.

Beside it stands L{nanotun.gateway.datagrams.DatagramServices}, where any other
datagram service of the gateway can listen.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from zope.interface import implementer

from nanotun.addresses import DNS_PORT
from nanotun.flow import Datagram, Endpoint, Protocol
from nanotun.gateway.datagrams import DatagramServices, DnsDatagramProtocol
from nanotun.gateway.dns.answered import AnsweredNames
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.counters import Counters, GatewayStats
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.lookup import Lookup, RealNames
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.fakeip.answers import FakeAnswers
from nanotun.gateway.fakeip.front import FakeDns, FakeIpNames
from nanotun.gateway.fakeip.pool import FakePool
from nanotun.gateway.fakeip.store import FakeStore
from nanotun.gateway.streams import DnsStreams
from nanotun.interfaces import IFlowRequest, IGateway, IPacketEngine
from nanotun.linux.locality import Locality

__all__ = ["Gateway", "GatewayStats", "NameOptions", "makeGateway"]

#: Bytes of cache for each answer that it may hold: most are far smaller.
CACHE_BYTES = 2048


class NameOptions(NamedTuple):
    """
    What becomes of names.

    @ivar noted: whether to remember what names the addresses handed out are of.
    @ivar faked: whether to hand out addresses that stand for names; L{noted} means
        nothing then.
    @ivar exclude: names that get real addresses all the same, with all below.
    @ivar real: names that do so themselves, and nothing below.
    @ivar stateFile: path of the file that keeps them; empty for none.
    @ivar flowHold: seconds that a flow needs its name for after its beginning.
    """

    noted: bool = False
    faked: bool = False
    exclude: tuple[str, ...] = ()
    real: tuple[str, ...] = ()
    stateFile: str = ""
    flowHold: float = 0.0


PLAIN_NAMES = NameOptions()


@implementer(IGateway)
class Gateway:
    """
    The gateway's services.

    @ivar names: what addresses stand for; a L{nanotun.router.named.Names}.
    @ivar services: where datagram services listen.
    """

    def __init__(
        self,
        engine: IPacketEngine,
        counters: Counters,
        relay: DnsRelay,
        answering: IAnswering,
        names: RealNames | FakeIpNames,
        services: DatagramServices,
        streams: DnsStreams,
        locality: Locality,
        makeQueries: Callable[[Sequence[Endpoint]], ServerQueries],
        fakes: FakeAnswers | None,
    ) -> None:
        self.names = names
        self._makeQueries = makeQueries
        self._fakes = fakes
        self.services = services
        self._engine = engine
        self._counters = counters
        self._relay = relay
        self._answering = answering
        self._streams = streams
        self._locality = locality

    def start(self) -> None:
        """
        Serve.  The engine has been started.

        @raise nanotun.errors.EngineError, OSError: as the engine says.
        """
        self._engine.receiveDatagrams(self.datagramsReceived)
        self.services.listenUDP(DNS_PORT, DnsDatagramProtocol(self._answering, self._locality))
        self._engine.listen(Protocol.TCP, DNS_PORT)
        # Last, as it cannot fail: a start that failed is not stopped.
        self.names.start()

    def stop(self) -> None:
        """
        Give up every query and connection.  Before the engine stops; nothing is
        sent to it any more.
        """
        self.services.stop()
        self._streams.stop()
        self._relay.stop()
        self.names.stop()

    def datagramsReceived(self, datagrams: list[Datagram]) -> None:
        """Datagrams for services, of which the engine told."""
        self.services.datagramsReceived(datagrams)

    def acceptStream(self, request: IFlowRequest) -> None:
        """Decide on a connection to the gateway's port 53.  Called by the router."""
        self._streams.acceptStream(request)

    def isLocal(self, host: str) -> bool:
        """See L{nanotun.interfaces.IGateway.isLocal}."""
        return self._locality.isLocal(host)

    def clearCache(self) -> None:
        """
        Forget every answer: the configuration, or the network, is another.  Fake
        addresses stay their names'.
        """
        self._relay.clearCache()

    def reconfigure(self, servers: Sequence[Endpoint], cacheSize: int) -> None:
        """
        Ask other servers, with another cache.  Queries under way go on as they were.

        @param servers: at least one, literal addresses.
        @param cacheSize: answers to keep, or 0.
        """
        self._relay.configure(self._makeQueries(servers), cacheSize, cacheSize * CACHE_BYTES)

    def setReal(self, names: tuple[str, ...]) -> None:
        """Have these names keep their real addresses: see L{NameOptions.real}."""
        if self._fakes is not None:
            self._fakes.setReal(names)

    def stats(self) -> GatewayStats:
        """What happened since the start."""
        return GatewayStats(
            **vars(self._counters),
            inFlight=self._relay.inFlight,
            openStreams=len(self._streams),
            cached=len(self._relay.cache),
            cachedBytes=self._relay.cache.size,
        )


def makeGateway(
    reactor: Any,
    engine: IPacketEngine,
    servers: Sequence[Endpoint],
    cacheSize: int,
    makeDatagram: Callable[[int], socket.socket],
    makeStream: Callable[[int], socket.socket],
    nameOptions: NameOptions = PLAIN_NAMES,
) -> Gateway:
    """
    Put the gateway together.  Opens nothing yet.

    @param servers: at least one, literal addresses.
    @param cacheSize: answers to keep, or 0.
    @param makeDatagram: C{AF_INET} or C{AF_INET6} to a UDP socket that is marked and
        non-blocking.
    @param makeStream: likewise to a TCP socket.
    """
    counters = Counters()

    def makeQueries(servers: Sequence[Endpoint]) -> ServerQueries:
        return ServerQueries(reactor, servers, makeDatagram, makeStream, counters)

    answered = AnsweredNames() if nameOptions.noted and not nameOptions.faked else None
    relay = DnsRelay(
        reactor,
        makeQueries(servers),
        counters,
        cacheSize,
        cacheSize * CACHE_BYTES,
        names=answered,
    )
    lookup = Lookup(relay)
    answering: IAnswering
    names: RealNames | FakeIpNames
    fakes: FakeAnswers | None = None
    if nameOptions.faked:
        pool, store = FakePool(), FakeStore(nameOptions.stateFile)
        fakes = FakeAnswers(pool, nameOptions.exclude)
        fakes.setReal(nameOptions.real)
        answering = FakeDns(reactor, fakes, relay)
        names = FakeIpNames(reactor, pool, store, lookup, nameOptions.flowHold)
    else:
        answering, names = relay, RealNames(reactor, answered, lookup)
    locality = Locality(reactor.seconds)
    return Gateway(
        engine,
        counters,
        relay,
        answering,
        names,
        DatagramServices(reactor, engine, counters),
        DnsStreams(answering, locality, reactor),
        locality,
        makeQueries,
        fakes,
    )
