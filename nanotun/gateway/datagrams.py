"""
Datagram services on the gateway's addresses: passes the engine's datagrams to Twisted's
L{DatagramProtocol}s.

A reply to the address that C{datagramReceived} was given is sent from the address that the
client had asked.  That need not be the gateway's: with C{dnsOverride} the port 53 of any
server is answered here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from nanotun.addresses import GATEWAY4, GATEWAY6
from nanotun.flow import Datagram, Endpoint, Flow, Protocol
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.interfaces import IPacketEngine
from nanotun.linux.locality import Locality
from nanotun.timer import Timer

#: The most bytes of payload: 65,535 less the headers of IPv4 and UDP.
LARGEST_DATAGRAM = 65507

#: Seconds between two looks at what a L{Strangers} is told of.  A flood of junk must not cost
#: a question to the kernel for each datagram.
LOOK_INTERVAL = 1.0


class ClientAddress(tuple[str, int]):
    """
    A client's host and port.

    @ivar asked: the address that the client sent its datagram to.
    """

    asked: Endpoint


@implementer(IUDPTransport)
class GatewayDatagramTransport:
    """The transport of the service on one port of the gateway's addresses."""

    def __init__(self, services: DatagramServices, protocol: DatagramProtocol, port: int) -> None:
        self.protocol = protocol
        self._services = services
        self._port = port

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        """
        See L{IUDPTransport.write}.

        @param addr: as C{datagramReceived} got it; or any pair of host and port, to which the
            packet is then sent from the gateway's own address.
        @raise ValueError: C{addr} is L{None}.
        @raise MessageLengthError: the packet is too long.
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
        """Not supported: a service answers every client."""
        raise RuntimeError("The gateway's transport cannot be connected.")

    def getHost(self) -> IPv4Address | IPv6Address:
        """See L{IUDPTransport.getHost}: the gateway's IPv4 address."""
        return IPv4Address("UDP", GATEWAY4, self._port)

    def stopListening(self) -> None:
        """See L{IUDPTransport.stopListening}."""
        self._services.remove(self._port, self)
        self.protocol.doStop()

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """Does nothing: the gateway has no broadcast."""

    def getBroadcastAllowed(self) -> bool:
        """Always false: the gateway has no broadcast."""
        return False


class DatagramServices:
    """
    Passes the engine's batches to the protocols that listen, and their datagrams to the
    engine.  Datagrams that are written while a batch is handled are sent together after the
    batch, and all others together in the next turn of the reactor.
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
        Let C{protocol} serve a port.  The engine has been started.

        @raise ValueError: another protocol serves this port.
        @raise nanotun.errors.EngineError, OSError: as the engine says.
        """
        if port in self._ports:
            raise ValueError(f"The gateway's UDP port {port} is served already.")
        transport = self._ports[port] = GatewayDatagramTransport(self, protocol, port)
        self._engine.listen(Protocol.UDP, port)
        protocol.makeConnection(transport)
        return transport

    def remove(self, port: int, transport: GatewayDatagramTransport) -> None:
        """Let a transport's protocol serve its port no more."""
        if self._ports.get(port) is transport:
            del self._ports[port]

    def datagramsReceived(self, datagrams: list[Datagram]) -> None:
        """Pass a batch on.  Called by the engine."""
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
        """Send a datagram, together with others."""
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
    A client of the relay by UDP.

    @ivar asked: the address that the query was sent to.  If a client sends one query to two
        servers, both must answer.
    """

    host: str
    port: int
    asked: Endpoint | None


class Strangers:
    """
    Tells of programs whose datagrams to port 53 are no DNS: the firewall, or C{dnsOverride},
    has redirected them, and nobody else would say why nothing comes back.

    @param seconds: the clock.
    @param originalOf: finds what a flow was before the firewall redirected it.
    @param report: called with a sentence.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        originalOf: Callable[[Flow], Flow | None],
        report: Callable[[str], object],
    ) -> None:
        self._seconds = seconds
        self._originalOf = originalOf
        self._report = report
        self._quietUntil = 0.0

    def note(self, source: Endpoint, asked: Endpoint) -> None:
        """A program has sent such a datagram to the gateway, or to another server."""
        now = self._seconds()
        if now < self._quietUntil:
            return
        self._quietUntil = now + LOOK_INTERVAL
        if asked.host in (GATEWAY4, GATEWAY6):
            original = self._originalOf(Flow(0, Protocol.UDP, source, asked))
            if original is None:
                # Whoever asks the gateway itself knows what it is.
                return
            source, asked = original.source, original.destination
        self._report(
            f"A program at {source.host} sends datagrams to port 53 of {asked.host} that are no "
            "DNS queries, and they are dropped; name the address in excludedIPs to have them sent "
            "there."
        )


class DnsDatagramProtocol(DatagramProtocol):
    """
    DNS by UDP, for this machine's apps.

    @param relay: answers the queries.
    @param locality: tells which addresses are this machine's; others get no answer.
    @param stranger: called with source and destination of a datagram that is no query.
    """

    noisy = False

    def __init__(
        self,
        relay: IAnswering,
        locality: Locality,
        stranger: Callable[[Endpoint, Endpoint], object] = lambda source, asked: None,
    ) -> None:
        self._relay = relay
        self._locality = locality
        self._stranger = stranger

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if not self._locality.isLocal(addr[0]):
            self._relay.counters.outside += 1
            return
        client = DnsClient(addr[0], addr[1], getattr(addr, "asked", None))
        reply = partial(self._reply, addr)
        counters = self._relay.counters
        malformed = counters.malformed
        self._relay.query(datagram, client, reply, largest=LARGEST_DATAGRAM)
        if counters.malformed > malformed and client.asked is not None:
            self._stranger(Endpoint(addr[0], addr[1]), client.asked)

    def _reply(self, addr: Any, answer: bytes) -> None:
        if self.transport is not None:
            self.transport.write(answer, addr)
