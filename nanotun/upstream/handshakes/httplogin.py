"""
Logging in to one HTTP proxy: Basic (RFC 7617) and Digest (RFC 7616).

What the proxy wants is found out once and remembered, so that later requests
carry their credentials from the start.  Before that::

    eager        first request     Basic
    not eager    first request     nothing: a proxy that offers Digest never
                                   gets to see the password
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

from nanotun.upstream.handshakes.challenge import Challenge
from nanotun.upstream.handshakes.digest import DigestChallenge, digestAnswer, digestChallenge


class Basic:
    """
    The password itself, with every request.

    @ivar stale: never.
    """

    stale = False

    def __init__(self, username: bytes, password: bytes) -> None:
        self._value = b"Basic " + base64.b64encode(username + b":" + password)

    def authorize(self, method: bytes, target: bytes) -> bytes:
        """The value of C{Proxy-Authorization} for one request."""
        return self._value


class Digest:
    """
    One nonce of the proxy's, good for many requests.

    @ivar stale: whether it replaces one that was only too old.
    """

    def __init__(
        self, challenge: DigestChallenge, username: bytes, password: bytes, cnonce: bytes
    ) -> None:
        self.stale = challenge.stale
        self._challenge = challenge
        self._username = username
        self._password = password
        self._cnonce = cnonce
        self._count = 0

    def authorize(self, method: bytes, target: bytes) -> bytes:
        """The value of C{Proxy-Authorization} for one request."""
        self._count += 1
        return digestAnswer(
            self._challenge,
            self._username,
            self._password,
            method,
            target,
            self._cnonce,
            self._count,
        )


class HttpLogin:
    """
    What all handshakes with one proxy share.

    @ivar method: what to authorize the next request with; L{None} for nothing.
    @param username: UTF-8, without a colon.
    @param password: UTF-8.
    @param makeCnonce: returns a random token that nobody can guess.
    @param eager: begin with Basic.
    """

    def __init__(
        self,
        username: bytes,
        password: bytes,
        makeCnonce: Callable[[], bytes],
        eager: bool = False,
    ) -> None:
        self._username = username
        self._password = password
        self._makeCnonce = makeCnonce
        self._basic = Basic(username, password)
        self._first = self._basic if eager else None
        self.method: Basic | Digest | None = self._first

    def choose(self, challenges: Sequence[Challenge]) -> Basic | Digest | None:
        """
        Take the best of what the proxy offers, for this request and those to
        come.

        @return: L{None} if all of it is unknown here.
        """
        digest = digestChallenge(challenges)
        if digest is not None:
            self.method = Digest(digest, self._username, self._password, self._makeCnonce())
        elif any(each.scheme == b"basic" for each in challenges):
            self.method = self._basic
        else:
            return None
        return self.method

    def forget(self) -> None:
        """The proxy did not accept the credentials; find out anew."""
        self.method = self._first
