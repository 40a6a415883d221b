"""
Logging in to one HTTP proxy: C{Proxy-Authenticate} (RFC 9110, section 11), answered
with Basic (RFC 7617) or Digest (RFC 7616).

What the proxy wants is found out once and remembered, so that later requests carry
their credentials from the start.  The first request before that::

    eager        Basic
    not eager    nothing: a proxy that offers Digest never gets to see the password
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote_from_bytes

#: A token (RFC 9110, section 5.6.2), perhaps followed by C{=} and a token, a quoted
#: string or, from some servers, anything without a comma.
_ITEM = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)"
    rb'(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^",\t ]*)))?'
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

#: C{algorithm} in lower case to hashlib's name, and whether it is a session's.
ALGORITHMS = {
    b"md5": ("md5", False),
    b"md5-sess": ("md5", True),
    b"sha-256": ("sha256", False),
    b"sha-256-sess": ("sha256", True),
}


class Challenge(NamedTuple):
    """
    One way to log in that the proxy offers.

    @ivar scheme: in lower case.
    @ivar parameters: by name in lower case, without quotes.
    """

    scheme: bytes
    parameters: dict[bytes, bytes]


def parseChallenges(values: Iterable[bytes]) -> list[Challenge]:
    """
    Read all C{Proxy-Authenticate} fields of one answer.  Anything that is not
    understood is skipped: a better offer may follow.

    @param values: the fields' values, each a list with commas.
    @return: the challenges in the proxy's order, the most preferred first.
    """
    found: list[Challenge] = []
    for value in values:
        # A comma ends a parameter and a challenge alike; a name without '='
        # begins a challenge.
        begun = False
        for name, quoted, bare in _items(value):
            if bare is None and quoted is None:
                found.append(Challenge(name.lower(), {}))
                begun = True
            elif begun:
                text = bare if quoted is None else _ESCAPED.sub(rb"\1", quoted)
                found[-1].parameters.setdefault(name.lower(), text or b"")
    return found


def _items(value: bytes) -> Iterable[tuple[bytes, bytes | None, bytes | None]]:
    for match in _ITEM.finditer(value):
        yield match[1], match[2], match[3]


class DigestChallenge(NamedTuple):
    """
    A Digest challenge that can be answered.

    @ivar algorithm: as the proxy wrote it; empty if it named none.
    @ivar qop: whether C{qop=auth} is offered; without it, the proxy knows
        RFC 2069 only.
    @ivar stale: whether only the nonce was wrong.
    @ivar userhash: whether the user's name may be hashed.
    """

    realm: bytes
    nonce: bytes
    opaque: bytes | None
    algorithm: bytes
    qop: bool
    stale: bool
    userhash: bool


def digestChallenge(challenges: Iterable[Challenge]) -> DigestChallenge | None:
    """
    The first Digest challenge that can be answered, because the proxy prefers the first
    (RFC 7616, section 3.7); L{None} if none can.
    """
    for scheme, parameters in challenges:
        if scheme != b"digest" or b"nonce" not in parameters:
            continue
        algorithm = parameters.get(b"algorithm", b"")
        offered = [each.strip().lower() for each in parameters.get(b"qop", b"").split(b",")]
        if (algorithm.lower() or b"md5") in ALGORITHMS and (b"auth" in offered or offered == [b""]):
            return DigestChallenge(
                parameters.get(b"realm", b""),
                parameters[b"nonce"],
                parameters.get(b"opaque"),
                algorithm,
                b"auth" in offered,
                parameters.get(b"stale", b"").lower() == b"true",
                parameters.get(b"userhash", b"").lower() == b"true",
            )
    return None


def digestAnswer(
    challenge: DigestChallenge,
    username: bytes,
    password: bytes,
    method: bytes,
    target: bytes,
    cnonce: bytes,
    count: int,
) -> bytes:
    """
    The value of C{Proxy-Authorization}.

    @param target: the request's target as it is sent.
    @param cnonce: a random token, the same for all uses of one challenge, because a
        session's key is made with it once (RFC 7616, section 3.4.2).
    @param count: how many times the challenge has been used, this time included.
    """
    name, session = ALGORITHMS[challenge.algorithm.lower() or b"md5"]

    def digest(*parts: bytes) -> bytes:
        # The protocol prescribes these; a FIPS build allows MD5 only if told so.
        return hashlib.new(name, b":".join(parts), usedforsecurity=False).hexdigest().encode()

    realm, nonce = challenge.realm, challenge.nonce
    secret = digest(username, realm, password)
    if session:
        secret = digest(secret, nonce, cnonce)
    request = digest(method, target)
    if challenge.userhash:
        user = b"username=" + _quoted(digest(username, realm))
    elif all(0x20 <= byte < 0x7F for byte in username):
        user = b"username=" + _quoted(username)
    else:
        # RFC 7616, section 3.4.4, with RFC 8187's encoding.
        user = b"username*=UTF-8''" + quote_from_bytes(username, safe="").encode()
    fields = [user, b"realm=" + _quoted(realm), b"nonce=" + _quoted(nonce)]
    fields.append(b"uri=" + _quoted(target))
    if challenge.algorithm:
        fields.append(b"algorithm=" + challenge.algorithm)
    if challenge.opaque is not None:
        fields.append(b"opaque=" + _quoted(challenge.opaque))
    if challenge.qop:
        times = b"%08x" % count
        response = digest(secret, nonce, times, cnonce, b"auth", request)
        fields += (b"qop=auth", b"nc=" + times, b"cnonce=" + _quoted(cnonce))
    else:
        response = digest(secret, nonce, request)
        if session:
            fields.append(b"cnonce=" + _quoted(cnonce))
    fields.append(b"response=" + _quoted(response))
    if challenge.userhash:
        fields.append(b"userhash=true")
    return b"Digest " + b", ".join(fields)


def _quoted(text: bytes) -> bytes:
    return b'"%s"' % text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


class Basic:
    """
    Sends the password itself with every request.

    @ivar stale: always false.
    @ivar last: what the last request was authorized with.
    """

    stale = False

    def __init__(self, username: bytes, password: bytes) -> None:
        self.last = b"Basic " + base64.b64encode(username + b":" + password)

    def authorize(self, method: bytes, target: bytes) -> bytes:
        """The value of C{Proxy-Authorization} for one request."""
        return self.last


class Digest:
    """
    Answers with one nonce of the proxy, which is good for many requests.

    @ivar stale: whether the nonce replaces one that was merely too old.
    @ivar last: what the last request was authorized with.
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
        self.last = b""

    def authorize(self, method: bytes, target: bytes) -> bytes:
        """The value of C{Proxy-Authorization} for one request."""
        self._count += 1
        self.last = digestAnswer(
            self._challenge,
            self._username,
            self._password,
            method,
            target,
            self._cnonce,
            self._count,
        )
        return self.last


class HttpLogin:
    """
    The log-in to one proxy, which all handshakes with it share.

    @ivar method: authorizes the next request; L{None} to send no credentials.
    @param username: UTF-8, without a colon.
    @param password: UTF-8.
    @param makeCnonce: returns a random token that nobody can guess.
    @param eager: whether the first request is authorized with Basic.
    @param changed: called when L{method} becomes another one.
    """

    def __init__(
        self,
        username: bytes,
        password: bytes,
        makeCnonce: Callable[[], bytes],
        eager: bool = False,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._username = username
        self._password = password
        self._makeCnonce = makeCnonce
        self._basic = Basic(username, password)
        self._first = self._basic if eager else None
        self._changed = changed
        self.method: Basic | Digest | None = self._first

    def choose(self, challenges: Sequence[Challenge]) -> Basic | Digest | None:
        """
        Take the best method that the proxy offers, for this request and later ones.

        @return: L{None} if no method is known here.
        """
        digest = digestChallenge(challenges)
        if digest is not None:
            self._to(Digest(digest, self._username, self._password, self._makeCnonce()))
        elif any(each.scheme == b"basic" for each in challenges):
            self._to(self._basic)
        else:
            return None
        return self.method

    def reveals(self, text: bytes) -> bool:
        """Whether a text has the password in it, or what stands for it in a request."""
        secrets = [self._password, self._basic.last.removeprefix(b"Basic ").rstrip(b"=")]
        if self.method is not None:
            secrets.append(self.method.last)
        return any(secret and secret in text for secret in secrets)

    def forget(self) -> None:
        """Start over, because the proxy did not accept the credentials."""
        self._to(self._first)

    def _to(self, method: Basic | Digest | None) -> None:
        before, self.method = self.method, method
        if method is not before:
            self._changed()
