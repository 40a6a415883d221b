"""
An upstream by way of a proxy.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.errors import ProxyError, UpstreamError
from nanotun.flow import Connection, Endpoint
from nanotun.interfaces import IHandshake, IUpstream
from nanotun.proxyurl import ProxyURL
from nanotun.upstream.connector import Connector
from nanotun.upstream.protocol import UpstreamFactory
from nanotun.upstream.resolver import HostAddresses, SocketAddress
from nanotun.upstream.sockets import openStream


@implementer(IUpstream)
class ProxyUpstream:
    """
    Asks a proxy to connect.

    @param url: the proxy's.
    @param handshakeFor: makes the handshake for one destination.
    @param timeout: seconds for all steps together.
    """

    def __init__(
        self,
        url: ProxyURL,
        handshakeFor: Callable[[Endpoint], IHandshake],
        reactor: Any,
        timeout: float,
        makeStream: Callable[[int], Any] = openStream,
    ) -> None:
        self._name = str(url)
        self._handshakeFor = handshakeFor
        self._addresses = HostAddresses(reactor, url.host, url.port)
        self._connector = Connector(
            reactor,
            f"The proxy {self._name}",
            timeout,
            self._notReached,
            UpstreamFactory(self._name),
            makeStream,
        )

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{IUpstream.connect}."""
        return self._connector.open(self._addresses, self._handshakeFor(destination))

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        return self._name

    def _notReached(self, error: int, address: SocketAddress) -> UpstreamError:
        return ProxyError(
            f"The proxy {self._name} cannot be reached at {address.address[0]} "
            f"({os.strerror(error)}); check that it runs there."
        )
