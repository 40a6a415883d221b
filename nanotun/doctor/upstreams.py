"""
Checks that ask each proxy.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from zope.interface import implementer

from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.doctor.question import DnsQuestion
from nanotun.errors import (
    AuthenticationError,
    DatagramsUnsupported,
    HandshakeError,
    ProxyError,
    UpstreamError,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Connection,
    DatagramLeg,
    IHealthCheck,
    INamedDatagrams,
    IUpstream,
    LegKind,
    wrapDatagram,
)
from nanotun.upstream.datagramtrial import DatagramTrial, isDnsAnswer, payloadOf

#: An address that nobody has (RFC 5737), and a port that proxies do not forbid.
NOWHERE = Endpoint("192.0.2.1", 443)

#: What is wrong whatever the destination is; an HTTP proxy says so only when it hears of one.
_PROXY_FAULTS = (AuthenticationError, HandshakeError)


@implementer(ICheck)
class ProxyCheck:
    """
    Whether a proxy answers, accepts the log-in, connects and carries UDP, and whether it
    connects before it says that it has.

    @param upstream: provides both L{IUpstream} and L{IHealthCheck}.
    @param target: the destination that the proxy is to connect to; L{None} for none.
    @param server: the DNS server to ask through the proxy by UDP; L{None} if there is none
        whose address is known.
    @param question: what it is asked; any answer shows that UDP works.  L{None} without one.
    @param isProxy: whether it is one; C{direct://} and C{reject://} are not.
    @param makeIdent: returns a 16-bit ID for the query.
    @param cure: what to do if it cannot be reached; empty for nothing in particular.
    @param names: whether its UDP relay is to be sent names.
    @param name: of the check.
    @param via: the name of the upstream that it is dialled through; empty for none.
    """

    def __init__(
        self,
        upstream: Any,
        reactor: Any,
        target: Endpoint | None,
        server: Endpoint | None,
        question: DnsQuestion | None,
        isProxy: bool = True,
        makeIdent: Callable[[], int] = lambda: int.from_bytes(os.urandom(2), "big"),
        names: bool = False,
        cure: Callable[[], str] = lambda: "",
        name: str = "proxy",
        via: str = "",
    ) -> None:
        self.name = name
        self._via = via
        self._isProxy = isProxy
        self._cure = cure
        self._names = names
        self._health = IHealthCheck(upstream)
        self._upstream = IUpstream(upstream)
        self._reactor = reactor
        self._target = target
        self._server = server
        self._question = question
        self._makeIdent = makeIdent

    @inlineCallbacks
    def run(self) -> Any:
        """See L{ICheck.run}."""
        what = self._upstream.describe()
        try:
            yield self._health.check()
        except UpstreamError as error:
            # Others have answered and refused.
            cure = self._cure() if type(error) is ProxyError else ""
            return [Finding(self.name, Level.FAIL, str(error), cure)]
        found = [
            Finding(
                self.name,
                Level.OK,
                f"{what} answers, as far as that goes without a destination.",
            )
        ]
        # Together, since one after the other they may take longer than a check has.
        asked = []
        if self._isProxy:
            asked.append(self._connectNowhere())
        if self._target is not None:
            asked.append(self._connect(self._target))
        asked.append(self._datagram(what))
        # Both connections hear the same of a log-in that fails.
        found += dict.fromkeys((yield gatherResults(asked, consumeErrors=True)))
        named = INamedDatagrams(self._upstream, None) if self._names else None
        if named is not None and self._server is not None and found[-1].level is Level.OK:
            found.append((yield self._name(named, self._server)))
        return found

    @inlineCallbacks
    def _connectNowhere(self) -> Any:
        """Whether the proxy claims to have connected to what cannot be reached."""
        try:
            connection: Connection = yield self._upstream.connect(NOWHERE)
        except _PROXY_FAULTS as error:
            return Finding(self.name, Level.FAIL, str(error))
        except UpstreamError:
            return Finding(
                self.name, Level.OK, f"It does not claim to reach {NOWHERE.host}, which nobody has."
            )
        os.close(connection.fd)
        return Finding(
            self.name,
            Level.WARN,
            f"It claims to have connected to {NOWHERE}, an address that nobody has: it accepts "
            "before it connects.",
            "Nothing in nanotun can change that. Every port looks open through this proxy, a dead "
            "host looks like a server that hangs up, and apps do not fall back from IPv6 to IPv4; "
            "use another proxy where that matters.",
        )

    @inlineCallbacks
    def _name(self, named: Any, server: Endpoint) -> Any:
        try:
            leg: DatagramLeg = yield named.associateNamed(ip_address(server.host).version)
        except UpstreamError as error:
            return Finding(
                self.name,
                Level.INFO,
                str(error),
                "Names of UDP destinations are looked up by nanotun; set dnsVia: proxy to have "
                "that done through the proxy.",
            )
        os.close(leg.fd)
        if leg.control is not None:
            leg.control.close()
        return Finding(self.name, Level.OK, "Its UDP relay takes host names.")

    @inlineCallbacks
    def _connect(self, target: Endpoint) -> Any:
        try:
            connection: Connection = yield self._upstream.connect(target)
        except _PROXY_FAULTS as error:
            return Finding(self.name, Level.FAIL, str(error))
        except UpstreamError as error:
            return Finding(
                self.name,
                Level.FAIL,
                f"It does not connect to {target}: {error}",
                "Try another --target; if all fail, look at the proxy's rules.",
            )
        os.close(connection.fd)
        if connection.http is not None:
            text = f"It forbids CONNECT to {target}, and may take requests for it."
            return Finding(self.name, Level.INFO, text)
        return Finding(self.name, Level.OK, f"It connects to {target}.")

    @inlineCallbacks
    def _datagram(self, what: str) -> Any:
        if self._via:
            return Finding(
                self.name,
                Level.INFO,
                f"{what} is dialled through {self._via}, and a chain carries no UDP: apps hear so "
                "at once and take TCP; DNS goes by the relay.",
            )
        if not self._upstream.carriesDatagrams:
            return Finding(
                self.name,
                Level.INFO,
                f"{what} carries no UDP: apps hear so at once and take TCP; DNS goes by the relay.",
                "For UDP, use a socks5:// proxy that has UDP ASSOCIATE.",
            )
        server, question = self._server, self._question
        if server is None or question is None:
            return Finding(
                self.name,
                Level.INFO,
                "Whether UDP works was not tried, because no server of dns is given by address.",
            )
        family = ip_address(server.host).version
        try:
            leg: DatagramLeg = yield self._upstream.associate(family)
        except DatagramsUnsupported as error:
            return Finding(
                self.name,
                Level.WARN,
                f"It refuses UDP ASSOCIATE: {error}",
                "Allow it in the proxy's configuration; until then apps take TCP.",
            )
        except UpstreamError as error:
            return Finding(self.name, Level.WARN, f"UDP ASSOCIATE failed: {error}")
        if leg.control is not None:
            leg.control.watch(lambda why: None)
        try:
            yield self._ask(leg, server, question)
        except OSError as error:
            return Finding(
                self.name,
                Level.WARN,
                f"It grants a UDP relay, which cannot be reached ({error.strerror}).",
                "Look at the address that the proxy announces, and at firewalls before it.",
            )
        except Exception:
            return Finding(
                self.name,
                Level.WARN,
                f"It grants a UDP relay, but {server} did not answer through it.",
                "Open the proxy's UDP ports in the firewalls before it, or try another dns.",
            )
        finally:
            if leg.control is not None:
                leg.control.close()
        return Finding(self.name, Level.OK, f"UDP works: {server} answers through it.")

    def _ask(self, leg: DatagramLeg, server: Endpoint, question: DnsQuestion) -> Deferred[bytes]:
        sock = socket.socket(fileno=leg.fd)
        ident = self._makeIdent()
        query, isAnswer = question.query(ident), isDnsAnswer(ident)
        if leg.kind is LegKind.SOCKS5:
            whole = wrapDatagram(server, query)
            return DatagramTrial(
                self._reactor, sock, whole, lambda data: isAnswer(payloadOf(data))
            ).start()
        try:
            sock.connect(server)
        except OSError:
            sock.close()
            raise
        return DatagramTrial(self._reactor, sock, query, isAnswer).start()
