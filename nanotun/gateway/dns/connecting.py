"""
Turns a socket that we have into a Twisted connection.
"""

from __future__ import annotations

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol


class GivenFactory(Factory):
    """Hands C{adoptStreamConnection} a protocol that already exists."""

    noisy = False

    def __init__(self, made: Protocol) -> None:
        self._made = made

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self._made
