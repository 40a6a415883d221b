"""
The engine's datagrams as Twisted sees datagrams: any L{DatagramProtocol} can be a
service of the gateway.

A reply written to the address that C{datagramReceived} was given goes out from
the address that was asked, which need not be the gateway's: with C{dnsOverride}
any server's port 53 is answered here.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from nanotun.addresses import GATEWAY4, GATEWAY6
from nanotun.flow import Datagram, Endpoint, Protocol
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.interfaces import IPacketEngine
from nanotun.linux.locality import Locality
from nanotun.timer import Timer

#: Bytes of payload: 65,535 less the headers of IPv4 and UDP.
LARGEST_DATAGRAM = 65507


class ClientAddress(tuple[str, int]):
    """
    A client's host and port.

    @ivar asked: the address that it sent to.
    """

    asked: Endpoint


@implementer(IUDPTransport)
class GatewayDatagramTransport:
    """One port of the gateway's addresses."""

    def __init__(self, services: DatagramServices, protocol: DatagramProtocol, port: int) -> None:
        self.protocol = protocol
        self._services = services
        self._port = port

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        """
        See L{IUDPTransport.write}.

        @param addr: as C{datagramReceived} got it, or any pair of host and port,
            which is then sent to from the gateway.
        """
        if addr is None:
            raise ValueError("The gateway's transport is not connected; pass an address.")
        if len(packet) > LARGEST_DATAGRAM:
            raise MessageLengthError("A datagram has at most 65507 bytes.")
        asked = getattr(addr, "asked", None)
        if asked is None:
            asked = Endpoint(GATEWAY6 if ":" in addr[0] else GATEWAY4, self._port)
        self._services.send(Datagram(asked, Endpoint(addr[0], addr[1]), packet))

    def connect(self, host: str, port: int) -> None:
        """Not for a service, which answers everybody."""
        raise RuntimeError("The gateway's transport cannot be connected.")

    def getHost(self) -> IPv4Address | IPv6Address:
        """See L{IUDPTransport.getHost}: the gateway's IPv4 address."""
        return IPv4Address("UDP", GATEWAY4, self._port)

    def stopListening(self) -> None:
        """See L{IUDPTransport.stopListening}."""
        self._services.remove(self._port, self)
        self.protocol.doStop()

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """See L{IUDPTransport.setBroadcastAllowed}: there is none."""

    def getBroadcastAllowed(self) -> bool:
        """See L{IUDPTransport.getBroadcastAllowed}."""
        return False


class DatagramServices:
    """
    Takes the engine's batches to the protocols that listen, and their datagrams
    to the engine: those written while a batch is handled at its end, later ones
    together at the end of the reactor's turn.
    """

    _log = Logger()

    def __init__(self, reactor: Any, engine: IPacketEngine, counters: Counters) -> None:
        self._engine = engine
        self._counters = counters
        self._ports: dict[int, GatewayDatagramTransport] = {}
        self._out: list[Datagram] = []
        self._inBatch = False
        self._timer = Timer(reactor, self._flush)

    def listenUDP(self, port: int, protocol: DatagramProtocol) -> GatewayDatagramTransport:
        """
        Let C{protocol} serve a port.  The engine runs.

        @raise ValueError: another protocol serves it.
        """
        if port in self._ports:
            raise ValueError(f"The gateway's UDP port {port} is served already.")
        transport = self._ports[port] = GatewayDatagramTransport(self, protocol, port)
        self._engine.listen(Protocol.UDP, port)
        protocol.makeConnection(transport)
        return transport

    def remove(self, port: int, transport: GatewayDatagramTransport) -> None:
        """Nothing serves this port any more."""
        if self._ports.get(port) is transport:
            del self._ports[port]

    def datagramsReceived(self, datagrams: list[Datagram]) -> None:
        """A batch came.  Called by the engine."""
        self._inBatch = True
        ports = self._ports
        for source, destination, payload in datagrams:
            transport = ports.get(destination.port)
            if transport is None:
                self._counters.unserved += 1
                continue
            address = ClientAddress(source)
            address.asked = destination
            try:
                transport.protocol.datagramReceived(payload, address)
            except Exception:
                self._log.failure("A datagram service failed; please report this.")
        self._inBatch = False
        self._flush()

    def send(self, datagram: Datagram) -> None:
        """Send, with others."""
        self._out.append(datagram)
        if not self._inBatch and not self._timer.active:
            self._timer.start(0)

    def stop(self) -> None:
        """Stop all services and send nothing more."""
        for transport in list(self._ports.values()):
            transport.stopListening()
        self._timer.cancel()
        self._out.clear()

    def _flush(self) -> None:
        if self._out:
            out, self._out = self._out, []
            self._engine.sendDatagrams(out)


class DnsClient(NamedTuple):
    """
    Who asks the relay by UDP.

    @ivar asked: the address that the query went to: of a client that asks two
        servers with one query, both are to answer.
    """

    host: str
    port: int
    asked: Endpoint | None


class DnsDatagramProtocol(DatagramProtocol):
    """DNS by UDP, for this machine's apps."""

    noisy = False

    def __init__(self, relay: IAnswering, locality: Locality) -> None:
        self._relay = relay
        self._locality = locality

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if not self._locality.isLocal(addr[0]):
            self._relay.counters.outside += 1
            return
        client = DnsClient(addr[0], addr[1], getattr(addr, "asked", None))
        reply = partial(self._reply, addr)
        self._relay.query(datagram, client, reply, largest=LARGEST_DATAGRAM)

    def _reply(self, addr: Any, answer: bytes) -> None:
        if self.transport is not None:
            self.transport.write(answer, addr)
