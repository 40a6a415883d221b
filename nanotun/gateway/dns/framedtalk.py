"""
Plain DNS on one connection, without I/O: over TCP, and inside TLS.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from zope.interface import implementer

from nanotun.gateway.dns.interfaces import ITalk
from nanotun.gateway.dns.talks import Heard

#: Queries under way on one connection at most; no server works on more at a time, and they
#: leave ids enough.
PIPELINE_LIMIT = 1000


@implementer(ITalk)
class FramedTalk:
    """
    Plain DNS: two bytes of length before each message (RFC 7766, section 8; inside TLS RFC 7858,
    section 3.3).  The key of a query is its id.

    @param makeIdent: gives two random bytes.
    """

    greeted = True
    lacking = ""
    final = over = False

    def __init__(self, makeIdent: Callable[[], bytes]) -> None:
        self._makeIdent = makeIdent
        self._incoming = bytearray()
        self._outgoing: list[bytes] = []
        self._taken: set[Hashable] = set()

    @property
    def room(self) -> int:
        """See L{ITalk}."""
        return PIPELINE_LIMIT - len(self._taken)

    def begin(self) -> None:
        """See L{ITalk.begin}.  The first message is a query."""

    def send(self, wire: bytes) -> bytes:
        """See L{ITalk.send}."""
        ident = self._makeIdent()
        while ident in self._taken:
            ident = self._makeIdent()
        self._taken.add(ident)
        self._outgoing.append(len(wire).to_bytes(2, "big") + ident + wire[2:])
        return ident

    def forget(self, key: Hashable) -> None:
        """See L{ITalk.forget}."""
        self._taken.discard(key)

    def receive(self, data: bytes) -> list[Heard]:
        """See L{ITalk.receive}.  Everything is well formed here."""
        incoming = self._incoming
        incoming += data
        found = []
        place, size = 0, len(incoming)
        while size - place >= 2:
            end = place + 2 + (incoming[place] << 8 | incoming[place + 1])
            if end > size:
                break
            message = bytes(incoming[place + 2 : end])
            found.append(Heard(message[:2], message))
            place = end
        del incoming[:place]
        return found

    def ended(self) -> str:
        """See L{ITalk.ended}."""
        return "closed the connection in the middle of an answer" if self._incoming else ""

    def outgoing(self) -> bytes:
        """See L{ITalk.outgoing}."""
        found = b"".join(self._outgoing)
        self._outgoing.clear()
        return found
