"""
The page C{/metrics}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.http import FORBIDDEN, NOT_ALLOWED, NOT_FOUND, UNAUTHORIZED
from twisted.web.resource import Resource

from nanotun.httpd.guard import hasToken, namesAddress
from nanotun.httpd.site import answer, refuse

PATH = b"/metrics"

METHODS = (b"GET", b"HEAD")

#: Connections at a time.  A monitor needs one.
CONNECTION_LIMIT = 16

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
            return refuse(request, FORBIDDEN, "Ask for an address, or localhost, not for a name.")
        if not hasToken(request.getHeader(b"authorization"), self._token):
            headers.setRawHeaders(b"www-authenticate", [b"Bearer"])
            return refuse(request, UNAUTHORIZED, "Send the token: Authorization: Bearer TOKEN.")
        if request.method not in METHODS:
            headers.setRawHeaders(b"allow", [b", ".join(METHODS)])
            return refuse(request, NOT_ALLOWED, "Only GET and HEAD are answered.")
        if request.path != PATH:
            return refuse(request, NOT_FOUND, "There is nothing but /metrics.")
        accepted = request.getHeader(b"accept") or b""
        page, kind = self._write(accepted.decode("latin-1"))
        return answer(request, page, kind)
