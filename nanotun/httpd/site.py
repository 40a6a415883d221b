"""
Sites of which a client can take no more than is good for the daemon.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

#: Seconds that a connection may be silent.  A monitor that asks less often connects anew.
IDLE_TIME = 75.0

TEXT = "text/plain; charset=utf-8"


def refuse(request: Any, status: int, sentence: str) -> bytes:
    """
    The answer to a request that gets nothing else.

    @return: the body, for L{Resource.render}.
    """
    request.setResponseCode(status)
    return answer(request, f"{sentence}\n".encode(), TEXT)


def answer(request: Any, body: bytes, kind: str) -> bytes:
    """
    An answer whose body is left out if only its head is wanted.

    @param kind: the body's type.
    @return: the body, for L{Resource.render}.
    """
    request.responseHeaders.setRawHeaders(b"content-type", [kind.encode()])
    if request.method != b"HEAD":
        return body
    request.responseHeaders.setRawHeaders(b"content-length", [b"%d" % len(body)])
    return b""


class BodilessRequest(Request):
    """A request whose body nobody reads; by default a large one becomes a file."""

    def gotLength(self, length: int | None) -> None:
        """See L{Request.gotLength}."""
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        """See L{Request.handleContentChunk}."""


class QuietSite(Site):
    """A site without a log of who has asked; Twisted would wake up each second for its clock."""

    noisy = False

    def __init__(
        self, root: IResource, clock: IReactorTime, makeRequest: type[Request] = BodilessRequest
    ) -> None:
        super().__init__(root, makeRequest, timeout=IDLE_TIME, reactor=clock)

    def startFactory(self) -> None:
        """See L{Site.startFactory}."""

    def stopFactory(self) -> None:
        """See L{Site.stopFactory}."""

    def log(self, request: Any) -> None:
        """See L{Site.log}."""


class FewConnections(WrappingFactory[Any]):
    """
    Closes the oldest connection when there are too many, so that whoever keeps some does not
    keep the others away.

    @param limit: connections at a time.
    """

    noisy = False

    def __init__(self, site: Site, limit: int) -> None:
        super().__init__(site)
        self._limit = limit
        # Those that are not being closed, the oldest first: a closed one stays in protocols
        # until the reactor's next turn, and many may come in one.
        self._kept: dict[ProtocolWrapper, None] = {}

    def registerProtocol(self, p: ProtocolWrapper) -> None:
        """See L{WrappingFactory.registerProtocol}."""
        super().registerProtocol(p)
        if not self.takes(p):
            p.abortConnection()
            return
        self._kept[p] = None
        if len(self._kept) > self._limit:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            oldest.abortConnection()

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        """See L{WrappingFactory.unregisterProtocol}."""
        super().unregisterProtocol(p)
        self._kept.pop(p, None)

    def takes(self, p: ProtocolWrapper) -> bool:
        """Whether a connection is kept; one that is not costs the others nothing."""
        return True

    def close(self) -> None:
        """Close them all."""
        for protocol in list(self.protocols):
            protocol.abortConnection()
