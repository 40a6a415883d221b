"""
The page C{/metrics}, and the site with nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.http import FORBIDDEN, NOT_ALLOWED, NOT_FOUND, UNAUTHORIZED
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from nanotun.metrics.guard import hasToken, namesAddress

PATH = b"/metrics"

METHODS = (b"GET", b"HEAD")

#: Connections at a time.  A monitor needs one.
CONNECTION_LIMIT = 16

#: Seconds that a connection may be silent.  A monitor that asks less often connects anew.
IDLE_TIME = 75.0

#: Writes the page: takes what the client accepts, and returns the page and its type.
Write = Callable[[str], tuple[bytes, str]]


class MetricsPage(Resource):
    """
    The page, for those who have the token.

    @param write: called for each answer.
    """

    isLeaf = True

    def __init__(self, token: str, write: Write) -> None:
        super().__init__()
        self._token = token
        self._write = write

    def render(self, request: Any) -> bytes:
        """See L{Resource.render}."""
        headers = request.responseHeaders
        headers.setRawHeaders(b"server", [b"nanotun"])
        headers.setRawHeaders(b"cache-control", [b"no-store"])
        headers.setRawHeaders(b"x-content-type-options", [b"nosniff"])
        if not namesAddress(request.getHeader(b"host")):
            return _refuse(request, FORBIDDEN, "Ask for an address, or localhost, not for a name.")
        if not hasToken(request.getHeader(b"authorization"), self._token):
            headers.setRawHeaders(b"www-authenticate", [b"Bearer"])
            return _refuse(request, UNAUTHORIZED, "Send the token: Authorization: Bearer TOKEN.")
        if request.method not in METHODS:
            headers.setRawHeaders(b"allow", [b", ".join(METHODS)])
            return _refuse(request, NOT_ALLOWED, "Only GET and HEAD are answered.")
        if request.path != PATH:
            return _refuse(request, NOT_FOUND, "There is nothing but /metrics.")
        accepted = request.getHeader(b"accept") or b""
        page, kind = self._write(accepted.decode("latin-1"))
        return _answer(request, page, kind)


def _refuse(request: Any, status: int, sentence: str) -> bytes:
    request.setResponseCode(status)
    return _answer(request, f"{sentence}\n".encode(), "text/plain; charset=utf-8")


def _answer(request: Any, body: bytes, kind: str) -> bytes:
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


class MetricsSite(Site):
    """A site without a log of who has asked; Twisted would wake up each second for its clock."""

    noisy = False

    def __init__(self, page: MetricsPage, clock: IReactorTime) -> None:
        super().__init__(page, BodilessRequest, timeout=IDLE_TIME, reactor=clock)

    def startFactory(self) -> None:
        """See L{Site.startFactory}."""

    def stopFactory(self) -> None:
        """See L{Site.stopFactory}."""

    def log(self, request: Any) -> None:
        """See L{Site.log}."""


class FewConnections(WrappingFactory[Any]):
    """
    Closes the oldest connection when there are too many, so that whoever keeps some does not
    keep the monitor away.
    """

    noisy = False

    def registerProtocol(self, p: ProtocolWrapper) -> None:
        """See L{WrappingFactory.registerProtocol}."""
        super().registerProtocol(p)
        if len(self.protocols) > CONNECTION_LIMIT:
            next(iter(self.protocols)).abortConnection()

    def close(self) -> None:
        """Close them all."""
        for protocol in list(self.protocols):
            protocol.abortConnection()
