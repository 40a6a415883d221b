"""
Turns a socket that we have into a Twisted connection.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol


class GivenFactory(Factory):
    """Hands C{adoptStreamConnection} a protocol that already exists."""

    noisy = False

    def __init__(self, made: Protocol) -> None:
        self._made = made

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self._made


def adopt(reactor: Any, descriptor: int, protocol: Protocol) -> None:
    """
    Have a protocol speak on a connection.

    @param descriptor: owned from here.
    @raise OSError: the connection has ended already.
    """
    # A proxy may be behind a unix socket, and of another family than the server.
    made = socket.socket(fileno=descriptor)
    try:
        # The reactor adopts a duplicate, so our descriptor is closed.
        reactor.adoptStreamConnection(made.fileno(), made.family, GivenFactory(protocol))
    finally:
        made.close()
