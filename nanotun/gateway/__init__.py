"""
What answers on the virtual gateway: the DNS relay, by UDP and TCP.

Beside it stands L{nanotun.gateway.datagrams.DatagramServices}, where any other
datagram service of the gateway can listen.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from nanotun.flow import Datagram, Endpoint, Protocol
from nanotun.gateway.counters import Counters, GatewayStats
from nanotun.gateway.datagrams import DatagramServices, DnsDatagramProtocol
from nanotun.gateway.locality import Locality
from nanotun.gateway.relay import DnsRelay
from nanotun.gateway.streams import DnsStreams
from nanotun.gateway.ways import ServerWays
from nanotun.interfaces import IFlowRequest, IPacketEngine

__all__ = ["Gateway", "GatewayStats", "makeGateway"]

#: The port of DNS (RFC 1035, section 4.2).
DNS_PORT = 53

#: Bytes of cache for each answer that it may hold: most are far smaller.
CACHE_BYTES = 2048


class Gateway:
    """
    The gateway's services.

    @ivar services: where datagram services listen.
    """

    def __init__(
        self,
        engine: IPacketEngine,
        counters: Counters,
        ways: ServerWays,
        relay: DnsRelay,
        services: DatagramServices,
        streams: DnsStreams,
        locality: Locality,
    ) -> None:
        self.services = services
        self._engine = engine
        self._counters = counters
        self._ways = ways
        self._relay = relay
        self._streams = streams
        self._locality = locality

    def start(self) -> None:
        """
        Serve.  The engine has been started.

        @raise nanotun.errors.EngineError, OSError: as the engine says.
        """
        self._engine.receiveDatagrams(self.datagramsReceived)
        self.services.listenUDP(DNS_PORT, DnsDatagramProtocol(self._relay, self._locality))
        self._engine.listen(Protocol.TCP, DNS_PORT)

    def stop(self) -> None:
        """
        Give up every query and connection.  Before the engine stops; nothing is
        sent to it any more.
        """
        self.services.stop()
        self._streams.stop()
        self._relay.stop()
        self._ways.stop()

    def datagramsReceived(self, datagrams: list[Datagram]) -> None:
        """Datagrams for services, of which the engine told."""
        self.services.datagramsReceived(datagrams)

    def acceptStream(self, request: IFlowRequest) -> None:
        """Decide on a connection to the gateway's port 53.  Called by the router."""
        self._streams.acceptStream(request)

    def clearCache(self) -> None:
        """Forget every answer: the configuration, or the network, is another."""
        self._relay.clearCache()

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
    ways = ServerWays(reactor, servers, makeDatagram, makeStream, counters)
    relay = DnsRelay(reactor, ways, counters, cacheSize, cacheSize * CACHE_BYTES)
    locality = Locality(reactor.seconds)
    return Gateway(
        engine,
        counters,
        ways,
        relay,
        DatagramServices(reactor, engine, counters),
        DnsStreams(relay, locality, reactor),
        locality,
    )
