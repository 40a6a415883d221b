"""
Who gets an answer, and who may change something.

Every user of this machine can connect to a loopback address, and every site that root's browser
shows can have it send requests there.  So each request needs the token, or the cookie that the
token gave, and says that it is meant for us; and one that changes something shows that it does
not come from another site's form.
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import Any

from nanotun.flow import Endpoint
from nanotun.httpd.guard import LOCALHOST, addressIn, hasToken

#: How long a browser keeps the cookie, in seconds: a day at work.
COOKIE_TIME = 12 * 3600

HEADERS = {
    b"server": b"nanotun",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; style-src 'self'; script-src 'self'; "
    b"connect-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; "
    b"base-uri 'none'",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
    # With no-referrer, a browser would not tell the origin of our own forms.
    b"referrer-policy": b"same-origin",
}


class WebGuard:
    """
    Judges requests.

    @ivar csrf: what the field C{csrf} of a form has to be.
    @param token: what opens the door.
    @param where: the literal address that is listened at; L{None} for a unix socket.
    """

    def __init__(self, token: str, where: Endpoint | None) -> None:
        self.csrf = _derived(token, "form")
        self._token = token
        self._value = _derived(token, "cookie")
        # A browser sends the cookies of an address to all its ports.
        self._name = "nanotun" if where is None else f"nanotun-{where.port}"
        self._address = None if where is None else ip_address(where.host)

    def isHost(self, host: bytes | None) -> bool:
        """
        Whether the header C{Host} has our address, with any port, as it may be forwarded.
        Where any address may be ours, any will do: only names can be made to lead here.
        """
        found, address = addressIn(host), self._address
        if found is None or address is None or address.is_unspecified:
            return found is not None
        if found == LOCALHOST:
            return address.is_loopback
        return ip_address(found) == address

    def isOurs(self, origin: bytes | None, host: bytes | None) -> bool:
        """
        Whether a request is from one of our own pages, or from no page.

        @param origin: the header C{Origin}.
        @param host: the header C{Host}.
        """
        return origin is None or origin.lower() == b"http://" + (host or b"").strip().lower()

    def isToken(self, given: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(given.encode(), self._token.encode())

    def knows(self, request: Any) -> bool:
        """Whether a request has the token, or the cookie."""
        return self.hasBearer(request) or hmac.compare_digest(
            request.getCookie(self._name.encode()) or b"", self._value.encode()
        )

    def hasBearer(self, request: Any) -> bool:
        """Whether it has the token in C{Authorization}, which no site can have a browser send."""
        return hasToken(request.getHeader(b"authorization"), self._token)

    def isMeant(self, request: Any, csrf: str) -> bool:
        """
        Whether a request that changes something comes from whom it seems to come from.

        @param csrf: the field of a form; empty for none.
        """
        if self.hasBearer(request) or request.getHeader(b"x-nanotun") == b"1":
            return True
        return hmac.compare_digest(csrf.encode(), self.csrf.encode())

    def giveCookie(self, request: Any) -> None:
        """Have the browser keep the cookie."""
        request.addCookie(
            self._name.encode(),
            self._value.encode(),
            path=b"/",
            max_age=b"%d" % COOKIE_TIME,
            httpOnly=True,
            sameSite=b"strict",
        )


def _derived(token: str, purpose: str) -> str:
    """A secret that does not give the token away."""
    return hmac.new(token.encode(), f"nanotun web {purpose}".encode(), "sha256").hexdigest()
